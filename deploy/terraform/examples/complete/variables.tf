variable "region" {
  description = "Region of everything here."
  type        = string
  default     = "eu-central-1"
}

variable "cluster_arn" {
  description = "ECS cluster of the daemon and of the service."
  type        = string
}

variable "vpc_id" {
  description = "VPC of everything here."
  type        = string
}

variable "private_subnet_ids" {
  description = "Subnets of tasks, database and load balancer, in two zones at least."
  type        = list(string)
}

variable "client_cidr_blocks" {
  description = "Networks of the people and pipelines that call the daemon."
  type        = list(string)
}

variable "caller_security_group_id" {
  description = "Security group of the services that send requests to checkout through the mesh."
  type        = string
}

variable "certificate_arn" {
  description = "Certificate of ACM for the name in public_url."
  type        = string
}

variable "public_url" {
  description = "Address of the daemon, such as https://tidegate.example.com."
  type        = string
}

variable "tidegate_repository" {
  description = "ECR repository with Tidegate's image."
  type        = string
  default     = "tidegate"
}

variable "tidegate_tag" {
  description = "Tag of Tidegate's image."
  type        = string
}

variable "checkout_repository" {
  description = "ECR repository of the service; pushes to it start releases."
  type        = string
  default     = "shop/checkout"
}

variable "checkout_tag" {
  description = "Tag of the image that both slots are made with."
  type        = string
}

variable "mesh_endpoint_url" {
  description = "App Mesh API that both Terraform and the daemon reach."
  type        = string
}

variable "host_mesh" {
  description = "A mesh that the daemon hosts itself, as module controller has it; null for one elsewhere. mesh_endpoint_url is then https://NAME:7071, with the name of certificate_arn."
  type = object({
    keys                      = map(object({ id = string, allow = string, mesh = optional(string) }))
    certificate_arn           = string
    client_security_group_ids = map(string)
    secret_version            = optional(number, 1)
  })
  default = null
}

variable "proxies" {
  description = "Admin addresses of the proxies, whose counts releases are judged by."
  type        = list(string)
  default     = []
}

variable "sidecar" {
  description = "Envoy in the tasks of checkout, with the control plane that configures it; null for none."
  type = object({
    image        = string
    xds_endpoint = string
    metrics      = optional(string)
  })
  default = null
}

variable "gateway" {
  description = "Envoy as a virtual gateway, which brings requests from outside of the mesh to checkout, and a load balancer before it; null for none."
  type = object({
    image                    = string
    image_repository_arns    = list(string)
    xds_endpoint             = string
    load_balancer_subnet_ids = list(string)
    internal                 = optional(bool, true)
    client_cidr_blocks       = list(string)
    certificate_arn          = string
  })
  default = null
}
