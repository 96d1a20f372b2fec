# AWS switched App Mesh off on 2026-09-30. The provider that is given to this module has the endpoint of one that answers:
#
#   provider "aws" {
#     alias = "mesh"
#     endpoints { appmesh = "http://127.0.0.1:7071" }
#   }

locals {
  nodes = merge([
    for name, service in var.services : {
      for node, hostname in service.nodes : node => { hostname = hostname, port = service.port, health_path = service.health_path }
    }
  ]...)
  gateway_routes = merge([
    for gateway, given in var.gateways : { for name, route in given.routes : "${gateway}/${name}" => merge(route, { gateway = gateway, name = name }) }
  ]...)
}

resource "aws_appmesh_mesh" "this" {
  name = var.mesh_name
  tags = var.tags

  spec {
    egress_filter {
      type = "DROP_ALL"
    }
  }
}

resource "aws_appmesh_virtual_node" "this" {
  for_each = local.nodes

  name      = each.key
  mesh_name = aws_appmesh_mesh.this.id
  tags      = var.tags

  spec {
    listener {
      port_mapping {
        port     = each.value.port
        protocol = "http"
      }

      health_check {
        protocol            = "http"
        path                = each.value.health_path
        interval_millis     = 5000
        timeout_millis      = 2000
        healthy_threshold   = 2
        unhealthy_threshold = 2
      }
    }

    service_discovery {
      dns {
        hostname = each.value.hostname
      }
    }
  }
}

resource "aws_appmesh_virtual_router" "this" {
  for_each = var.services

  name      = "${each.key}-router"
  mesh_name = aws_appmesh_mesh.this.id
  tags      = var.tags

  spec {
    listener {
      port_mapping {
        port     = each.value.port
        protocol = "http"
      }
    }
  }
}

resource "aws_appmesh_route" "this" {
  for_each = var.services

  name                = each.key
  mesh_name           = aws_appmesh_mesh.this.id
  virtual_router_name = aws_appmesh_virtual_router.this[each.key].name
  tags                = var.tags

  spec {
    http_route {
      match {
        prefix = "/"
      }

      action {
        dynamic "weighted_target" {
          for_each = { for node in keys(each.value.nodes) : node => node == each.value.first ? 100 : 0 }
          content {
            virtual_node = aws_appmesh_virtual_node.this[weighted_target.key].name
            weight       = weighted_target.value
          }
        }
      }
    }
  }

  # The weights are Tidegate's: an apply in the middle of a release must not put them back.
  lifecycle {
    ignore_changes = [spec[0].http_route[0].action]
  }
}

resource "aws_appmesh_virtual_service" "this" {
  for_each = var.services

  name      = each.value.virtual_service
  mesh_name = aws_appmesh_mesh.this.id
  tags      = var.tags

  spec {
    provider {
      virtual_router {
        virtual_router_name = aws_appmesh_virtual_router.this[each.key].name
      }
    }
  }
}

resource "aws_appmesh_virtual_gateway" "this" {
  for_each = var.gateways

  name      = each.key
  mesh_name = aws_appmesh_mesh.this.id
  tags      = var.tags

  spec {
    listener {
      port_mapping {
        port     = each.value.port
        protocol = "http"
      }
    }

    logging {
      access_log {
        file {
          path = "/dev/stdout"
        }
      }
    }
  }
}

resource "aws_appmesh_gateway_route" "this" {
  for_each = local.gateway_routes

  name                 = each.value.name
  mesh_name            = aws_appmesh_mesh.this.id
  virtual_gateway_name = aws_appmesh_virtual_gateway.this[each.value.gateway].name
  tags                 = var.tags

  spec {
    http_route {
      match {
        prefix = each.value.prefix
      }

      action {
        target {
          virtual_service {
            virtual_service_name = aws_appmesh_virtual_service.this[each.value.service].name
          }
        }

        dynamic "rewrite" {
          for_each = each.value.keep_prefix ? [true] : []
          content {
            prefix {
              default_prefix = "DISABLED"
            }
          }
        }
      }
    }
  }
}
