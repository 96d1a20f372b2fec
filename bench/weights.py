"""Changes weights under load and reports what it cost: `make bench-weights`.

All the weight of a route goes from one version to the other and back, 1,000 times, by UpdateRoute calls over the App
Mesh API, while clients send requests without a pause over connections that they keep. Two figures come out:

* requests lost: no answer, another status than 200, or a connection that broke. It must be 0.
* the time from the answer of UpdateRoute to the last request that was still routed by the old weights, as the client
  sees it: when it began to send, and which version's header came back. A request that began before UpdateRoute was
  answered may go either way.
"""

import argparse
import http.client
import json
import multiprocessing
import selectors
import socket
import sys
import time

import proxies
import rig

LOAD_CORE = 0
PATH = "/v20190125/meshes/bench/virtualRouter/shop/routes/all"
REQUEST = b"GET / HTTP/1.1\r\nHost: shop.local\r\n\r\n"
TARGET_P99_MS = 5.0


def arguments():
    """How much of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=1000, help="weight changes [1000]")
    parser.add_argument("--pause-ms", type=float, default=20, help="from the answer to the next change [20]")
    parser.add_argument("--connections", type=int, default=16, help="connections of the load [16]")
    parser.add_argument("--no-build", action="store_true", help="run the binary as it is")
    return parser.parse_args()


class Connection:
    """A kept-alive connection with one request under way."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = 0
        self.received = b""

    def send(self):
        """Begins a request."""
        self.received = b""
        self.began = time.monotonic_ns()
        self.socket.sendall(REQUEST)

    def receive(self):
        """The version that answered; None while the answer is not complete."""
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the proxy closed the connection")
        self.received += piece
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator or len(body) < 45:
            return None
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(head.partition(b"\r\n")[0].decode(errors="replace"))
        return head.lower().partition(b"x-version: v")[2][:1]


def load(port, connections, stop, results):
    """Sends requests until told to stop; hands over (when it began, which version answered) of each, and the losses."""
    selector, log, lost = selectors.DefaultSelector(), [], []

    def connect():
        connection = Connection(port)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.send()

    for _ in range(connections):
        connect()
    # The counted ones begin before the stop and are waited for: one that never ends is lost too.
    under_way, limit = connections, None
    while under_way and (limit is None or time.monotonic() < limit):
        if stop.is_set() and limit is None:
            limit = time.monotonic() + 5
        for key, _ in selector.select(timeout=0.2):
            connection = key.data
            try:
                version = connection.receive()
                if version is None:
                    continue
                log.append((connection.began, int(version)))
                if limit is not None:
                    under_way -= 1
                    continue
                connection.send()
            except (OSError, ValueError) as error:
                lost.append(f"{type(error).__name__}: {error}")
                selector.unregister(connection.socket)
                connection.socket.close()
                if limit is not None:
                    under_way -= 1
                else:
                    connect()
    lost += ["no answer"] * under_way
    results.send((log, lost))


def route_with(weights):
    """Body of an UpdateRoute."""
    targets = [{"virtualNode": f"v{index + 1}", "weight": weight} for index, weight in enumerate(weights)]
    return json.dumps({"spec": {"httpRoute": {"match": {"prefix": "/"}, "action": {"weightedTargets": targets}}}})


def change_weights(port, changes, pause):
    """Moves all the weight back and forth; when each UpdateRoute was asked and answered, and which version lost it."""
    api = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    made = []
    for number in range(changes):
        to_second = number % 2 == 0
        asked = time.monotonic_ns()
        api.request("PUT", PATH, route_with((0, 100) if to_second else (100, 0)), {"content-type": "application/json"})
        response = api.getresponse()
        response.read()
        answered = time.monotonic_ns()
        if response.status != 200:
            raise RuntimeError(f"UpdateRoute was answered {response.status}")
        made.append((asked, answered, 1 if to_second else 2))
        time.sleep(pause)
    return made


def delays_ms(made, log):
    """For each change, how long after its answer the last request began that the version without weight answered."""
    log = sorted(log)
    delays, at = [], 0
    for index, (_, answered, loser) in enumerate(made):
        until = made[index + 1][0] if index + 1 < len(made) else float("inf")
        last = answered
        while at < len(log) and log[at][0] < until:
            if log[at][0] > last and log[at][1] == loser:
                last = log[at][0]
            at += 1
        delays.append((last - answered) / 1e6)
    return delays


def run(stage, options):
    """The load in a process of its own, the changes in this one."""
    backends = rig.start_backend(stage, LOAD_CORE, header=True)
    _, ports = proxies.start_tidegate(stage, backends, None, weights=(100, 0), workers=2)
    stop = multiprocessing.Event()
    ours, theirs = multiprocessing.Pipe()
    sender = multiprocessing.Process(target=load, args=(ports["egress"], options.connections, stop, theirs), daemon=True)
    sender.start()
    try:
        time.sleep(1)
        made = change_weights(ports["appmesh"], options.changes, options.pause_ms / 1e3)
        stop.set()
        # Read before the join: a pipe that is full would keep the process from ending.
        log, lost = ours.recv() if ours.poll(30) else ([], ["the load did not end"])
        sender.join(5)
    finally:
        if sender.is_alive():
            sender.kill()
    return made, log, lost


def main():
    """Exit code 1 when a request was lost or the target is missed."""
    options = arguments()
    if not options.no_build:
        rig.build_tidegate()
    with rig.Stage() as stage:
        made, log, lost = run(stage, options)
    delays = delays_ms(made, log)
    calls = [(answered - asked) / 1e6 for asked, answered, _ in made]
    seconds = (made[-1][1] - made[0][0]) / 1e9
    result = {
        "machine": rig.machine(),
        "changes": len(made),
        "requests": len(log),
        "requests_per_s": len([began for began, _ in log if began >= made[0][0]]) / seconds,
        "lost": len(lost),
        "answered_by_both": len({version for _, version in log}) == 2,
        "update_route_ms": {"p50": rig.quantile(calls, 0.5), "p99": rig.quantile(calls, 0.99)},
        "last_by_old_weights_ms": {
            "p50": rig.quantile(delays, 0.5),
            "p99": rig.quantile(delays, 0.99),
            "max": max(delays),
            "changes_with_any": sum(delay > 0 for delay in delays),
        },
    }
    print(f"{len(made)} weight changes in {seconds:.0f} s under {result['requests_per_s']:,.0f} requests/s")
    print(f"requests lost: {len(lost)} of {len(log)}", *lost[:5], sep="\n  ")
    old, call = result["last_by_old_weights_ms"], result["update_route_ms"]
    print(f"UpdateRoute: p50 {call['p50']:.1f} ms, p99 {call['p99']:.1f} ms")
    print(
        f"its answer to the last request by the old weights: p50 {old['p50']:.2f} ms, p99 {old['p99']:.2f} ms, "
        f"max {old['max']:.2f} ms ({old['changes_with_any']} changes had any; target p99 <= {TARGET_P99_MS:.0f} ms)"
    )
    rig.write_json("weights", result)
    return 0 if not lost and result["answered_by_both"] and old["p99"] <= TARGET_P99_MS else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
