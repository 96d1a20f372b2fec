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

variable "gateways" {
  description = "Virtual gateways for requests from outside of the mesh, by name: the port, and routes by name, each from a prefix of the path to one of `services`. Of prefixes that match the longest is taken, and it arrives as / unless `keep_prefix`. The Host header becomes the service's address."
  type = map(object({
    port = optional(number, 8080)
    routes = map(object({
      service     = string
      prefix      = optional(string, "/")
      keep_prefix = optional(bool, false)
    }))
  }))
  default = {}

  validation {
    condition     = alltrue(flatten([for gateway in var.gateways : [for route in gateway.routes : contains(keys(var.services), route.service)]]))
    error_message = "A route of a gateway leads to one of `services`."
  }

  validation {
    condition     = alltrue(flatten([for gateway in var.gateways : [for route in gateway.routes : startswith(route.prefix, "/") && !can(regex("^/aws-app-?mesh", route.prefix))]]))
    error_message = "A prefix begins with /; those with /aws-appmesh and /aws-app-mesh are App Mesh's."
  }
}

variable "tags" {
  description = "Tags of everything that is made here."
  type        = map(string)
  default     = {}
}
