# What docs/operations.md calls worth an alert: rollouts that need a person, and the daemon or its database being away.

locals {
  namespace = "Tidegate/${var.name}"
  # Phases in which a rollout waits for somebody.
  waiting = {
    stuck  = "The mesh refuses the weights of the end of a rollout"
    paused = "A rollout is paused"
  }
}

resource "aws_cloudwatch_log_metric_filter" "waiting" {
  for_each = local.waiting

  name           = "${var.name}-${each.key}"
  log_group_name = aws_cloudwatch_log_group.this.name
  pattern        = "{ $.fields.message = \"rollout moved\" && $.fields.phase = \"${each.key}\" }"

  metric_transformation {
    namespace     = local.namespace
    name          = each.key
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "waiting" {
  for_each = local.waiting

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value}: tidegate rollout list"
  namespace           = local.namespace
  metric_name         = each.key
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "nobody_ready" {
  alarm_name          = "${var.name}-nobody-ready"
  alarm_description   = "No daemon is ready: nothing is released or rolled back. Traffic goes on by the last weights"
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HealthyHostCount"
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = 2
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  # No count at all is the same news.
  treat_missing_data = "breaching"
  alarm_actions      = var.alarm_topic_arns
  ok_actions         = var.alarm_topic_arns
  tags               = var.tags

  dimensions = {
    LoadBalancer = aws_lb.this.arn_suffix
    TargetGroup  = aws_lb_target_group.this.arn_suffix
  }
}

resource "aws_cloudwatch_metric_alarm" "database_space" {
  alarm_name          = "${var.name}-database-space"
  alarm_description   = "The database has less than 2 GiB left; without space nothing is decided"
  namespace           = "AWS/RDS"
  metric_name         = "FreeStorageSpace"
  statistic           = "Minimum"
  period              = 300
  evaluation_periods  = 2
  threshold           = 2 * 1024 * 1024 * 1024
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "missing"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags

  dimensions = {
    DBInstanceIdentifier = aws_db_instance.this.identifier
  }
}
