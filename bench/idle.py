"""Memory that idle client connections take: `make bench-idle`.

Opens 10,000 connections to each proxy, makes one request over each, waits until the proxy has settled, and compares the
memory that belongs to the proxy's process alone. Needs a limit of about 12,000 open files (`ulimit -n`).
"""

import argparse
import resource
import socket
import ssl
import sys
import time

import proxies
import rig
import rows

REQUEST = b"GET / HTTP/1.1\r\nHost: shop.local\r\nUser-Agent: idle\r\nAccept: */*\r\n\r\n"
STARTERS = {"haproxy": proxies.start_haproxy, "nginx": proxies.start_nginx, "envoy": proxies.start_envoy}
# The highest ratio of tidegate's memory for the connections to that of each peer.
TARGETS = {"haproxy": 1.0, "envoy": 0.25}


def arguments():
    """How much of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=10_000, help="idle connections [10000]")
    parser.add_argument("--settle", type=float, default=8, help="seconds from the last request to the reading [8]")
    parser.add_argument("--only", help="proxies to measure, with commas [tidegate,haproxy,nginx,envoy]")
    parser.add_argument("--tls", action="store_true", help="connections with TLS, to upstreams with TLS")
    parser.add_argument("--sidecar", action="store_true", help="as `tidegate proxy`, as with --tls, and not the daemon of `tidegate local`")
    parser.add_argument("--no-build", action="store_true", help="measure the binary as it is")
    parser.add_argument(
        "--against", metavar="NAME=PATH", action="append", default=[], help="another tidegate binary, measured beside"
    )
    return parser.parse_args()


def use(connection):
    """One request and its whole answer."""
    connection.sendall(REQUEST)
    received = b""
    while not received.endswith(b"x\n"):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError(f"closed after {received!r}")
        received += piece
    if not received.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(received.split(b"\r\n")[0].decode())


def connect(port, tls):
    """A connection of a client, with TLS where there is a context for it."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    return tls.wrap_socket(connection, server_hostname="localhost") if tls else connection


def measure(process, port, options, tls):
    """Private memory before, with the idle connections, and whether they still work afterwards."""
    count = options.connections
    rig.wrk(port, 1, connections=16, scheme="https" if tls else "http")
    before = rig.memory_kib(process)
    connections = []
    try:
        for _ in range(count):
            connection = connect(port, tls)
            use(connection)
            connections.append(connection)
        time.sleep(options.settle)
        idle, clean = rig.memory_kib(process), rig.memory_kib(process, "Clean")
        for connection in connections[:: max(1, count // 100)]:
            use(connection)
    finally:
        for connection in connections:
            connection.close()
    return {"before_kib": before, "idle_kib": idle, "clean_kib": clean, "kib_each": (idle - before) / count}


def main():
    """Exit code 1 when a target is missed."""
    options = arguments()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < options.connections + 1000:
        rig.say(f"skipped: needs a limit of {options.connections + 1000} open files, this machine allows {hard}")
        return 0
    wanted = options.only.split(",") if options.only else ["tidegate", *STARTERS]
    if not options.no_build and "tidegate" in wanted:
        rig.build_tidegate()
    binaries = dict(other.split("=", 1) for other in options.against)
    results = {}
    for name in [*wanted, *binaries]:
        with rig.Stage() as stage:
            row = rows.Row("tls" if options.tls else "plain", stage) if options.tls or options.sidecar else None
            tls = ssl.create_default_context(cafile=row.ca) if options.tls else None
            backends = row.start_backend(None) if row else rig.start_backend(stage)
            starters, start_tidegate = (row.starters(), row.start_tidegate) if row else (STARTERS, proxies.start_tidegate)
            try:
                if name in starters:
                    process, port = starters[name](stage, backends, None)
                else:
                    process, ports = start_tidegate(stage, backends, None, binaries.get(name), name)
                    port = ports["egress"]
            except rig.Unavailable as missing:
                rig.say(f"skipped: {name}: {missing}")
                continue
            results[name] = measure(process, port, options, tls)
    print(f"| proxy | before, MiB | with {options.connections:,} idle, MiB | of that its program, MiB | KiB each |\n|---|---|---|---|---|")
    for name, one in results.items():
        before, idle, clean = (one[kind] / 1024 for kind in ("before_kib", "idle_kib", "clean_kib"))
        print(f"| {name} | {before:.1f} | {idle:.1f} | {clean:.1f} | {one['kib_each']:.2f} |")
    name = "idle-tls" if options.tls else "idle-sidecar" if options.sidecar else "idle"
    rig.write_json(name, {"machine": rig.machine(), "connections": options.connections, "results": results})
    mine = results.get("tidegate")
    missed = [p for p, most in TARGETS.items() if mine and p in results and mine["idle_kib"] > most * results[p]["idle_kib"]]
    if missed:
        print("MISSED: more memory than allowed beside", ", ".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
