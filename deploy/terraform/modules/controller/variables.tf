variable "name" {
  description = "Name of the service and, with a suffix, of everything else that is made here."
  type        = string
  default     = "tidegate"
}

variable "image" {
  description = "Image with the program, such as one built from deploy/Dockerfile. A digest or a tag that is never moved."
  type        = string
}

variable "image_repository_arns" {
  description = "ECR repositories that the task's images are pulled from."
  type        = list(string)
}

variable "cluster_arn" {
  description = "ECS cluster that the daemon runs in."
  type        = string
}

variable "workloads" {
  description = "What the daemon may release, by name: the cluster, its services, the families of their task definitions, and the roles that those name."
  type = map(object({
    cluster_arn  = string
    service_arns = list(string)
    families     = list(string)
    role_arns    = list(string)
  }))

  validation {
    condition     = length(var.workloads) > 0
    error_message = "A daemon that may release nothing needs no role: name at least one service."
  }
}

variable "mesh" {
  description = "A mesh elsewhere: its App Mesh API (mesh.endpoint_url, mesh.signing). And the proxies whose counts releases are judged by (telemetry.proxies), which a mesh of the daemon's own may have as well."
  type = object({
    endpoint_url = optional(string)
    signing      = optional(string, "none")
    proxies      = optional(list(string), [])
  })
  default = {}

  validation {
    condition     = contains(["aws", "none"], var.mesh.signing)
    error_message = "mesh.signing is \"aws\" or \"none\"."
  }

  validation {
    condition     = (var.mesh.endpoint_url == null) != (var.host_mesh == null)
    error_message = "The mesh is elsewhere (mesh.endpoint_url) or the daemon's own (host_mesh): one of the two."
  }
}

variable "host_mesh" {
  description = "A mesh of the daemon's own (mesh.listen, mesh.xds_listen), kept in its database; null for a mesh elsewhere. `keys` are its access keys by a name of small letters, digits and _: their id, what they allow (read or write) and, if it is one, the only mesh that they are for. `certificate_arn` is a certificate of ACM for the name by which clients and Envoys know it. Groups in `client_security_group_ids` may connect, by a word for each."
  type = object({
    keys                      = map(object({ id = string, allow = string, mesh = optional(string) }))
    certificate_arn           = string
    client_security_group_ids = map(string)
    secret_version            = optional(number, 1)
  })
  default = null

  validation {
    condition     = var.host_mesh == null ? true : length(var.host_mesh.keys) > 0 && alltrue([for name in keys(var.host_mesh.keys) : can(regex("^[a-z0-9_]{1,32}$", name))])
    error_message = "host_mesh.keys needs a key at least; their names have up to 32 small letters, digits and _."
  }

  validation {
    condition     = var.host_mesh == null ? true : alltrue([for key in values(var.host_mesh.keys) : contains(["read", "write"], key.allow)])
    error_message = "A key may \"read\" or \"write\"."
  }
}

variable "companions" {
  description = "Further containers of the same task, as in a task definition's JSON. They share its loopback: that is how the daemon reaches a mesh that listens there only (examples/one-task)."
  type        = any
  default     = []
}

variable "launch_type" {
  description = "FARGATE, or EC2 for companions that keep something on the instance."
  type        = string
  default     = "FARGATE"

  validation {
    condition     = contains(["FARGATE", "EC2"], var.launch_type)
    error_message = "launch_type is \"FARGATE\" or \"EC2\"."
  }
}

variable "host_volumes" {
  description = "Directories of the instance by the names under which companions mount them; with launch_type EC2."
  type        = map(string)
  default     = {}
}

variable "desired_count" {
  description = "Daemons. One drives, the others stand by; 1 where companions hold state."
  type        = number
  default     = 2
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
  description = "VPC of everything here."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the tasks, with a way to ECR, Secrets Manager and logs (a NAT gateway or endpoints)."
  type        = list(string)
}

variable "load_balancer_subnet_ids" {
  description = "Subnets of the load balancer, in two zones at least; public ones unless `internal`."
  type        = list(string)
}

variable "database_subnet_ids" {
  description = "Subnets of the database, in two zones at least."
  type        = list(string)
}

variable "internal" {
  description = "Whether the load balancer has private addresses only. A Git host that posts webhooks needs false."
  type        = bool
  default     = true
}

variable "client_cidr_blocks" {
  description = "Who may open connections to the load balancer: people, CI, senders of webhooks."
  type        = list(string)
}

variable "certificate_arn" {
  description = "Certificate of ACM for the name in public_url. There is no listener without TLS: clients send a token."
  type        = string
}

variable "public_url" {
  description = "Address at which people and CI reach the daemon (api.public_url)."
  type        = string
}

variable "access_log_bucket" {
  description = "Bucket for the load balancer's access log; null for none."
  type        = string
  default     = null
}

variable "hook_secret_arns" {
  description = "Secrets of webhooks by source: generic, github, gitlab, ecr, registry (module webhook makes them)."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.hook_secret_arns), ["generic", "github", "gitlab", "ecr", "registry"])) == 0
    error_message = "A hook is one of generic, github, gitlab, ecr, registry."
  }
}

variable "chat_secret_arns" {
  description = "Secrets for people and services that are told: slack_token, slack_signing_secret, webhook_secret, github_token (docs/chatops.md, docs/TRIGGERS.md)."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setsubtract(keys(var.chat_secret_arns), ["slack_token", "slack_signing_secret", "webhook_secret", "github_token"])) == 0
    error_message = "A secret is one of slack_token, slack_signing_secret, webhook_secret, github_token."
  }
}

variable "queue" {
  description = "SQS queue with ECR's events (module webhook); null for none."
  type = object({
    url = string
    arn = string
  })
  default = null
}

variable "signals" {
  description = "Whether policies have gates on CloudWatch or X-Ray."
  type        = bool
  default     = true
}

variable "enable_execute_command" {
  description = "ECS Exec, for the first token and the doctor. It needs a root file system that can be written: turn it off afterwards."
  type        = bool
  default     = false
}

variable "database" {
  description = "Version and size of the PostgreSQL instance. 15 is what the tests run against."
  type = object({
    engine_version        = optional(string, "15")
    instance_class        = optional(string, "db.t4g.micro")
    allocated_storage     = optional(number, 20)
    max_allocated_storage = optional(number, 100)
  })
  default = {}
}

variable "multi_az" {
  description = "Whether the database has a standby in another zone."
  type        = bool
  default     = true
}

variable "backup_retention_days" {
  description = "How long backups of the database are kept."
  type        = number
  default     = 7
}

variable "deletion_protection" {
  description = "Whether database and load balancer refuse to be destroyed."
  type        = bool
  default     = true
}

variable "password_version" {
  description = "Raise it to give the database a new password. The tasks get it at their next start."
  type        = number
  default     = 1
}

variable "kms_key_arn" {
  description = "Key of your own for the database, the secret and the logs; null for AWS's."
  type        = string
  default     = null
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 365
}

variable "log_level" {
  description = "TIDEGATE_LOG, in the notation of Rust's tracing."
  type        = string
  default     = "warn,tidegate=info"
}

variable "alarm_topic_arns" {
  description = "SNS topics that alarms go to."
  type        = list(string)
  default     = []
}

variable "tags" {
  description = "Tags of everything that is made here."
  type        = map(string)
  default     = {}
}
