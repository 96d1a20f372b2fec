# Those with a default take null for it, so that a caller may leave open what it leaves open itself.

variable "name" {
  description = "Name of the service and, with a suffix, of everything else that is made here."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9]([a-zA-Z0-9-]{0,29}[a-zA-Z0-9])?$", var.name))
    error_message = "The name has letters, digits and hyphens, 31 of them at most: roles and load balancers take no longer one. Module service adds 8 to its own."
  }
}

variable "mesh_name" {
  description = "Mesh of the virtual gateway."
  type        = string
}

variable "virtual_gateway" {
  description = "Virtual gateway that Envoy is; module mesh makes it, with its routes."
  type        = string
}

variable "port" {
  description = "Where the virtual gateway listens, as in the mesh. Above 1024, for an image that does not run as root."
  type        = number
  default     = 8080
  nullable    = false

  validation {
    condition     = var.port > 1024 && var.port < 65536 && !contains([9901, 15000, 15001], var.port)
    error_message = "The port is above 1024, and none that Envoy listens on besides (9901, 15000, 15001)."
  }
}

variable "image" {
  description = "Envoy's image, with App Mesh's variables and with curl and grep for the health check. A digest or a tag that is never moved."
  type        = string
}

variable "image_repository_arns" {
  description = "ECR repositories that the image is pulled from."
  type        = list(string)

  validation {
    condition     = length(var.image_repository_arns) > 0
    error_message = "ECS may pull from the repositories that are named, and from no other: name at least one."
  }
}

variable "read_only_root" {
  description = "Whether Envoy may write into a volume at /tmp only. The volume is root's: false for an image that runs as another user."
  type        = bool
  default     = true
  nullable    = false
}

variable "xds_endpoint" {
  description = "host:port of the control plane that configures Envoy."
  type        = string
}

variable "cluster_arn" {
  description = "ECS cluster that Envoy runs in."
  type        = string
}

variable "desired_count" {
  description = "Tasks of Envoy, in as many zones as the subnets are in."
  type        = number
  default     = 2
  nullable    = false
}

variable "cpu" {
  description = "CPU units of a task."
  type        = number
  default     = 512
  nullable    = false
}

variable "memory" {
  description = "Memory of a task in MiB."
  type        = number
  default     = 1024
  nullable    = false
}

variable "vpc_id" {
  description = "VPC of everything here."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the tasks, with a way to ECR and logs (a NAT gateway or endpoints)."
  type        = list(string)
}

variable "load_balancer_subnet_ids" {
  description = "Subnets of the load balancer, in two zones at least; public ones unless `internal`."
  type        = list(string)
}

variable "internal" {
  description = "Whether the load balancer has private addresses only."
  type        = bool
  default     = true
  nullable    = false
}

variable "client_cidr_blocks" {
  description = "Networks that may open connections to the load balancer."
  type        = list(string)
}

variable "certificate_arn" {
  description = "Certificate of ACM for the names that clients know. Requests without TLS are told to come back with it."
  type        = string
}

variable "access_log_bucket" {
  description = "Bucket for the load balancer's access log; null for none."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Whether the load balancer refuses to be destroyed."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key_arn" {
  description = "Key of your own for the logs; null for AWS's."
  type        = string
  default     = null
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 365
  nullable    = false
}

variable "tags" {
  description = "Tags of everything that is made here."
  type        = map(string)
  default     = {}
  nullable    = false
}
