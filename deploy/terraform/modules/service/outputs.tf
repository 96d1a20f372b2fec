output "workload" {
  description = "What the daemon may release here: an entry of the controller's workloads."
  value = {
    cluster_arn  = var.cluster_arn
    service_arns = [for service in aws_ecs_service.slot : service.arn]
    families     = [for definition in aws_ecs_task_definition.slot : definition.family]
    role_arns    = [aws_iam_role.task.arn, aws_iam_role.execution.arn]
  }
}

output "ecs" {
  description = "`workload.ecs` of a policy."
  value = {
    cluster   = local.cluster_name
    services  = { for slot, node in var.slots : node => local.services[slot] }
    container = local.app
  }
}

output "task_role_name" {
  description = "Role of the service's tasks, for its owner to add rights to."
  value       = aws_iam_role.task.name
}

output "security_group_id" {
  description = "Group of the tasks."
  value       = aws_security_group.this.id
}

output "gateway_dns_name" {
  description = "Where the names that clients outside of the mesh know have to lead; null without a gateway."
  value       = one(module.gateway[*].load_balancer_dns_name)
}

output "gateway_zone_id" {
  description = "Zone of that name, for an alias record; null without a gateway."
  value       = one(module.gateway[*].load_balancer_zone_id)
}

output "gateway_load_balancer_arn" {
  description = "The gateway's load balancer, for a firewall (WAF) or alarms of your own; null without a gateway."
  value       = one(module.gateway[*].load_balancer_arn)
}

output "gateway_security_group_id" {
  description = "Group of the gateway's tasks, for other services that its routes lead to; null without a gateway."
  value       = one(module.gateway[*].security_group_id)
}
