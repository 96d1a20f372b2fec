locals {
  database_port = 5432
  database_user = "tidegate"
  # Without the password: the daemon takes it from PGPASSWORD.
  database_url = "postgres://${local.database_user}@${aws_db_instance.this.address}:${local.database_port}/${aws_db_instance.this.db_name}?sslmode=verify-full&sslrootcert=/etc/ssl/rds/global-bundle.pem"
}

# Made by Secrets Manager, handed on in memory, and in no state or plan. It is written when its version is raised.
ephemeral "aws_secretsmanager_random_password" "database" {
  password_length     = 40
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "database" {
  #checkov:skip=CKV2_AWS_57:rotation by a timer would change it under running tasks, which read it at their start
  name        = "${var.name}/database-password"
  description = "Password of ${var.name} at its database"
  kms_key_id  = var.kms_key_arn
  tags        = var.tags
}

resource "aws_secretsmanager_secret_version" "database" {
  secret_id                = aws_secretsmanager_secret.database.id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.database.random_password
  secret_string_wo_version = var.password_version
}

# Read back, so that the database gets what was stored even when an apply ended in between.
ephemeral "aws_secretsmanager_secret_version" "database" {
  secret_id = aws_secretsmanager_secret_version.database.secret_id
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.database_subnet_ids
  tags       = var.tags
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-"
  family      = "postgres${split(".", var.database.engine_version)[0]}"
  tags        = var.tags

  # Nobody talks to it in clear text.
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  # Statements that take this many milliseconds are logged; the daemon's take a few.
  parameter {
    name  = "log_min_duration_statement"
    value = "1000"
  }

  # Changes of the schema are logged.
  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_118:enhanced monitoring needs a role of its own; performance insights tell enough of a database this small
  #checkov:skip=CKV_AWS_161:the daemon logs in with a password, and a login that nobody uses is one to close
  identifier             = var.name
  engine                 = "postgres"
  engine_version         = var.database.engine_version
  instance_class         = var.database.instance_class
  allocated_storage      = var.database.allocated_storage
  max_allocated_storage  = var.database.max_allocated_storage
  storage_type           = "gp3"
  storage_encrypted      = true
  kms_key_id             = var.kms_key_arn
  db_name                = "tidegate"
  username               = local.database_user
  password_wo            = ephemeral.aws_secretsmanager_secret_version.database.secret_string
  password_wo_version    = var.password_version
  port                   = local.database_port
  multi_az               = var.multi_az
  publicly_accessible    = false
  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.database.id]
  parameter_group_name   = aws_db_parameter_group.this.name
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  auto_minor_version_upgrade      = true
  backup_retention_period         = var.backup_retention_days
  copy_tags_to_snapshot           = true
  deletion_protection             = var.deletion_protection
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]
  final_snapshot_identifier       = "${var.name}-last"
  performance_insights_enabled    = true
  performance_insights_kms_key_id = var.kms_key_arn
  tags                            = var.tags
}
