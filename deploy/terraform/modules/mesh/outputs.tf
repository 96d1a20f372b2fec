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
