data "aws_region" "this" {}

locals {
  region   = data.aws_region.this.region
  api_port = 7070
  # 7072 is where Envoys of the mesh are configured, also in `tidegate local` where nothing else is said.
  mesh_ports = var.host_mesh == null ? {} : { api = 7071, xds = 7072 }
  log_options = {
    awslogs-group  = aws_cloudwatch_log_group.this.name
    awslogs-region = local.region
  }

  # The keys of the configuration file, as variables: src/config/keys.rs.
  environment = merge(
    {
      TIDEGATE_API_LISTEN         = "0.0.0.0:${local.api_port}"
      TIDEGATE_API_PUBLIC_URL     = var.public_url
      TIDEGATE_API_ADVERTISE_URL  = "http://{host}:${local.api_port}"
      TIDEGATE_AWS_REGION         = local.region
      TIDEGATE_DATABASE_URL       = local.database_url
      TIDEGATE_LOG                = var.log_level
      TIDEGATE_POLICIES_DIRECTORY = "/etc/tidegate/policies"
      TIDEGATE_TELEMETRY_PROXIES  = join(",", var.mesh.proxies)
    },
    var.queue == null ? {} : { TIDEGATE_QUEUE_URL = var.queue.url },
    local.mesh_environment,
  )

  # ECS puts these into the container; neither the task definition nor Terraform's state has their values.
  secrets = merge(
    { PGPASSWORD = aws_secretsmanager_secret.database.arn },
    { for source, arn in var.hook_secret_arns : "TIDEGATE_HOOK_SECRET_${upper(source)}" => arn },
    { for name, arn in var.chat_secret_arns : "TIDEGATE_${upper(name)}" => arn },
    { for name, key in local.mesh_keys : "TIDEGATE_MESH_KEY_SECRET_${upper(name)}" => aws_secretsmanager_secret.mesh_key[name].arn },
  )

  # A task that has the mesh in it must outlive the daemon, since traffic goes on without it.
  alone = length(var.companions) == 0

  daemon = merge(
    {
      name                   = "tidegate"
      image                  = var.image
      essential              = local.alone
      command                = ["serve", "--output", "json", "--config", "/etc/tidegate/tidegate.toml"]
      portMappings           = [for port in concat([local.api_port], values(local.mesh_ports)) : { containerPort = port, protocol = "tcp" }]
      environment            = [for name, value in local.environment : { name = name, value = value }]
      secrets                = [for name, arn in local.secrets : { name = name, valueFrom = arn }]
      readonlyRootFilesystem = !var.enable_execute_command
      # The daemon gives requests under way 10 s and then its lease back.
      stopTimeout = 30
      healthCheck = {
        command     = ["CMD", "tidegate", "health"]
        interval    = 10
        timeout     = 5
        retries     = 3
        startPeriod = 30
      }
      logConfiguration = {
        logDriver = "awslogs"
        options   = merge(local.log_options, { awslogs-stream-prefix = "tidegate" })
      }
    },
    local.alone ? {} : { restartPolicy = { enabled = true, restartAttemptPeriod = 60 } },
    local.alone ? {} : { dependsOn = local.healthy },
  )

  healthy = [
    for companion in var.companions : { containerName = companion.name, condition = "HEALTHY" }
    if contains(keys(companion), "healthCheck")
  ]

  companions = [
    for companion in var.companions : merge(
      {
        logConfiguration = {
          logDriver = "awslogs"
          options   = merge(local.log_options, { awslogs-stream-prefix = companion.name })
        }
      },
      companion,
    )
  ]
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  network_mode             = "awsvpc"
  requires_compatibilities = [var.launch_type]
  cpu                      = var.cpu
  memory                   = var.memory
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions    = jsonencode(concat([local.daemon], local.companions))
  tags                     = var.tags

  dynamic "volume" {
    for_each = var.host_volumes
    content {
      name      = volume.key
      host_path = volume.value
    }
  }
}

resource "aws_ecs_service" "this" {
  name                   = var.name
  cluster                = var.cluster_arn
  task_definition        = aws_ecs_task_definition.this.arn
  launch_type            = var.launch_type
  desired_count          = var.desired_count
  enable_execute_command = var.enable_execute_command
  propagate_tags         = "SERVICE"
  tags                   = var.tags

  # Companions hold state and a port of the instance's network: the old task ends before the new one begins.
  deployment_minimum_healthy_percent = local.alone ? 100 : 0
  deployment_maximum_percent         = local.alone ? 200 : 100
  # The first start makes the schema.
  health_check_grace_period_seconds = 60

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.daemon.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this.arn
    container_name   = local.daemon.name
    container_port   = local.api_port
  }

  dynamic "load_balancer" {
    for_each = local.mesh_ports
    content {
      target_group_arn = aws_lb_target_group.mesh[load_balancer.key].arn
      container_name   = local.daemon.name
      container_port   = load_balancer.value
    }
  }

  # A target group that no listener has refuses the service.
  depends_on = [aws_lb_listener.this, aws_lb_listener.mesh]
}
