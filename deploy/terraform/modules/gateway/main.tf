# Envoy by itself as a virtual gateway of a mesh, whose listener and routes module mesh makes.

data "aws_region" "this" {}

locals {
  region     = data.aws_region.this.region
  resource   = "mesh/${var.mesh_name}/virtualGateway/${var.virtual_gateway}"
  admin_port = 9901
  # The admin port is for the health check alone: clients' requests go to the target group's port and to no other.
  doors = {
    "Requests"     = var.port
    "Health check" = local.admin_port
  }
  # Envoy's first configuration and the log of its admin interface are written there.
  written = var.read_only_root ? { scratch = "/tmp" } : {}

  # No user and no proxy configuration: App Mesh wants neither for a gateway, since no traffic of a task is redirected.
  envoy = {
    name         = "envoy"
    image        = var.image
    essential    = true
    portMappings = [{ containerPort = var.port, protocol = "tcp" }]
    environment = [
      { name = "APPMESH_RESOURCE_ARN", value = local.resource },
      { name = "APPMESH_XDS_ENDPOINT", value = var.xds_endpoint },
    ]
    mountPoints            = [for volume, path in local.written : { sourceVolume = volume, containerPath = path, readOnly = false }]
    readonlyRootFilesystem = var.read_only_root
    # App Mesh's image lets requests under way end for 20 s.
    stopTimeout = 30
    # As App Mesh documented it for its image.
    healthCheck = {
      command     = ["CMD-SHELL", "curl -s http://localhost:${local.admin_port}/server_info | grep state | grep -q LIVE"]
      interval    = 5
      timeout     = 2
      retries     = 3
      startPeriod = 10
    }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = local.region
        awslogs-stream-prefix = var.name
      }
    }
  }
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
  requires_compatibilities = ["FARGATE"]
  cpu                      = var.cpu
  memory                   = var.memory
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions    = jsonencode([local.envoy])
  tags                     = var.tags

  dynamic "volume" {
    for_each = local.written
    content {
      name = volume.key
    }
  }
}

# Unlike the slots it is Terraform's alone: no release changes it.
resource "aws_ecs_service" "this" {
  name            = var.name
  cluster         = var.cluster_arn
  task_definition = aws_ecs_task_definition.this.arn
  launch_type     = "FARGATE"
  desired_count   = var.desired_count
  propagate_tags  = "SERVICE"
  tags            = var.tags

  # Until the control plane has sent the first configuration.
  health_check_grace_period_seconds = 60

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.envoy.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this.arn
    container_name   = local.envoy.name
    container_port   = var.port
  }

  # A target group that no listener has refuses the service, and without its right Envoy gets no configuration.
  depends_on = [aws_lb_listener.https, aws_iam_role_policy.task, aws_iam_role_policy.execution]
}
