# A gateway of this service's own. One that several services share is made by module gateway itself.

module "gateway" {
  source = "../gateway"
  count  = var.gateway == null ? 0 : 1

  name                     = "${var.name}-gateway"
  mesh_name                = var.mesh_name
  virtual_gateway          = var.gateway.virtual_gateway
  port                     = var.gateway.port
  image                    = var.gateway.image
  image_repository_arns    = var.gateway.image_repository_arns
  read_only_root           = var.gateway.read_only_root
  xds_endpoint             = var.gateway.xds_endpoint
  cluster_arn              = var.cluster_arn
  desired_count            = var.gateway.desired_count
  cpu                      = var.gateway.cpu
  memory                   = var.gateway.memory
  vpc_id                   = var.vpc_id
  subnet_ids               = var.subnet_ids
  load_balancer_subnet_ids = var.gateway.load_balancer_subnet_ids
  internal                 = var.gateway.internal
  client_cidr_blocks       = var.gateway.client_cidr_blocks
  certificate_arn          = var.gateway.certificate_arn
  access_log_bucket        = var.gateway.access_log_bucket
  deletion_protection      = var.gateway.deletion_protection
  kms_key_arn              = var.kms_key_arn
  log_retention_days       = var.log_retention_days
  tags                     = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "gateway" {
  count = var.gateway == null ? 0 : 1

  security_group_id            = aws_security_group.this.id
  description                  = "From the virtual gateway"
  referenced_security_group_id = module.gateway[0].security_group_id
  ip_protocol                  = "tcp"
  from_port                    = var.container_port
  to_port                      = var.container_port
}
