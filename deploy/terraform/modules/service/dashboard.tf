locals {
  cluster_name = reverse(split("/", var.cluster_arn))[0]
  # Both slots in each graph, so that the two versions are seen beside each other.
  graphs = ["CPUUtilization", "MemoryUtilization"]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [
      for index, metric in local.graphs : {
        type   = "metric"
        x      = 12 * index
        y      = 0
        width  = 12
        height = 6
        properties = {
          title  = "${metric} of both slots"
          region = local.region
          stat   = "Average"
          period = 60
          metrics = [
            for slot, service in local.services : ["AWS/ECS", metric, "ClusterName", local.cluster_name, "ServiceName", service, { label = "${service} (${var.slots[slot]})" }]
          ]
        }
      }
    ]
  })
}

# What the Envoys of the mesh count, this service's and others'; docs/envoy.md. One service of a mesh needs it.
resource "aws_cloudwatch_dashboard" "mesh" {
  count = length(local.metered)

  dashboard_name = "${var.name}-mesh"
  dashboard_body = replace(
    replace(file("${path.module}/../../../cloudwatch/dashboard.json"), "REGION", local.region),
    "\"defaultValue\": \"shop\"", "\"defaultValue\": \"${var.mesh_name}\"",
  )
}
