# A daemon, a mesh, and the service checkout in two slots, released by pushes to ECR and by pipelines.

provider "aws" {
  region = var.region
}

# The same account, but its App Mesh is the one at this address.
provider "aws" {
  alias  = "mesh"
  region = var.region

  endpoints {
    appmesh = var.mesh_endpoint_url
  }
}

locals {
  namespace = "shop.internal"
  mesh_name = "shop"
  slots     = { a = "checkout-v1", b = "checkout-v2" }
}

data "aws_ecr_repository" "tidegate" {
  name = var.tidegate_repository
}

data "aws_ecr_repository" "checkout" {
  name = var.checkout_repository
}

resource "aws_service_discovery_private_dns_namespace" "shop" {
  name = local.namespace
  vpc  = var.vpc_id
}

module "webhook" {
  source = "../../modules/webhook"

  sources      = ["generic"]
  repositories = [data.aws_ecr_repository.checkout.name]
}

module "mesh" {
  source    = "../../modules/mesh"
  providers = { aws = aws.mesh }

  mesh_name = local.mesh_name
  services = {
    checkout = {
      virtual_service = "checkout.local"
      nodes           = { for slot, node in local.slots : node => "checkout-${slot}.${local.namespace}" }
      first           = local.slots["a"]
    }
  }
  gateways = var.gateway == null ? {} : {
    shop = { routes = { checkout = { service = "checkout" } } }
  }
}

module "checkout" {
  source = "../../modules/service"

  name                  = "checkout"
  slots                 = local.slots
  cluster_arn           = var.cluster_arn
  image                 = "${data.aws_ecr_repository.checkout.repository_url}:${var.checkout_tag}"
  image_repository_arns = [data.aws_ecr_repository.checkout.arn]
  mesh_name             = module.mesh.mesh_name
  sidecar               = var.sidecar
  gateway               = var.gateway == null ? null : merge(var.gateway, module.mesh.gateways["shop"])
  vpc_id                = var.vpc_id
  subnet_ids            = var.private_subnet_ids
  namespace_id          = aws_service_discovery_private_dns_namespace.shop.id

  caller_security_group_ids = {
    callers  = var.caller_security_group_id
    tidegate = module.controller.security_group_id
  }
}

module "controller" {
  source = "../../modules/controller"

  image                    = "${data.aws_ecr_repository.tidegate.repository_url}:${var.tidegate_tag}"
  image_repository_arns    = [data.aws_ecr_repository.tidegate.arn]
  cluster_arn              = var.cluster_arn
  workloads                = { checkout = module.checkout.workload }
  mesh                     = { endpoint_url = var.host_mesh == null ? var.mesh_endpoint_url : null, proxies = var.proxies }
  host_mesh                = var.host_mesh
  vpc_id                   = var.vpc_id
  subnet_ids               = var.private_subnet_ids
  load_balancer_subnet_ids = var.private_subnet_ids
  database_subnet_ids      = var.private_subnet_ids
  client_cidr_blocks       = var.client_cidr_blocks
  certificate_arn          = var.certificate_arn
  public_url               = var.public_url
  hook_secret_arns         = module.webhook.hook_secret_arns
  queue                    = module.webhook.queue
}

output "policy" {
  description = "What a policy says of checkout: its route and its workload."
  value = {
    version  = 1
    name     = "checkout"
    route    = module.mesh.routes["checkout"]
    versions = values(local.slots)
    workload = { ecs = module.checkout.ecs }
  }
}

output "load_balancer" {
  description = "Where the name in public_url has to lead."
  value       = module.controller.load_balancer_dns_name
}

output "mesh_load_balancer" {
  description = "Where the name in mesh_endpoint_url has to lead, with host_mesh."
  value       = module.controller.mesh_load_balancer
}

output "gateway" {
  description = "Where the names that clients of checkout know have to lead; null without a gateway."
  value       = module.checkout.gateway_dns_name
}

output "sender_policy_arns" {
  description = "To attach to the roles of pipelines that post to the hook."
  value       = module.webhook.sender_policy_arns
}
