data "aws_region" "this" {}

locals {
  region = data.aws_region.this.region
  meshed = var.sidecar == null ? [] : [var.sidecar]
  app    = "app"
  envoy  = "envoy"
  # The agent beside Envoy, which takes its counts; none without a sidecar either.
  metered  = [for sidecar in local.meshed : sidecar.metrics if sidecar.metrics != null]
  services = { for slot in keys(var.slots) : slot => "${var.name}-${slot}" }
  nodes    = { for slot, node in var.slots : slot => "mesh/${var.mesh_name}/virtualNode/${node}" }

  log_configuration = {
    logDriver = "awslogs"
    options = {
      awslogs-group         = aws_cloudwatch_log_group.this.name
      awslogs-region        = local.region
      awslogs-stream-prefix = var.name
    }
  }

  apps = {
    for slot, node in local.nodes : slot => merge(
      {
        name         = local.app
        image        = var.image
        essential    = true
        portMappings = [{ containerPort = var.container_port, protocol = "tcp" }]
        environment = [
          for name, value in merge(var.environment, { APPMESH_VIRTUAL_NODE_NAME = node }) : { name = name, value = value }
        ]
        secrets                = [for name, arn in var.secret_arns : { name = name, valueFrom = arn }]
        readonlyRootFilesystem = var.read_only_root
        logConfiguration       = local.log_configuration
      },
      var.sidecar == null ? {} : { dependsOn = [{ containerName = local.envoy, condition = "HEALTHY" }] },
    )
  }

  # Its user, ports and health check are those that App Mesh documented for its image.
  envoys = {
    for slot, node in local.nodes : slot => [
      for sidecar in local.meshed : {
        name      = local.envoy
        image     = sidecar.image
        essential = true
        user      = "1337"
        environment = concat(
          [
            { name = "APPMESH_VIRTUAL_NODE_NAME", value = node },
            { name = "APPMESH_XDS_ENDPOINT", value = sidecar.xds_endpoint },
          ],
          [for name in ["ENABLE_ENVOY_STATS_TAGS", "ENABLE_ENVOY_DOG_STATSD"] : { name = name, value = "1" } if length(local.metered) > 0],
        )
        healthCheck = {
          command     = ["CMD-SHELL", "curl -s http://localhost:9901/server_info | grep state | grep -q LIVE"]
          interval    = 5
          timeout     = 2
          retries     = 3
          startPeriod = 10
        }
        logConfiguration = local.log_configuration
      }
    ]
  }
}

locals {
  # Traffic goes on without it.
  agents = [
    for image in local.metered : {
      name             = "cloudwatch-agent"
      image            = image
      essential        = false
      environment      = [{ name = "CW_CONFIG_CONTENT", value = file("${path.module}/../../../cloudwatch/agent.json") }]
      logConfiguration = local.log_configuration
    }
  ]
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

# A family for each slot, since the sidecar names its virtual node in it. Tidegate registers further revisions.
resource "aws_ecs_task_definition" "slot" {
  for_each = var.slots

  family                   = local.services[each.key]
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  cpu                      = var.cpu
  memory                   = var.memory
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions    = jsonencode(concat([local.apps[each.key]], local.envoys[each.key], local.agents))
  tags                     = var.tags

  dynamic "proxy_configuration" {
    for_each = local.meshed
    content {
      type           = "APPMESH"
      container_name = local.envoy
      properties = {
        AppPorts         = tostring(var.container_port)
        EgressIgnoredIPs = "169.254.170.2,169.254.169.254"
        IgnoredUID       = "1337"
        ProxyEgressPort  = "15001"
        ProxyIngressPort = "15000"
      }
    }
  }
}

resource "aws_service_discovery_service" "slot" {
  for_each = var.slots

  name        = local.services[each.key]
  description = "Tasks of ${local.services[each.key]}, which are ${each.value} in the mesh"
  tags        = var.tags

  dns_config {
    namespace_id   = var.namespace_id
    routing_policy = "MULTIVALUE"

    dns_records {
      type = "A"
      ttl  = 10
    }
  }
}

resource "aws_ecs_service" "slot" {
  for_each = var.slots

  name            = local.services[each.key]
  cluster         = var.cluster_arn
  task_definition = aws_ecs_task_definition.slot[each.key].arn
  launch_type     = "FARGATE"
  desired_count   = each.key == var.first_slot ? var.desired_count : 0
  propagate_tags  = "SERVICE"
  tags            = var.tags

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.this.id]
    assign_public_ip = false
  }

  service_registries {
    registry_arn = aws_service_discovery_service.slot[each.key].arn
  }

  # Tidegate says what runs and how much of it; an apply in the middle of a release must not take it back.
  lifecycle {
    ignore_changes = [task_definition, desired_count]
  }
}

resource "aws_security_group" "this" {
  name        = var.name
  description = "Tasks of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "callers" {
  for_each = var.caller_security_group_ids

  security_group_id            = aws_security_group.this.id
  description                  = "From ${each.key}"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = var.container_port
  to_port                      = var.container_port
}

# Images, secrets, logs, the control plane and whatever the service calls.
resource "aws_vpc_security_group_egress_rule" "all" {
  security_group_id = aws_security_group.this.id
  description       = "What the service calls"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}
