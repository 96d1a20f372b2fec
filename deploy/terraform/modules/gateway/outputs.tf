output "load_balancer_dns_name" {
  description = "Where the names that clients know have to lead."
  value       = aws_lb.this.dns_name
}

output "load_balancer_zone_id" {
  description = "Zone of that name, for an alias record."
  value       = aws_lb.this.zone_id
}

output "load_balancer_arn" {
  description = "The load balancer, for a firewall (WAF) or alarms of your own."
  value       = aws_lb.this.arn
}

output "security_group_id" {
  description = "Group of the gateway's tasks; let it in at every service that its routes lead to."
  value       = aws_security_group.envoy.id
}
