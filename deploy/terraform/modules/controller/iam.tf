# What the daemon may do (task) and what ECS may do to start it (execution). Actions are those of docs/aws.md, one statement
# for each reason; tests/it/deploy/iam.rs compares them with the calls in the source.

data "aws_caller_identity" "this" {}

data "aws_partition" "this" {}

locals {
  clusters  = distinct([for workload in var.workloads : workload.cluster_arn])
  services  = distinct(flatten([for workload in var.workloads : workload.service_arns]))
  families  = distinct(flatten([for workload in var.workloads : workload.families]))
  roles     = distinct(flatten([for workload in var.workloads : workload.role_arns]))
  ecs       = "arn:${data.aws_partition.this.partition}:ecs:${local.region}:${data.aws_caller_identity.this.account_id}"
  revisions = [for family in local.families : "${local.ecs}:task-definition/${family}:*"]
  tasks     = [for arn in local.clusters : "${replace(arn, ":cluster/", ":task/")}/*"]
}

data "aws_iam_policy_document" "assume" {
  statement {
    sid     = "EcsStartsTasks"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    # Not on behalf of another account.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.this.account_id]
    }
  }
}

data "aws_iam_policy_document" "task" {
  statement {
    sid       = "SeeAndUpdateTheServicesOfReleases"
    actions   = ["ecs:DescribeServices", "ecs:UpdateService"]
    resources = local.services
  }

  # ECS knows no resource for these two.
  statement {
    sid       = "ReadRevisionsToMakeTheNextFrom"
    actions   = ["ecs:DescribeTaskDefinition", "ecs:ListTaskDefinitions"]
    resources = ["*"]
  }

  statement {
    sid       = "RegisterTheRevisionOfARelease"
    actions   = ["ecs:RegisterTaskDefinition"]
    resources = local.revisions
  }

  statement {
    sid       = "TagTheRevisionWhenItIsRegistered"
    actions   = ["ecs:TagResource"]
    resources = local.revisions

    condition {
      test     = "StringEquals"
      variable = "ecs:CreateAction"
      values   = ["RegisterTaskDefinition"]
    }
  }

  # ECS knows no resource for it either, but the cluster as a condition.
  statement {
    sid       = "FindTheTasksOfAService"
    actions   = ["ecs:ListTasks"]
    resources = ["*"]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = local.clusters
    }
  }

  statement {
    sid       = "SeeTheirHealthAndWhyTheyStopped"
    actions   = ["ecs:DescribeTasks"]
    resources = local.tasks
  }

  dynamic "statement" {
    # How many there are is known before they are made; how many differ is not.
    for_each = anytrue([for workload in var.workloads : length(workload.role_arns) > 0]) ? [true] : []
    content {
      sid       = "LetARevisionKeepItsRoles"
      actions   = ["iam:PassRole"]
      resources = local.roles

      condition {
        test     = "StringEquals"
        variable = "iam:PassedToService"
        values   = ["ecs-tasks.amazonaws.com"]
      }
    }
  }

  # CloudWatch and X-Ray know no resources for reading.
  dynamic "statement" {
    for_each = var.signals ? [true] : []
    content {
      sid       = "AskWhatGatesJudgeBy"
      actions   = ["cloudwatch:GetMetricData", "cloudwatch:DescribeAlarms", "xray:GetTraceSummaries", "xray:GetTraceGraph"]
      resources = ["*"]
    }
  }

  # For virtual nodes with `awsCloudMap`; Cloud Map knows no resources for this.
  statement {
    sid       = "FindInstancesInCloudMap"
    actions   = ["servicediscovery:DiscoverInstances"]
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = var.queue == null ? [] : [var.queue.arn]
    content {
      sid       = "ReadEventsOfPushes"
      actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"]
      resources = [statement.value]
    }
  }

  # The channels of ECS Exec have no resources.
  dynamic "statement" {
    for_each = var.enable_execute_command ? [true] : []
    content {
      sid = "OpenAShellByEcsExec"
      actions = [
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
      ]
      resources = ["*"]
    }
  }
}

data "aws_iam_policy_document" "execution" {
  # ECR knows no resource for it.
  statement {
    sid       = "LogInToEcr"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "PullTheImages"
    actions   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = var.image_repository_arns
  }

  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }

  statement {
    sid       = "HandSecretsToTheContainer"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = values(local.secrets)
  }

  dynamic "statement" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]
    content {
      sid       = "DecryptTheSecrets"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role" "task" {
  name_prefix        = "${var.name}-task-"
  description        = "What ${var.name} may do"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "task" {
  name   = "release"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.task.json
}

resource "aws_iam_role" "execution" {
  name_prefix        = "${var.name}-start-"
  description        = "What ECS may do to start ${var.name}"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "execution" {
  name   = "start"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}
