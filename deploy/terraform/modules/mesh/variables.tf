variable "mesh_name" {
  description = "Name of the mesh."
  type        = string
}

variable "services" {
  description = "Services whose requests are split, by name: the address that callers know, the port, the health check, and the two virtual nodes with the DNS names of their tasks. All weight begins at `first`."
  type = map(object({
    virtual_service = string
    port            = optional(number, 8080)
    health_path     = optional(string, "/health")
    nodes           = map(string)
    first           = string
  }))

  validation {
    condition     = alltrue([for service in var.services : length(service.nodes) == 2 && contains(keys(service.nodes), service.first)])
    error_message = "A service has two nodes, and `first` is one of them."
  }
}

variable "tags" {
  description = "Tags of everything that is made here."
  type        = map(string)
  default     = {}
}
