variable "region" {
  description = "Region of everything here."
  type        = string
  default     = "eu-central-1"
}

variable "cluster_arn" {
  description = "ECS cluster with an EC2 instance."
  type        = string
}

variable "vpc_id" {
  description = "VPC of everything here."
  type        = string
}

variable "private_subnet_ids" {
  description = "Subnets of the task, the database and the load balancer, in two zones at least."
  type        = list(string)
}

variable "client_cidr_blocks" {
  description = "Networks of the people and pipelines that call the daemon."
  type        = list(string)
}

variable "certificate_arn" {
  description = "Certificate of ACM for the name in public_url."
  type        = string
}

variable "public_url" {
  description = "Address of the daemon, such as https://tidegate.example.com."
  type        = string
}

variable "tidegate_image" {
  description = "Image of examples/aws/Dockerfile: the program, and the mesh beside it."
  type        = string
}

variable "front_image" {
  description = "Image of the service that sends requests to checkout."
  type        = string
}

variable "image_repository_arns" {
  description = "ECR repositories of both."
  type        = list(string)
}

variable "workloads" {
  description = "What the daemon may release, as in the module controller."
  type = map(object({
    cluster_arn  = string
    service_arns = list(string)
    families     = list(string)
    role_arns    = list(string)
  }))
}
