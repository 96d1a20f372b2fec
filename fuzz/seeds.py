"""Writes what the fuzzer begins with into fuzz/seeds: the recorded exchanges, the meshes of the tests and examples, and
what an Envoy says first. `make fuzz` runs it."""

import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
SEEDS = ROOT / "fuzz" / "seeds"
TYPES = {
    "envoy.config.cluster.v3.Cluster": [],
    "envoy.config.endpoint.v3.ClusterLoadAssignment": ["cds_egress_m_v1_http_80"],
    "envoy.config.listener.v3.Listener": [],
    "envoy.config.route.v3.RouteConfiguration": ["rds_egress"],
}


def write(target, name, data):
    """One input."""
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def field(number, text):
    """A field of a message: text, or a message within."""
    data = text if isinstance(text, bytes) else text.encode()
    assert len(data) < 128, "longer lengths need more than a byte"
    return bytes([number << 3 | 2, len(data)]) + data


def stream(form, messages):
    """An input of `discovery`."""
    return bytes([form]) + b"".join(len(message).to_bytes(2, "little") + message for message in messages)


def main():
    """All of them."""
    requests = []
    for path in sorted((ROOT / "tests" / "golden" / "mesh").glob("*.json")):
        request = json.loads(path.read_text())["request"]
        body = json.dumps(request["body"]) if request.get("body") is not None else ""
        target = request["path"] + ("?" + request["query"] if request.get("query") else "")
        requests.append(f"{request['method']} {target}\n{body}")
        write("operations", path.stem, requests[-1].encode())
    creations = [request for request in requests if request.startswith("PUT")]
    write("operations", "all", "\n--\n".join(sorted(creations, key=lambda request: request.count("/"))).encode())

    for folder in ["tests", "examples", "src/testing"]:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".yaml", ".yml", ".json") and b"mesh" in path.read_bytes().lower():
                write("documents", str(path.relative_to(ROOT)).replace("/", "-"), path.read_bytes())

    whole, delta = [], []
    for number, (kind, names) in enumerate(TYPES.items(), start=1):
        url = f"type.googleapis.com/{kind}"
        wanted = b"".join(field(3, name) for name in names)
        whole += [wanted + field(4, url), wanted + field(4, url) + field(5, str(number))]
        delta += [field(2, url) + wanted, field(2, url) + field(6, str(number))]
        refusal = field(2, "no such secret")
        write("discovery", f"refused-{number}", stream(0, [wanted + field(4, url), field(4, url) + field(5, "1") + field(6, refusal)]))
        write("discovery", f"unsubscribed-{number}", stream(1, [field(2, url) + field(3, "*"), field(2, url) + field(4, "*")]))
    for number, request in enumerate([
        b"/a/%2e%2e/b//c/./%2F\\d;x/..;y\nShop.local:80\nhost: a\nconnection: close, x-own\nx-own: 1",
        b"*\n[::1]:8080\ntransfer-encoding: chunked\ncontent-length: 5\nte: gzip, trailers\ncookie: a\ncookie: b",
    ]):
        write("requests", str(number), request)
    for number, tags in enumerate([
        b"v1,v2\ntidegate:fault abort=503 delay=20ms abort-percent=12.5 target=v2 header=x-try:1\ntidegate:override header=x cookie=y",
        b"v1\ntidegate:affinity cookie=s ttl=1h path=/\ntidegate:limit requests=10 per=1s burst=20\ntidegate:mirror target=v1 percent=5",
        b"\ntidegate:balance by=least-request slow-start=30s\ntidegate:retry-budget percent=20 least=3\nteam tidegate:",
    ]):
        write("tags", str(number), tags)
    for number, answer in enumerate([
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: a\r\n\r\nhello and more",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nx-late: 1\r\n\r\n",
        b"HTTP/1.0 200 Fine\r\nconnection: keep-alive\r\n\r\nuntil the end",
    ]):
        for how in range(0, 12, 3):
            write("answers", f"{number}-{how}", bytes([how]) + answer)
    write("discovery", "whole", stream(0, whole))
    write("discovery", "delta", stream(1, delta))


if __name__ == "__main__":
    main()
