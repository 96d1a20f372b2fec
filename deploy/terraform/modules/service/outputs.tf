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
