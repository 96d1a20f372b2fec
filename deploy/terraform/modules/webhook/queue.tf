# Pushes to ECR by way of EventBridge and a queue, as docs/TRIGGERS.md has it: for a daemon without a public address.

locals {
  queues = length(var.repositories) == 0 ? {} : { pushes = var.repositories }
}

resource "aws_cloudwatch_event_rule" "push" {
  for_each = local.queues

  name        = var.name
  description = "Images pushed to ${join(", ", each.value)}"
  tags        = var.tags
  event_pattern = jsonencode({
    source      = ["aws.ecr"]
    detail-type = ["ECR Image Action"]
    detail = {
      action-type     = ["PUSH"]
      result          = ["SUCCESS"]
      repository-name = each.value
    }
  })
}

resource "aws_sqs_queue" "push" {
  for_each = local.queues

  name                    = var.name
  sqs_managed_sse_enabled = true
  tags                    = var.tags
  # A daemon that was away this long begins no release by what it missed.
  message_retention_seconds = 4 * 60 * 60
}

data "aws_iam_policy_document" "queue" {
  for_each = local.queues

  # The queue's policy is the proof of who sent an event: nobody else may.
  statement {
    sid       = "OnlyTheRuleSends"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.push[each.key].arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.push[each.key].arn]
    }
  }
}

resource "aws_sqs_queue_policy" "push" {
  for_each = local.queues

  queue_url = aws_sqs_queue.push[each.key].id
  policy    = data.aws_iam_policy_document.queue[each.key].json
}

resource "aws_cloudwatch_event_target" "push" {
  for_each = local.queues

  rule      = aws_cloudwatch_event_rule.push[each.key].name
  target_id = var.name
  arn       = aws_sqs_queue.push[each.key].arn
}
