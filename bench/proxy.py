"""Compares the CPU time that each proxy needs for a request: `make bench-proxy`.

One run measures every proxy in turn, several rounds over, in a rotating order. What counts are the ratios between
proxies of the same round: other work on the machine moves all of them alike, and absolute times say little.
"""

import argparse
import sys

import proxies
import rig

BACKEND_CORE, PROXY_CORE = 0, 1
STARTERS = {
    "haproxy": proxies.start_haproxy,
    "nginx": proxies.start_nginx,
    "envoy": proxies.start_envoy,
    "relay": proxies.start_relay,
}
# The highest ratio of tidegate's CPU time for a request to that of each peer.
TARGETS = {"haproxy": 1.10, "envoy": 0.30, "relay": 1.55}


def arguments():
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31, help="how often each proxy is measured [31]")
    parser.add_argument("--seconds", type=int, default=1, help="length of one measurement [1]")
    parser.add_argument("--only", help="proxies to measure, with commas [tidegate,haproxy,nginx,envoy,relay]")
    parser.add_argument("--no-build", action="store_true", help="measure the binaries as they are")
    parser.add_argument(
        "--against", metavar="NAME=PATH", action="append", default=[], help="another tidegate binary, measured beside"
    )
    return parser.parse_args()


def start_all(stage, wanted, others):
    """Starts the proxies; those that this machine does not have are left out, and said to be."""
    backends = rig.start_backend(stage, BACKEND_CORE)
    binaries = {name: path for name, path in (other.split("=", 1) for other in others)}
    running = {}
    for name in [*wanted, *binaries]:
        try:
            if name in STARTERS:
                running[name] = STARTERS[name](stage, backends, PROXY_CORE)
            else:
                process, ports = proxies.start_tidegate(stage, backends, PROXY_CORE, binaries.get(name), name)
                running[name] = process, ports["egress"]
        except rig.Unavailable as missing:
            rig.say(f"skipped: {name}: {missing}")
    return running


def measure(process, port, seconds):
    """One measurement of one proxy."""
    before = rig.cpu_seconds(process)
    result = rig.wrk(port, seconds, BACKEND_CORE)
    user, system = (after - start for after, start in zip(rig.cpu_seconds(process), before))
    result["cpu_us"] = (user + system) * 1e6 / result["requests"]
    result["user_us"] = user * 1e6 / result["requests"]
    return result


def run_rounds(running, rounds, seconds):
    """Every proxy once in each round, each time beginning with another one."""
    for _, port in running.values():
        rig.wrk(port, 1, BACKEND_CORE)
    results = {name: [] for name in running}
    names = list(running)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            results[name].append(measure(*running[name], seconds))
        line = "  ".join(f"{name} {results[name][-1]['cpu_us']:.1f}" for name in names)
        rig.say(f"round {turn + 1} of {rounds}: CPU µs/request: {line}")
    return results


def ratio(results, name, peer):
    """Median over the rounds of one proxy's CPU time for a request as a share of another's."""
    pairs = zip(results[name], results[peer])
    return rig.median(mine["cpu_us"] / theirs["cpu_us"] for mine, theirs in pairs)


def table(results):
    """The figures as Markdown: medians of the rounds."""
    peers = [peer for peer in TARGETS if peer in results]
    head = ["proxy (1 worker)", "CPU µs/request", "of which user", "req/s", "p99 ms", *(f"× {peer}" for peer in peers)]
    lines = [" | ".join(head), "|".join(["---"] * len(head))]
    for name, rounds in results.items():
        medians = {key: rig.median(one[key] for one in rounds) for key in rounds[0]}
        ratios = [f"{ratio(results, name, peer):.2f}" for peer in peers]
        figures = [f"{medians['cpu_us']:.1f}", f"{medians['user_us']:.1f}", f"{medians['requests_per_s']:,.0f}"]
        lines.append(" | ".join([name, *figures, f"{medians['p99_ms']:.1f}", *ratios]))
    return "\n".join(f"| {line} |" for line in lines)


def verdicts(results):
    """Each target with what was measured; whether all are met."""
    if "tidegate" not in results:
        return [], True
    reached = {peer: ratio(results, "tidegate", peer) for peer in TARGETS if peer in results}
    lines = [
        f"{'met' if got <= TARGETS[peer] else 'MISSED'}: {got:.2f} x {peer} (at most {TARGETS[peer]:.2f})"
        for peer, got in reached.items()
    ]
    return lines, all(got <= TARGETS[peer] for peer, got in reached.items())


def main():
    """Exit code 1 when a target is missed."""
    options = arguments()
    wanted = options.only.split(",") if options.only else ["tidegate", *STARTERS]
    if not options.no_build:
        if "tidegate" in wanted:
            rig.build_tidegate()
        if "relay" in wanted:
            rig.build_relay()
    with rig.Stage() as stage:
        results = run_rounds(start_all(stage, wanted, options.against), options.rounds, options.seconds)
    lines, met = verdicts(results)
    machine = rig.machine()
    print(table(results))
    print("\n".join(lines))
    print(f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, {machine['date']}", end="")
    print(f", {options.rounds} rounds of {options.seconds} s, load average {machine['load_average']:.1f}")
    ratios = {name: {peer: ratio(results, name, peer) for peer in TARGETS if peer in results} for name in results}
    rig.write_json("proxy", {"machine": machine, "targets": TARGETS, "ratios": ratios, "rounds": results})
    return 0 if met else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
