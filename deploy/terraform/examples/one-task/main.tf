# The deployment of docs/aws.md: Tidegate's own mesh listens on loopback, so mesh, daemon and the sender of the requests are
# one task. It keeps its weights on the instance, hence EC2 and one task.

provider "aws" {
  region = var.region
}

locals {
  mesh_directory = "/var/lib/tidegate"
  mesh_api       = "127.0.0.1:7073"
  healthy_mesh   = [{ containerName = "mesh", condition = "HEALTHY" }]
}

module "controller" {
  source = "../../modules/controller"

  image                    = var.tidegate_image
  image_repository_arns    = var.image_repository_arns
  cluster_arn              = var.cluster_arn
  workloads                = var.workloads
  mesh                     = { endpoint_url = "http://127.0.0.1:7071", proxies = ["http://127.0.0.1:9901"] }
  launch_type              = "EC2"
  desired_count            = 1
  host_volumes             = { mesh = "/var/lib/tidegate-mesh" }
  vpc_id                   = var.vpc_id
  subnet_ids               = var.private_subnet_ids
  load_balancer_subnet_ids = var.private_subnet_ids
  database_subnet_ids      = var.private_subnet_ids
  client_cidr_blocks       = var.client_cidr_blocks
  certificate_arn          = var.certificate_arn
  public_url               = var.public_url

  companions = [
    {
      name      = "mesh"
      image     = var.tidegate_image
      essential = true
      command = [
        "local", "--mesh", "/etc/tidegate/mesh.yaml", "--data-dir", "${local.mesh_directory}/mesh", "--api", local.mesh_api
      ]
      mountPoints            = [{ sourceVolume = "mesh", containerPath = local.mesh_directory }]
      readonlyRootFilesystem = true
      healthCheck = {
        command     = ["CMD", "tidegate", "health", "--server", "http://${local.mesh_api}"]
        interval    = 10
        timeout     = 5
        retries     = 3
        startPeriod = 10
      }
    },
    {
      name         = "front"
      image        = var.front_image
      essential    = true
      dependsOn    = local.healthy_mesh
      portMappings = [{ containerPort = 8080, protocol = "tcp" }]
      environment  = [{ name = "CHECKOUT_URL", value = "http://127.0.0.1:15001" }]
    },
  ]
}
