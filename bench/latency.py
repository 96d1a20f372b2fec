"""Latency that each proxy adds at half of saturation: `make bench-latency`.

First how much each proxy takes at most (wrk, as much as goes). Then requests at a fixed rate, over 64 connections: half of
what HAProxy takes, for a proxy that takes less half of its own; and the same straight to the backend, whose latency is taken
off. Every proxy in turn, several rounds over. h2load notes the time of each request; the rate is kept by its timers,
and a request that its connection is not free for waits in h2load without being counted, so at much more than half of
saturation the figures would flatter.
"""

import argparse
import pathlib
import subprocess
import sys

import proxies
import rig

BACKEND_CORE, PROXY_CORE = 0, 1
CONNECTIONS = 64
STARTERS = {"haproxy": proxies.start_haproxy, "nginx": proxies.start_nginx, "envoy": proxies.start_envoy}
# The highest ratio of tidegate's added latency to that of each peer.
TARGETS = {"haproxy": 1.0}


def arguments():
    """How much of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="how often each proxy is measured [9]")
    parser.add_argument("--seconds", type=int, default=3, help="length of one measurement [3]")
    parser.add_argument("--only", help="proxies to measure, with commas [tidegate,haproxy,nginx,envoy]")
    parser.add_argument("--no-build", action="store_true", help="measure the binary as it is")
    return parser.parse_args()


def start_all(stage, wanted):
    """Ports of the backend and of the proxies; those that this machine does not have are left out, and said to be."""
    backends = rig.start_backend(stage, BACKEND_CORE)
    ports = {"direct": backends[0]}
    for name in wanted:
        try:
            if name in STARTERS:
                ports[name] = STARTERS[name](stage, backends, PROXY_CORE)[1]
            else:
                ports[name] = proxies.start_tidegate(stage, backends, PROXY_CORE)[1]["egress"]
        except rig.Unavailable as missing:
            rig.say(f"skipped: {name}: {missing}")
    return ports


def rates(ports, rounds=3):
    """Requests per second to ask of each."""
    most = {
        name: rig.median(rig.wrk(port, 1, BACKEND_CORE)["requests_per_s"] for _ in range(rounds))
        for name, port in ports.items()
        if name != "direct"
    }
    half = most.get("haproxy", min(most.values())) / 2
    return {"direct": half, **{name: min(half, one / 2) for name, one in most.items()}}


def paced(stage, port, rate, seconds):
    """Latencies of one run, in microseconds; fails when a request does."""
    log = pathlib.Path(stage.directory) / "requests.tsv"
    log.unlink(missing_ok=True)
    command = ["taskset", "-c", str(BACKEND_CORE), rig.need("h2load", "nghttp2-client"), "--h1", "-t1", f"-c{CONNECTIONS}"]
    # By their number: with `-D` a paced h2load of 1.52 never ends.
    command += ["-n", str(int(rate * seconds)), f"--rps={rate / CONNECTIONS:.3f}", f"--log-file={log}", "--header", ":authority: shop.local"]
    limit = 10 * seconds + 10
    subprocess.run([*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True, timeout=limit)
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    if any(line[1] != "200" for line in lines):
        raise RuntimeError(f"port {port}: not every request succeeded")
    return [int(line[2]) for line in lines]


def run_rounds(stage, ports, asked, options):
    """Every proxy once in each round, each time beginning with another one."""
    results = {name: [] for name in ports}
    names = list(ports)
    for turn in range(options.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            took = paced(stage, ports[name], asked[name], options.seconds)
            figures = {f"p{100 * q:g}_us": rig.quantile(took, q) for q in (0.5, 0.99, 0.999)}
            results[name].append({"requests_per_s": len(took) / options.seconds, **figures})
        line = "  ".join(f"{name} {results[name][-1]['p99_us']}" for name in names)
        rig.say(f"round {turn + 1} of {options.rounds}: p99, µs: {line}")
    return results


def added(results, name, figure):
    """Median over the rounds of what a proxy adds to the backend's own latency, in microseconds."""
    return rig.median(mine[figure] - direct[figure] for mine, direct in zip(results[name], results["direct"]))


def main():
    """Exit code 1 when a target is missed."""
    options = arguments()
    wanted = options.only.split(",") if options.only else ["tidegate", *STARTERS]
    if not options.no_build and "tidegate" in wanted:
        rig.build_tidegate()
    with rig.Stage() as stage:
        ports = start_all(stage, wanted)
        asked = rates(ports)
        results = run_rounds(stage, ports, asked, options)
    machine, figures = rig.machine(), ("p50_us", "p99_us", "p99.9_us")
    print("| proxy | requests/s | p50 µs | p99 µs | p99.9 µs | added p50 | added p99 | added p99.9 |\n|---|---|---|---|---|---|---|---|")
    for name, rounds in results.items():
        own = [f"{rig.median(one[key] for one in rounds):,.0f}" for key in ("requests_per_s", *figures)]
        print(f"| {' | '.join([name, *own, *(f'{added(results, name, key):,.0f}' for key in figures)])} |")
    peers = [peer for peer in TARGETS if peer in results and "tidegate" in results]
    ratios = {peer: added(results, "tidegate", "p99_us") / max(1, added(results, peer, "p99_us")) for peer in peers}
    for peer, got in ratios.items():
        print(f"{'met' if got <= TARGETS[peer] else 'MISSED'}: added p99 {got:.2f} x {peer} (at most {TARGETS[peer]:.2f})")
    print(f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, {machine['date']}", end="")
    print(f", {options.rounds} rounds of {options.seconds} s, load average {machine['load_average']:.1f}")
    rig.write_json("latency", {"machine": machine, "asked": asked, "ratios": ratios, "rounds": results})
    return 0 if all(got <= TARGETS[peer] for peer, got in ratios.items()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
