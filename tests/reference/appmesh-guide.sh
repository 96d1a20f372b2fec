# The `aws appmesh` commands of a guide to App Mesh that is passed around, as people paste them: in the order of its own
# setup sequence (mesh, virtual services, virtual nodes, virtual routers, routes), each after an empty line.
# `tests/it/mesh_cli/guide.rs` runs them unchanged and says which ones the AWS CLI itself refuses.

aws appmesh create-mesh \
--mesh-name my-mesh \
--spec egressFilter='{allowAll=true}' \
--tags 'key=Environment,value=Production' \
--region us-west-2

aws appmesh create-mesh \
--mesh-name production-mesh \
--spec '{
"egressFilter": {
"type": "DROP_ALL"
},
"serviceDiscovery": {
"ipPreference": "IPv4_ONLY"
}
}' \
--tags '[
{
"key": "Environment",
"value": "Production"
},
{
"key": "Team",
"value": "Platform"
}
]'

aws appmesh create-virtual-service \
--mesh-name my-mesh \
--virtual-service-name user-service.local \
--spec '{
"provider": {
"virtualRouter": {
"virtualRouterName": "user-router"
}
}
}'

aws appmesh create-virtual-service \
--mesh-name my-mesh \
--virtual-service-name database-service.local \
--spec '{
"provider": {
"virtualNode": {
"virtualNodeName": "database-node"
}
}
}'

aws appmesh create-virtual-node \
--mesh-name my-mesh \
--virtual-node-name user-service \
--spec '{
"listeners": [
{
"portMapping": {"port": 8080, "protocol": "http"},
"healthCheck": {
"protocol": "http",
"path": "/health",
"healthyThreshold": 2,
"unhealthyThreshold": 3
}
}
]
}'

aws appmesh create-virtual-node \
--mesh-name my-mesh \
--virtual-node-name user-service-v1 \
--spec '{
"listeners": [
{
"portMapping": {
"port": 8080,
"protocol": "http"
}
}
],
"serviceDiscovery": {
"awsCloudMap": {
"namespaceName": "my-namespace",
"serviceName": "user-service"
}
}
}'

aws appmesh create-virtual-node \
--mesh-name my-mesh \
--virtual-node-name user-service-v2 \
--spec '{
"listeners": [
{
"portMapping": {
"port": 8080,
"protocol": "http"
},
"healthCheck": {
"protocol": "http",
"path": "/health",
"healthyThreshold": 2,
"unhealthyThreshold": 3,
"timeoutMillis": 5000,
"intervalMillis": 30000
}
}
],
"serviceDiscovery": {
"awsCloudMap": {
"namespaceName": "my-namespace",
"serviceName": "user-service-v2",
"attributes": [
{
"key": "version",
"value": "v2"
}
]
}
}
}'

aws appmesh create-virtual-node \
--mesh-name my-mesh \
--virtual-node-name frontend-service \
--spec '{
"listeners": [
{
"portMapping": {
"port": 3000,
"protocol": "http"
}
}
],
"backends": [
{
"virtualService": {
"virtualServiceName": "user-service.local"
}
},
{
"virtualService": {
"virtualServiceName": "database-service.local"
}
}
],
"serviceDiscovery": {
"dns": {
"hostname": "frontend.example.com"
}
}
}'

aws appmesh create-virtual-node \
--mesh-name my-mesh \
--virtual-node-name resilient-service \
--spec '{
"listeners": [
{
"portMapping": {
"port": 8080,
"protocol": "http"
},
"outlierDetection": {
"maxServerErrors": 5,
"interval": {
"value": 30,
"unit": "s"
},
"baseEjectionDuration": {
"value": 30,
"unit": "s"
},
"maxEjectionPercent": 50
}
}
]
}'

aws appmesh create-virtual-node \
--mesh-name my-mesh \
--virtual-node-name secure-service \
--spec '{
"listeners": [
{
"portMapping": {
"port": 8443,
"protocol": "http"
},
"tls": {
"mode": "STRICT",
"certificate": {
"acm": {
"certificateArn": "arn:aws:acm:us-west-2:123456789012:certificate/12345678-1234-1234-1234-123456789012"
}
}
}
}
]
}'

aws appmesh create-virtual-router \
--mesh-name my-mesh \
--virtual-router-name user-router \
--spec '{
"listeners": [
{
"portMapping": {
"port": 8080,
"protocol": "http"
}
}
]
}'

aws appmesh create-virtual-router \
--mesh-name my-mesh \
--virtual-router-name api-router \
--spec '{
"listeners": [
{
"portMapping": {
"port": 8080,
"protocol": "http"
}
},
{
"portMapping": {
"port": 8443,
"protocol": "http"
}
}
]
}'

aws appmesh create-route \
--mesh-name my-mesh \
--virtual-router-name user-router \
--route-name user-route \
--spec '{
"httpRoute": {
"match": {
"prefix": "/"
},
"action": {
"weightedTargets": [
{
"virtualNode": "user-service-v1",
"weight": 80
},
{
"virtualNode": "user-service-v2",
"weight": 20
}
]
}
}
}'

aws appmesh create-route \
--mesh-name my-mesh \
--virtual-router-name user-router \
--route-name beta-route \
--spec '{
"httpRoute": {
"match": {
"prefix": "/",
"headers": [
{
"name": "x-beta-user",
"match": {
"exact": "true"
}
}
]
},
"action": {
"weightedTargets": [
{
"virtualNode": "user-service-v2",
"weight": 100
}
]
}
},
"priority": 10
}'

aws appmesh create-route \
--mesh-name my-mesh \
--virtual-router-name user-router \
--route-name resilient-route \
--spec '{
"httpRoute": {
"match": {
"prefix": "/api"
},
"action": {
"weightedTargets": [
{
"virtualNode": "user-service-v1",
"weight": 100
}
]
},
"retryPolicy": {
"maxRetries": 3,
"perRetryTimeout": {
"value": 5,
"unit": "s"
},
"httpRetryEvents": [
"server-error",
"gateway-error"
]
}
}
}'
