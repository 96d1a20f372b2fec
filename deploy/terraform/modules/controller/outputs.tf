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

output "mesh_load_balancer" {
  description = "Where the name in host_mesh.certificate_arn has to lead: dns_name and zone_id; null without a mesh of the daemon's own. The App Mesh API is at https://NAME:7071, xDS at NAME:7072."
  value       = var.host_mesh == null ? null : { dns_name = aws_lb.mesh[0].dns_name, zone_id = aws_lb.mesh[0].zone_id }
}

output "mesh_key_secret_arns" {
  description = "Secrets of the access keys (AWS_SECRET_ACCESS_KEY), by their names."
  value       = { for name, secret in aws_secretsmanager_secret.mesh_key : name => secret.arn }
}

output "mesh_token_secret_arns" {
  description = "The same as TIDEGATE_TOKEN of sidecars, ID:SECRET."
  value       = { for name, secret in aws_secretsmanager_secret.mesh_token : name => secret.arn }
}
