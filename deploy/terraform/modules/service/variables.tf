variable "name" {
  description = "Name of the service; that of a slot follows it with a hyphen, as in checkout-a."
  type        = string
}

variable "slots" {
  description = "The two slots by their letters, each with its virtual node: { a = \"checkout-v1\", b = \"checkout-v2\" }."
  type        = map(string)

  validation {
    condition     = length(var.slots) == 2
    error_message = "A release goes from one of two slots to the other."
  }
}

variable "first_slot" {
  description = "The slot that gets tasks when it is made; the route has all its weight there. Later Tidegate says how many."
  type        = string
  default     = "a"
}

variable "desired_count" {
  description = "Tasks of the first slot when it is made."
  type        = number
  default     = 2
}

variable "cluster_arn" {
  description = "ECS cluster of the slots."
  type        = string
}

variable "image" {
  description = "Image that both slots are made with. Releases bring others."
  type        = string
}

variable "image_repository_arns" {
  description = "ECR repositories that the image, later ones and the sidecar's are pulled from."
  type        = list(string)
}

variable "container_port" {
  description = "Where the service listens."
  type        = number
  default     = 8080
}

variable "environment" {
  description = "Variables of the service's container."
  type        = map(string)
  default     = {}
}

variable "secret_arns" {
  description = "Secrets of the service's container, by variable."
  type        = map(string)
  default     = {}
}

variable "read_only_root" {
  description = "Whether the service's container may write only into its volumes."
  type        = bool
  default     = true
}

variable "mesh_name" {
  description = "Mesh of the virtual nodes."
  type        = string
}

variable "sidecar" {
  description = "Envoy in each task, as App Mesh had it: its image, and host:port of the control plane that configures it. `metrics` is the image of the CloudWatch agent that takes its counts (docs/envoy.md); without it none are sent. null for tasks that the caller's proxy reaches directly."
  type = object({
    image        = string
    xds_endpoint = string
    metrics      = optional(string)
  })
  default = null
}

variable "gateway" {
  description = "Envoy as a virtual gateway of the mesh, and an application load balancer with TLS before it, for requests from outside of the mesh; null for none. The load balancer is one for applications, which redirects to TLS and spreads requests; TCP is nothing that a virtual gateway takes. Members are the variables of module gateway: those without a value have the default there."
  type = object({
    virtual_gateway          = string
    port                     = optional(number)
    image                    = string
    image_repository_arns    = list(string)
    read_only_root           = optional(bool)
    xds_endpoint             = string
    desired_count            = optional(number)
    cpu                      = optional(number)
    memory                   = optional(number)
    load_balancer_subnet_ids = list(string)
    internal                 = optional(bool)
    client_cidr_blocks       = list(string)
    certificate_arn          = string
    access_log_bucket        = optional(string)
    deletion_protection      = optional(bool)
  })
  default = null
}

variable "cpu" {
  description = "CPU units of a task."
  type        = number
  default     = 512
}

variable "memory" {
  description = "Memory of a task in MiB."
  type        = number
  default     = 1024
}

variable "vpc_id" {
  description = "VPC of the tasks."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the tasks."
  type        = list(string)
}

variable "caller_security_group_ids" {
  description = "Who may connect, by a word for each: callers' proxies, and the daemon for its health checks."
  type        = map(string)
}

variable "namespace_id" {
  description = "Private DNS namespace (Cloud Map) in which each slot gets a name with an address for each task."
  type        = string
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
}

variable "tags" {
  description = "Tags of everything that is made here."
  type        = map(string)
  default     = {}
}
