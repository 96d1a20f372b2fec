"""The rows of the comparison beside the plain one: what each adds, for every proxy alike.

- `access-log`: one line for each request into a file, in each proxy's usual form and with its usual buffering (HAProxy
  writes no files itself: to its standard output, which is one here).
- `http2`: HTTP/2 without TLS on both sides, 8 connections of 8 streams. nginx speaks none to its upstreams.
- `grpc`: unary calls of gRPC over the same connections: a body of 15 bytes, an answer of 45 and trailers, routed as gRPC.
- `tls`: TLS on both sides, HTTP/1.1 kept alive, certificates of upstreams judged by their authority.

Tidegate is `tidegate proxy` here, beside a control plane that is not measured: as a node's proxy, and with `tls` as a
virtual gateway, since a node's proxy takes TLS for its own application alone.
"""

import re
import subprocess

import proxies
import rig

# Rows, with the highest ratio of tidegate's CPU time for a request to that of each peer.
TARGETS = {
    "plain": {"haproxy": 1.10, "envoy": 0.30, "relay": 1.55},
    "access-log": {"haproxy": 1.00, "envoy": 0.30},
    "http2": {"envoy": 0.40},
    "grpc": {"envoy": 0.40},
    "tls": {"haproxy": 1.10, "envoy": 0.40},
}

MESH = """\
meshName: bench
---
{nodes}meshName: bench
virtualRouterName: shop
spec: {{ listeners: [{{ portMapping: {{ port: 80, protocol: {protocol} }} }}] }}
---
meshName: bench
virtualRouterName: shop
routeName: all
spec:
  {kind}:
    match: {match}
    action: {{ weightedTargets: [{{ virtualNode: v1, weight: 90 }}, {{ virtualNode: v2, weight: 10 }}] }}
---
meshName: bench
virtualServiceName: shop.local
spec: {{ provider: {{ virtualRouter: {{ virtualRouterName: shop }} }} }}
---
meshName: bench
virtualNodeName: web
spec:
  listeners: [{{ portMapping: {{ port: 80, protocol: http }} }}]
  serviceDiscovery: {{ dns: {{ hostname: 127.0.0.1 }} }}
  backends: [{{ virtualService: {{ virtualServiceName: shop.local }} }}]
{logging}---
meshName: bench
virtualGatewayName: front
spec:
  backendDefaults: {{ clientPolicy: {{ tls: {{ validation: {{ trust: {{ file: {{ certificateChain: {ca} }} }} }} }} }} }}
  listeners:
    - portMapping: {{ port: {port}, protocol: http }}
      tls: {{ mode: STRICT, certificate: {{ file: {{ certificateChain: {certificate}, privateKey: {key} }} }} }}
---
meshName: bench
virtualGatewayName: front
gatewayRouteName: all
spec:
  httpRoute:
    match: {{ prefix: / }}
    action: {{ target: {{ virtualService: {{ virtualServiceName: shop.local }} }} }}
"""

NODE = """\
meshName: bench
virtualNodeName: {name}
spec:
  serviceDiscovery: {{ dns: {{ hostname: localhost }} }}
  listeners:
    - portMapping: {{ port: {port}, protocol: {protocol} }}
      healthCheck: {{ protocol: {protocol}, {path}intervalMillis: 5000, timeoutMillis: 2000, healthyThreshold: 2, unhealthyThreshold: 2 }}
{tls}---
"""


# A message of gRPC (five bytes before it tell its length): `SERVING` to a health check, and a field that nobody knows.
GRPC_ANSWER = b"\x00\x00\x00\x00\x28" + b"\x08\x01" + b"\x7a\x24" + b"x" * 36
GRPC_REQUEST = b"\x00\x00\x00\x00\x0a" + b"\x7a\x08" + b"x" * 8


class Row:
    """What one row takes: its name, its files, and how proxies of it are started and loaded."""

    def __init__(self, name, stage):
        self.name, self.stage = name, stage
        self.is_http2, self.is_tls, self.logs = name in ("http2", "grpc"), name == "tls", name == "access-log"
        self.is_grpc = name == "grpc"
        self.ca = self.certificate = self.key = "none"
        if self.is_tls:
            self._issue()

    def _issue(self):
        """An authority, and a certificate of it for localhost."""
        openssl, at = rig.need("openssl", "openssl"), self.stage.directory
        self.ca, self.certificate, self.key = at / "ca.pem", at / "cert.pem", at / "key.pem"
        names = self.stage.write("names.ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        calls = [
            ["req", "-x509", *curve, "-keyout", at / "ca.key", "-out", self.ca, "-subj", "/CN=bench authority", "-days", "2"],
            ["req", *curve, "-keyout", self.key, "-out", at / "cert.csr", "-subj", "/CN=localhost"],
            ["x509", "-req", "-in", at / "cert.csr", "-CA", self.ca, "-CAkey", at / "ca.key", "-CAcreateserial",
             "-out", self.certificate, "-days", "2", "-extfile", names],
        ]
        for call in calls:
            subprocess.run([openssl, *map(str, call)], check=True, capture_output=True)
        # nginx and HAProxy drop their rights and must still read it; HAProxy wants both in one file.
        self.key.chmod(0o644)
        self.stage.write("both.pem", self.certificate.read_text() + self.key.read_text())

    def start_backend(self, core):
        """Two servers in one nginx process; returns their ports."""
        nginx, ports = rig.need("nginx", "nginx-light"), [rig.free_port(), rig.free_port()]
        words = " ssl" if self.is_tls else " http2" if self.is_http2 else ""
        text = rig.backend_config(ports).replace(" backlog=4096;", f"{words} backlog=4096;")
        if self.is_tls:
            text = text.replace("access_log off;", f"access_log off; ssl_certificate {self.certificate}; ssl_certificate_key {self.key};")
        if self.is_grpc:
            text = self._answering_grpc(text)
        config = self.stage.write("backend.conf", text)
        self.stage.start("backend", [nginx, "-p", self.stage.directory, "-e", "stderr", "-c", config], core, ports[0])
        return ports

    def _answering_grpc(self, text):
        """Each server answers every call with the same message: from a file, since a setting holds no zero bytes."""
        (self.stage.directory / "answer").write_bytes(GRPC_ANSWER)
        (self.stage.directory / "request").write_bytes(GRPC_REQUEST)
        files = f"root {self.stage.directory}; error_page 405 =200 /answer; default_type application/grpc; add_trailer grpc-status 0;"
        return re.sub(r"location / \{[^}]*\}", f"{files} open_file_cache max=10; location / {{ try_files /answer =404; }}", text)

    def load(self, port, seconds, core):
        """One measurement's worth of requests."""
        if self.is_http2:
            return h2load(port, seconds, core, self.stage.directory / "request" if self.is_grpc else None)
        return rig.wrk(port, seconds, core, scheme="https" if self.is_tls else "http")

    def starters(self):
        """Peers that can do it, by name."""
        all_of_them = {"haproxy": self.start_haproxy, "nginx": self.start_nginx, "envoy": self.start_envoy}
        if self.is_http2:
            del all_of_them["nginx"]
        return all_of_them

    def start_tidegate(self, stage, backends, core, binary=None, name="tidegate"):
        """A control plane, which is not measured, and one proxy of it."""
        binary, port = binary or rig.TIDEGATE, rig.free_port()
        protocol = "grpc" if self.is_grpc else "http2" if self.is_http2 else "http"
        tls = f"      tls: {{ mode: STRICT, certificate: {{ file: {{ certificateChain: {self.certificate}, privateKey: {self.key} }} }} }}\n"
        nodes = "".join(
            NODE.format(
                name=f"v{i + 1}", port=p, protocol=protocol, path="" if self.is_grpc else "path: /, ", tls=tls if self.is_tls else ""
            )
            for i, p in enumerate(backends)
        )
        log = f"  logging: {{ accessLog: {{ file: {{ path: {stage.directory / name}-access.log }} }} }}\n"
        mesh = MESH.format(
            nodes=nodes, protocol=protocol, kind=f"{protocol}Route", match="{}" if self.is_grpc else "{ prefix: / }",
            logging=log if self.logs else "", ca=self.ca, certificate=self.certificate, key=self.key, port=port,
        )
        mesh = stage.write(f"{name}-mesh.yaml", mesh if self.is_tls else mesh.split("---\nmeshName: bench\nvirtualGatewayName")[0])
        faces = {face: rig.free_port() for face in ("egress", "api", "appmesh", "xds", "admin")}
        (stage.directory / f"{name}-policies").mkdir()
        control = [binary, "local", "--mesh", mesh, "--policies", stage.directory / f"{name}-policies"]
        # As a node: else it would open the gateway itself, at the port of the proxy that is measured.
        control += ["--as", "bench/web"]
        control += ["--data-dir", stage.directory / f"{name}-data"]
        for face, at in faces.items():
            control += [f"--{face}", f"127.0.0.1:{at}"]
        stage.start(f"{name}-control", control, None, faces["xds"])
        node = "virtualGateway/front" if self.is_tls else "virtualNode/web"
        command = [binary, "proxy", "--workers", 1, "--node", f"mesh/bench/{node}", "--control-plane", f"http://127.0.0.1:{faces['xds']}"]
        command += ["--admin", "127.0.0.1:0", "--ingress", "127.0.0.1:0"]
        command += ["--egress", "127.0.0.1:0" if self.is_tls else f"127.0.0.1:{port}"]
        return stage.start(name, command, core, port), {"egress": port}

    def start_haproxy(self, stage, backends, core):
        """HAProxy with one thread."""
        binary, port = rig.need("haproxy", "haproxy"), rig.free_port()
        text = proxies.HAPROXY.format(port=port, first=backends[0], second=backends[1])
        if self.logs:
            text = text.replace("defaults\n", "    log stdout len 1024 format raw local0\ndefaults\n    log global\n    option httplog\n")
        if self.is_http2:
            text = text.replace(f":{port}\n", f":{port} proto h2\n").replace(" check inter", " proto h2 check check-proto h2 inter")
            # nginx answers 400 to a request of HTTP/2 that names no host.
            text = text.replace("option httpchk GET /\n", "option httpchk\n    http-check send meth GET uri / hdr host shop.local\n")
        if self.is_tls:
            text = text.replace(f":{port}\n", f":{port} ssl crt {stage.directory}/both.pem alpn http/1.1\n")
            text = text.replace(" check inter", f" ssl verify required ca-file {self.ca} sni str(localhost) alpn http/1.1 check check-ssl inter")
        config = stage.write("haproxy.cfg", text)
        return stage.start("haproxy", [binary, "-db", "-f", config], core, port), port

    def start_nginx(self, stage, backends, core):
        """nginx with one process."""
        binary, port = rig.need("nginx", "nginx-light"), rig.free_port()
        text = proxies.NGINX.format(port=port, first=backends[0], second=backends[1])
        if self.logs:
            text = text.replace("access_log off;", f"access_log {stage.directory}/nginx-access.log combined;")
        if self.is_tls:
            text = text.replace("backlog=4096;", f"ssl backlog=4096; ssl_certificate {self.certificate}; ssl_certificate_key {self.key};")
            judged = f"proxy_pass https://shop; proxy_ssl_verify on; proxy_ssl_trusted_certificate {self.ca}; proxy_ssl_name localhost;"
            text = text.replace("proxy_pass http://shop;", judged)
        config = stage.write("nginx.conf", text)
        return stage.start("nginx", [binary, "-p", stage.directory, "-e", "stderr", "-c", config], core, port), port

    def start_envoy(self, stage, backends, core):
        """Envoy with one worker; its default statistics."""
        binary, port = rig.envoy_binary(), rig.free_port()
        clusters = "".join(proxies.ENVOY_CLUSTER.format(name=f"v{i + 1}", port=p) for i, p in enumerate(backends))
        text = proxies.ENVOY.format(port=port, clusters=clusters)
        if self.logs:
            log = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
            path = stage.directory / "envoy-access.log"
            line = f'                access_log: [{{ name: file, typed_config: {{ "@type": type.googleapis.com/{log}, path: {path} }} }}]\n'
            text = text.replace("                generate_request_id: false\n", "                generate_request_id: false\n" + line)
        if self.is_http2:
            options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
            line = (
                f'      typed_extension_protocol_options: {{ {options}: {{ "@type": type.googleapis.com/{options}, '
                "explicit_http_config: { http2_protocol_options: {} } } }\n"
            )
            text = text.replace("codec_type: HTTP1", "codec_type: HTTP2").replace("http_health_check: { path: / }", "http_health_check: { path: /, codec_client_type: HTTP2 }")
            text = text.replace("      connect_timeout: 1s\n", "      connect_timeout: 1s\n" + line)
        if self.is_tls:
            text = self._with_tls(text)
        config = stage.write("envoy.yaml", text)
        command = [binary, "-c", config, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]
        return stage.start("envoy", command, core, port), port

    def _with_tls(self, text):
        """Envoy's configuration with TLS on both sides."""
        kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
        pair = f"{{ certificate_chain: {{ filename: {self.certificate} }}, private_key: {{ filename: {self.key} }} }}"
        server = (
            f'          transport_socket: {{ name: tls, typed_config: {{ "@type": {kind}.DownstreamTlsContext, '
            f"common_tls_context: {{ alpn_protocols: [http/1.1], tls_certificates: [{pair}] }} }} }}\n"
        )
        client = (
            f'      transport_socket: {{ name: tls, typed_config: {{ "@type": {kind}.UpstreamTlsContext, sni: localhost, '
            f"common_tls_context: {{ alpn_protocols: [http/1.1], validation_context: {{ trusted_ca: {{ filename: {self.ca} }} }} }} }} }}\n"
        )
        text = text.replace("        - filters:\n", "        -\n" + server + "          filters:\n")
        return text.replace("      connect_timeout: 1s\n", "      connect_timeout: 1s\n" + client)


def h2load(port, seconds, core, body=None):
    """One run of h2load with one thread, of calls of gRPC where there is a body; fails when a request does."""
    command = ["taskset", "-c", str(core), rig.need("h2load", "nghttp2-client"), "-t1", "-c8", "-m8", "-D", str(seconds)]
    command += ["--header", ":authority: shop.local"]
    if body:
        command += ["--data", body, "--header", "content-type: application/grpc", "--header", "te: trailers"]
    command += [f"http://127.0.0.1:{port}/{'shop.Shop/Buy' if body else ''}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counts = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", done)
    statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done)
    if not counts or not statuses or int(counts[4]) or any(int(one) for one in statuses.groups()[1:]):
        raise RuntimeError(f"port {port}: {done[-600:]}")
    longest, unit = re.search(r"time for request:\s+\S+\s+([\d.]+)(us|ms|s)\b", done).groups()
    return {
        "requests": int(counts[3]),
        "requests_per_s": float(re.search(r"([\d.]+) req/s", done)[1]),
        # h2load tells the longest and not the 99th of a hundred.
        "p99_ms": float(longest) * rig.UNITS[unit],
    }
