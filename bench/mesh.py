"""What one change costs in a small mesh and in a large one: `make bench-mesh`.

A daemon gets a mesh of services, each with a node, a router and a route, by one create after the other over the App Mesh
API. At 100, 1,000 and 10,000 resources its CPU time for the last creates is taken, then that of UpdateRoute, and at the
end that of a listing by pages. The figures that count are ratios between the sizes: a change should cost as much in a
large mesh as in a small one.

Two daemons, one after the other: `tidegate local --as m/s00000`, whose proxy sees one node's part, as Envoys do; and
`tidegate local`, whose proxy sees all services and goes through all of them for each configuration. Only the first has a
target.
"""

import argparse
import http.client
import json
import pathlib
import sys
import time

import rig

SIZES = (100, 1_000, 10_000)
# How many changes one figure is taken over; the kernel counts CPU time in hundredths of a second.
CHANGES = 400
LISTENERS = [{"portMapping": {"port": 80, "protocol": "http"}}]
# A hundred times the resources may cost so much more: the trees are a little deeper, and the caches miss.
TARGET = 2.0


def arguments():
    """How much of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=pathlib.Path, default=rig.TIDEGATE, help="measure this binary instead, and build none")
    parser.add_argument("--no-build", action="store_true", help="run the binary as it is")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="resources [100 1000 10000]")
    return parser.parse_args()


class Api:
    """One kept-alive connection to the App Mesh API."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def call(self, method, path, body=None):
        """The answer of one operation."""
        text = json.dumps(body) if body is not None else None
        self.connection.request(method, f"/v20190125/{path}", text, {"content-type": "application/json"})
        response = self.connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"{method} {path} was answered {response.status}: {answer[:200]}")
        return json.loads(answer)


def route(node, weight):
    """Spec of a route with one target."""
    targets = [{"virtualNode": node, "weight": weight}]
    return {"httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": targets}}}


def creations():
    """Path and body of one create after the other, for ever."""
    yield "meshes", {"meshName": "m"}
    number = 0
    while True:
        name = f"s{number:05}"
        discovery = {"dns": {"hostname": "127.0.0.1"}}
        spec = {"serviceDiscovery": discovery, "listeners": LISTENERS}
        yield "meshes/m/virtualNodes", {"virtualNodeName": name, "spec": spec}
        yield "meshes/m/virtualRouters", {"virtualRouterName": name, "spec": {"listeners": LISTENERS}}
        yield f"meshes/m/virtualRouter/{name}/routes", {"routeName": "x", "spec": route(name, 1)}
        provider = {"virtualRouter": {"virtualRouterName": name}}
        yield "meshes/m/virtualServices", {"virtualServiceName": f"{name}.local", "spec": {"provider": provider}}
        number += 1


def cost_ms(process, count, what):
    """CPU time of the daemon for each of `count` changes, and how long each took for the caller."""
    before, began = sum(rig.cpu_seconds(process)), time.monotonic()
    for number in range(count):
        what(number)
    waited = time.monotonic() - began
    return {"cpu_ms": (sum(rig.cpu_seconds(process)) - before) * 1e3 / count, "answered_ms": waited * 1e3 / count}


def run(stage, options, name, more):
    """The figures of one daemon, by size."""
    faces = ("api", "appmesh", "xds", "egress", "admin")
    ports = {face: rig.free_port() for face in faces}
    listen = [part for face in faces for part in (f"--{face}", f"127.0.0.1:{ports[face]}")]
    policies = stage.directory / f"{name}-policies"
    policies.mkdir()
    command = [options.binary.resolve(), "local", "--data-dir", stage.directory / name, "--policies", policies, *listen, *more]
    process = stage.start(name, command, wait_for=ports["appmesh"])
    api, source, made, results = Api(ports["appmesh"]), creations(), 0, {}

    def create(_):
        api.call("PUT", *next(source))

    for size in sorted(options.sizes):
        last = min(CHANGES, (size - made) // 2)
        while made < size - last:
            create(None)
            made += 1
        creates = cost_ms(process, last, create)
        made = size
        services = size // 4 - 1

        def update(number, services=services):
            name = f"s{number * 7919 % services:05}"
            api.call("PUT", f"meshes/m/virtualRouter/{name}/routes/x", {"spec": route(name, number % 100 + 1)})

        results[size] = {"create": creates, "update_route": cost_ms(process, CHANGES, update)}
        results[size]["memory_mib"] = rig.memory_kib(process) / 1024
        rig.say(f"{size} resources: {results[size]}")

    def listing(_):
        path, count = "meshes/m/virtualNodes", 0
        while path:
            page = api.call("GET", path)
            count += len(page["virtualNodes"])
            path = f"meshes/m/virtualNodes?nextToken={page['nextToken']}" if page.get("nextToken") else None
        assert count >= services, count

    results[size]["listing"] = cost_ms(process, 5, listing)
    return results


def table(name, results):
    """Prints the figures of one daemon; by how much a change costs more in the largest mesh than in the smallest."""
    sizes = sorted(results)
    print(f"\n{name}\n\n| resources | create, CPU ms | × | UpdateRoute, CPU ms | × | answered, ms | memory, MiB |")
    print("|---|---|---|---|---|---|---|")
    ratios = {}
    for size in sizes:
        cells = []
        for what in ("create", "update_route"):
            cost = results[size][what]["cpu_ms"]
            ratios[what] = cost / max(results[sizes[0]][what]["cpu_ms"], 1e-3)
            cells.append(f"{cost:.2f} | {ratios[what]:.1f}")
        answered = results[size]["update_route"]["answered_ms"]
        print(f"| {size:,} | {' | '.join(cells)} | {answered:.2f} | {results[size]['memory_mib']:.0f} |")
    print(f"\nA listing of all nodes by pages: {results[sizes[-1]]['listing']['cpu_ms']:.1f} ms CPU.")
    return ratios


def main():
    """Exit code 1 when a change costs too much more in the largest mesh."""
    options = arguments()
    if not options.no_build and options.binary == rig.TIDEGATE:
        rig.build_tidegate()
    daemons = {"one-node": ["--as", "m/s00000"], "all-services": []}
    results, ratios = {}, {}
    with rig.Stage() as stage:
        for name, more in daemons.items():
            results[name] = run(stage, options, name, more)
    for name, figures in results.items():
        ratios[name] = table(name, figures)
    rig.write_json("mesh", {"machine": rig.machine(), "daemons": results})
    missed = {what: ratio for what, ratio in ratios["one-node"].items() if ratio > TARGET}
    for what, ratio in missed.items():
        print(f"MISSED: {what} costs {ratio:.1f} times as much in the largest mesh; at most {TARGET}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
