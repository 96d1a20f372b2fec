"""How each proxy is set up for the comparison: the same work for all.

One worker, two upstreams at 90/10, keep-alive on both sides, health checks every 5 s, a timeout of 15 s, two retries on
a failed connect, a reset or a 503 (App Mesh's default policy, which tidegate has without being told), no access log.
Envoy makes no request ids, since nobody else does.
"""

import rig

WEIGHTS = (90, 10)

MESH = """\
meshName: bench
---
{nodes}meshName: bench
virtualRouterName: shop
spec: {{ listeners: [{{ portMapping: {{ port: 80, protocol: http }} }}] }}
---
meshName: bench
virtualRouterName: shop
routeName: all
spec:
  httpRoute:
    match: {{ prefix: / }}
    action:
      weightedTargets:
        - {{ virtualNode: v1, weight: {first} }}
        - {{ virtualNode: v2, weight: {second} }}
---
meshName: bench
virtualServiceName: shop.local
spec: {{ provider: {{ virtualRouter: {{ virtualRouterName: shop }} }} }}
"""

NODE = """\
meshName: bench
virtualNodeName: {name}
spec:
  serviceDiscovery: {{ dns: {{ hostname: 127.0.0.1 }} }}
  listeners:
    - portMapping: {{ port: {port}, protocol: http }}
      healthCheck:
        protocol: http
        path: /
        intervalMillis: 5000
        timeoutMillis: 2000
        healthyThreshold: 2
        unhealthyThreshold: 2
---
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 10500
    no strict-limits
defaults
    mode http
    timeout connect 1s
    timeout client 300s
    timeout server 15s
    timeout http-keep-alive 300s
frontend egress
    bind 127.0.0.1:{port}
    acl shop req.hdr(host) -i shop.local
    use_backend shop if shop
backend shop
    balance roundrobin
    http-reuse always
    option httpchk GET /
    option redispatch
    retries 2
    retry-on conn-failure empty-response 503
    server v1 127.0.0.1:{first} weight 90 check inter 5s
    server v2 127.0.0.1:{second} weight 10 check inter 5s
"""

NGINX = """\
daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 20000; pid nginx-proxy.pid;
error_log stderr crit; events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s;
  upstream shop {{
    server 127.0.0.1:{first} weight=9;
    server 127.0.0.1:{second} weight=1;
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    server_name shop.local;
    location / {{
      proxy_pass http://shop;
      proxy_http_version 1.1;
      proxy_next_upstream error timeout http_503;
      proxy_next_upstream_tries 3;
      proxy_read_timeout 15s;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
    }}
  }}
}}
"""

ENVOY = """\
static_resources:
  listeners:
    - name: egress
      address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: egress
                codec_type: HTTP1
                generate_request_id: false
                route_config:
                  virtual_hosts:
                    - name: shop
                      domains: ["shop.local", "shop.local:*"]
                      routes:
                        - match: {{ prefix: / }}
                          route:
                            timeout: 15s
                            retry_policy:
                              retry_on: connect-failure,reset,retriable-status-codes
                              retriable_status_codes: [503]
                              num_retries: 2
                            weighted_clusters:
                              clusters: [{{ name: v1, weight: 90 }}, {{ name: v2, weight: 10 }}]
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
{clusters}"""

ENVOY_CLUSTER = """\
    - name: {name}
      type: STATIC
      connect_timeout: 1s
      circuit_breakers: {{ thresholds: [{{ max_connections: 20000, max_requests: 20000, max_pending_requests: 20000 }}] }}
      health_checks:
        - {{ timeout: 2s, interval: 5s, unhealthy_threshold: 2, healthy_threshold: 2, http_health_check: {{ path: / }} }}
      load_assignment:
        cluster_name: {name}
        endpoints:
          - lb_endpoints:
              - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}
"""


def mesh_document(backends, weights=WEIGHTS):
    """The mesh file of the two versions behind shop.local."""
    nodes = "".join(NODE.format(name=f"v{index + 1}", port=port) for index, port in enumerate(backends))
    return MESH.format(nodes=nodes, first=weights[0], second=weights[1])


def start_tidegate(stage, backends, core, binary=None, name="tidegate", weights=WEIGHTS, workers=1):
    """`tidegate local` with everything on: routing, health checks, histograms, the mesh API, the rollout engine."""
    ports = {face: rig.free_port() for face in ("egress", "api", "appmesh", "xds", "admin")}
    mesh = stage.write(f"{name}-mesh.yaml", mesh_document(backends, weights))
    (stage.directory / f"{name}-policies").mkdir()
    command = [binary or rig.TIDEGATE, "local", "--workers", workers, "--mesh", mesh]
    command += ["--policies", stage.directory / f"{name}-policies", "--data-dir", stage.directory / f"{name}-data"]
    for face, port in ports.items():
        command += [f"--{face}", f"127.0.0.1:{port}"]
    process = stage.start(name, command, core, ports["egress"])
    return process, ports


def start_haproxy(stage, backends, core):
    """HAProxy with one thread."""
    binary, port = rig.need("haproxy", "haproxy"), rig.free_port()
    config = stage.write("haproxy.cfg", HAPROXY.format(port=port, first=backends[0], second=backends[1]))
    # -db: in the foreground, one process.
    return stage.start("haproxy", [binary, "-db", "-f", config], core, port), port


def start_nginx(stage, backends, core):
    """nginx with one process."""
    binary, port = rig.need("nginx", "nginx-light"), rig.free_port()
    config = stage.write("nginx.conf", NGINX.format(port=port, first=backends[0], second=backends[1]))
    command = [binary, "-p", stage.directory, "-e", "stderr", "-c", config]
    return stage.start("nginx", command, core, port), port


def start_envoy(stage, backends, core):
    """Envoy with one worker; its default statistics, no access log, no request ids."""
    binary, port = rig.envoy_binary(), rig.free_port()
    clusters = "".join(ENVOY_CLUSTER.format(name=f"v{i + 1}", port=p) for i, p in enumerate(backends))
    config = stage.write("envoy.yaml", ENVOY.format(port=port, clusters=clusters))
    command = [binary, "-c", config, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]
    return stage.start("envoy", command, core, port), port


def start_relay(stage, backends, core):
    """Bytes from socket to socket without a look at them: what no proxy on this runtime can be cheaper than."""
    port = rig.free_port()
    command = [rig.RELAY, f"127.0.0.1:{port}", *(f"127.0.0.1:{backend}" for backend in backends)]
    return stage.start("relay", command, core, port), port
