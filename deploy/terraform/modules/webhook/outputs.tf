output "hook_secret_arns" {
  description = "Secrets by source: the controller's hook_secret_arns."
  value       = { for source, version in aws_secretsmanager_secret_version.hook : source => version.secret_id }
}

output "sender_policy_arns" {
  description = "Policies by source that let a pipeline's role read its secret."
  value       = { for source, policy in aws_iam_policy.sender : source => policy.arn }
}

output "queue" {
  description = "The queue of pushes: the controller's queue; null without repositories."
  value       = length(local.queues) == 0 ? null : one([for queue in aws_sqs_queue.push : { url = queue.url, arn = queue.arn }])
}
