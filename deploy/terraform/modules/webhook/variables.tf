variable "name" {
  description = "Name of what is made here, with a suffix."
  type        = string
  default     = "tidegate"
}

variable "sources" {
  description = "Senders of webhooks that get a secret each: generic, github, gitlab, ecr, registry."
  type        = set(string)
  default     = ["generic"]

  validation {
    condition     = length(setsubtract(var.sources, ["generic", "github", "gitlab", "ecr", "registry"])) == 0
    error_message = "A source is one of generic, github, gitlab, ecr, registry."
  }
}

variable "secret_version" {
  description = "Raise it for new secrets. README.md says in which order."
  type        = number
  default     = 1
}

variable "repositories" {
  description = "ECR repositories whose pushes come by the queue; none for no queue."
  type        = list(string)
  default     = []
}

variable "kms_key_arn" {
  description = "Key of your own for the secrets; null for AWS's."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything that is made here."
  type        = map(string)
  default     = {}
}
