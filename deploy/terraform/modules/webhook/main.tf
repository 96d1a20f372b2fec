# Made by Secrets Manager, handed on in memory, and in no state or plan.
ephemeral "aws_secretsmanager_random_password" "hook" {
  for_each = var.sources

  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "hook" {
  #checkov:skip=CKV2_AWS_57:a sender outside of AWS has to be told the new one, which no timer does
  for_each = var.sources

  name        = "${var.name}/hook-${each.key}"
  description = "Secret of /v1/hooks/${each.key}"
  kms_key_id  = var.kms_key_arn
  tags        = var.tags
}

resource "aws_secretsmanager_secret_version" "hook" {
  for_each = var.sources

  secret_id                = aws_secretsmanager_secret.hook[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.hook[each.key].random_password
  secret_string_wo_version = var.secret_version
}

# What a pipeline needs to sign its deliveries.
data "aws_iam_policy_document" "sender" {
  for_each = var.sources

  statement {
    sid       = "SignDeliveries"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.hook[each.key].arn]
  }
}

resource "aws_iam_policy" "sender" {
  for_each = var.sources

  name_prefix = "${var.name}-hook-${each.key}-"
  description = "Lets a pipeline read the secret of /v1/hooks/${each.key}"
  policy      = data.aws_iam_policy_document.sender[each.key].json
  tags        = var.tags
}
