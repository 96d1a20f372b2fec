# A mesh of the daemon's own: access keys, and a load balancer that ends TLS before the App Mesh API and before the control
# plane of Envoys. It is one for the network: streams of Envoys are long, and signatures cover Host, which it leaves alone.

locals {
  mesh_keys = var.host_mesh == null ? {} : var.host_mesh.keys
  # As the daemon reads it: NAME:ID:ALLOW or NAME:ID:ALLOW:MESH.
  declared_keys = [
    for name, key in local.mesh_keys : join(":", concat([name, key.id, key.allow], key.mesh == null ? [] : [key.mesh]))
  ]
  mesh_environment = merge(
    var.mesh.endpoint_url == null ? {} : {
      TIDEGATE_MESH_ENDPOINT_URL = var.mesh.endpoint_url
      TIDEGATE_MESH_SIGNING      = var.mesh.signing
    },
    var.host_mesh == null ? {} : {
      TIDEGATE_MESH_LISTEN     = "0.0.0.0:${local.mesh_ports.api}"
      TIDEGATE_MESH_XDS_LISTEN = "0.0.0.0:${local.mesh_ports.xds}"
      TIDEGATE_MESH_REGION     = local.region
      TIDEGATE_MESH_ACCOUNT    = data.aws_caller_identity.this.account_id
      TIDEGATE_MESH_KEYS       = join(",", local.declared_keys)
    },
  )
  mesh_clients = var.host_mesh == null ? {} : var.host_mesh.client_security_group_ids
  # A rule for each pair: from a group of clients to a port.
  mesh_rules = {
    for pair in setproduct(keys(local.mesh_clients), keys(local.mesh_ports)) :
    "${pair[0]}-${pair[1]}" => { group = local.mesh_clients[pair[0]], port = local.mesh_ports[pair[1]] }
  }
  mesh_secret_version = var.host_mesh == null ? 1 : var.host_mesh.secret_version
}

# Made by Secrets Manager, handed on in memory, and in no state or plan.
ephemeral "aws_secretsmanager_random_password" "mesh_key" {
  for_each = local.mesh_keys

  password_length     = 40
  exclude_punctuation = true
}

# AWS_SECRET_ACCESS_KEY of whoever changes or reads the mesh.
resource "aws_secretsmanager_secret" "mesh_key" {
  #checkov:skip=CKV2_AWS_57:rotation by a timer would change it under daemons and clients, which read it at their start
  for_each = local.mesh_keys

  name        = "${var.name}/mesh-key-${each.key}"
  description = "Secret of the access key ${each.value.id} of the mesh of ${var.name}"
  kms_key_id  = var.kms_key_arn
  tags        = var.tags
}

resource "aws_secretsmanager_secret_version" "mesh_key" {
  for_each = local.mesh_keys

  secret_id                = aws_secretsmanager_secret.mesh_key[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.mesh_key[each.key].random_password
  secret_string_wo_version = local.mesh_secret_version
}

# Read back, so that the token has what was stored even when an apply ended in between.
ephemeral "aws_secretsmanager_secret_version" "mesh_key" {
  for_each = local.mesh_keys

  secret_id = aws_secretsmanager_secret_version.mesh_key[each.key].secret_id
}

# TIDEGATE_TOKEN of sidecars that cannot sign: ID:SECRET.
resource "aws_secretsmanager_secret" "mesh_token" {
  #checkov:skip=CKV2_AWS_57:it has the secret of the key, which no timer changes
  for_each = local.mesh_keys

  name        = "${var.name}/mesh-token-${each.key}"
  description = "TIDEGATE_TOKEN of the access key ${each.value.id} of the mesh of ${var.name}"
  kms_key_id  = var.kms_key_arn
  tags        = var.tags
}

resource "aws_secretsmanager_secret_version" "mesh_token" {
  for_each = local.mesh_keys

  secret_id                = aws_secretsmanager_secret.mesh_token[each.key].id
  secret_string_wo         = "${each.value.id}:${ephemeral.aws_secretsmanager_secret_version.mesh_key[each.key].secret_string}"
  secret_string_wo_version = local.mesh_secret_version
}

resource "aws_security_group" "mesh" {
  count = var.host_mesh == null ? 0 : 1

  name        = "${var.name}-mesh"
  description = "Load balancer of the mesh of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "mesh_clients" {
  for_each = local.mesh_rules

  security_group_id            = aws_security_group.mesh[0].id
  description                  = "From ${each.key}"
  referenced_security_group_id = each.value.group
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "mesh_to_daemon" {
  for_each = local.mesh_ports

  security_group_id            = aws_security_group.mesh[0].id
  description                  = "To the daemons, ${each.key}"
  referenced_security_group_id = aws_security_group.daemon.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_ingress_rule" "from_mesh_load_balancer" {
  for_each = local.mesh_ports

  security_group_id            = aws_security_group.daemon.id
  description                  = "From the load balancer of the mesh, ${each.key}"
  referenced_security_group_id = aws_security_group.mesh[0].id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_lb" "mesh" {
  count = var.host_mesh == null ? 0 : 1

  name                             = "${var.name}-mesh"
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = var.subnet_ids
  security_groups                  = [aws_security_group.mesh[0].id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = var.deletion_protection
  tags                             = var.tags

  dynamic "access_logs" {
    for_each = var.access_log_bucket == null ? [] : [var.access_log_bucket]
    content {
      bucket  = access_logs.value
      prefix  = "${var.name}-mesh"
      enabled = true
    }
  }
}

resource "aws_lb_target_group" "mesh" {
  for_each = local.mesh_ports

  name        = "${var.name}-mesh-${each.key}"
  vpc_id      = var.vpc_id
  target_type = "ip"
  protocol    = "TCP"
  port        = each.value
  tags        = var.tags

  # Envoys of a task that leaves connect to another one; they serve what they have meanwhile.
  deregistration_delay   = 15
  connection_termination = true

  # Every daemon serves the mesh, also one that stands by and one whose database is away: it is enough that it listens.
  health_check {
    protocol            = "TCP"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "mesh" {
  for_each = local.mesh_ports

  load_balancer_arn = aws_lb.mesh[0].arn
  protocol          = "TLS"
  port              = each.value
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.host_mesh.certificate_arn
  # gRPC is HTTP/2; clients of the API speak HTTP/1.1.
  alpn_policy = each.key == "xds" ? "HTTP2Only" : "HTTP1Only"
  tags        = var.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.mesh[each.key].arn
  }
}
