# The service's own rights are its owner's to add: attach them to the role in the output task_role_name.

data "aws_iam_policy_document" "assume" {
  statement {
    sid     = "EcsStartsTasks"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
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

  dynamic "statement" {
    for_each = length(var.secret_arns) == 0 ? [] : [values(var.secret_arns)]
    content {
      sid       = "HandSecretsToTheContainer"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = statement.value
    }
  }
}

# The agent has no role of its own: containers of a task share one.
data "aws_iam_policy_document" "metrics" {
  statement {
    sid       = "SendTheCountsOfEnvoy"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    # It knows no resource, but a namespace.
    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = ["AppMesh"]
    }
  }
}

resource "aws_iam_role_policy" "metrics" {
  count = length(local.metered)

  name   = "metrics"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.metrics.json
}

resource "aws_iam_role" "task" {
  name_prefix        = "${var.name}-task-"
  description        = "What ${var.name} may do"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
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
