output "mesh_name" {
  description = "Name of the mesh."
  value       = aws_appmesh_mesh.this.name
}

output "routes" {
  description = "`route` of a policy, by service."
  value = {
    for name, route in aws_appmesh_route.this : name => {
      mesh   = route.mesh_name
      router = route.virtual_router_name
      route  = route.name
    }
  }
}

output "gateways" {
  description = "Virtual gateways by name, each with its port: for the Envoy that is one (`gateway` of module service)."
  value       = { for name, gateway in aws_appmesh_virtual_gateway.this : name => { virtual_gateway = gateway.name, port = var.gateways[name].port } }
}
