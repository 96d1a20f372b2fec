output "load_balancer_dns_name" {
  description = "Where the name in public_url has to lead."
  value       = aws_lb.this.dns_name
}

output "load_balancer_zone_id" {
  description = "Zone of that name, for an alias record."
  value       = aws_lb.this.zone_id
}

output "security_group_id" {
  description = "Group of the daemon's tasks; let it in where its health checks and proxies are."
  value       = aws_security_group.daemon.id
}

output "task_role_arn" {
  description = "Role of the daemon."
  value       = aws_iam_role.task.arn
}

output "service_name" {
  description = "Name of the ECS service."
  value       = aws_ecs_service.this.name
}

output "log_group_name" {
  description = "Where the daemon logs."
  value       = aws_cloudwatch_log_group.this.name
}
