"""Compares the CPU time that each proxy needs for a request: `make bench-proxy`.

One run measures every proxy in turn, several rounds over, in a rotating order. What counts are the ratios between
proxies of the same round: other work on the machine moves all of them alike, and absolute times say little.
"""

import argparse
import sys

import proxies
import rig
import rows

BACKEND_CORE, PROXY_CORE = 0, 1
STARTERS = {
    "haproxy": proxies.start_haproxy,
    "nginx": proxies.start_nginx,
    "envoy": proxies.start_envoy,
    "relay": proxies.start_relay,
}


def arguments():
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31, help="how often each proxy is measured [31]")
    parser.add_argument("--seconds", type=int, default=1, help="length of one measurement [1]")
    parser.add_argument("--row", choices=[*rows.TARGETS, "all"], default="plain", help="what is compared [plain]")
    parser.add_argument("--only", help="proxies to measure, with commas [tidegate,haproxy,nginx,envoy,relay]")
    parser.add_argument("--no-build", action="store_true", help="measure the binaries as they are")
    parser.add_argument(
        "--against", metavar="NAME=PATH", action="append", default=[], help="another tidegate binary, measured beside"
    )
    return parser.parse_args()


def start_all(stage, row, wanted, others):
    """Starts the proxies; those that this machine does not have are left out, and said to be."""
    special = None if row == "plain" else rows.Row(row, stage)
    backends = special.start_backend(BACKEND_CORE) if special else rig.start_backend(stage, BACKEND_CORE)
    starters = special.starters() if special else STARTERS
    start_tidegate = special.start_tidegate if special else proxies.start_tidegate
    binaries = {name: path for name, path in (other.split("=", 1) for other in others)}
    running = {}
    for name in [*wanted, *binaries]:
        try:
            if name in starters:
                running[name] = starters[name](stage, backends, PROXY_CORE)
            elif name in STARTERS:
                continue
            else:
                process, ports = start_tidegate(stage, backends, PROXY_CORE, binaries.get(name), name)
                running[name] = process, ports["egress"]
        except rig.Unavailable as missing:
            rig.say(f"skipped: {name}: {missing}")
    return running, special.load if special else rig.wrk


def measure(load, process, port, seconds):
    """One measurement of one proxy."""
    before = rig.cpu_seconds(process)
    result = load(port, seconds, BACKEND_CORE)
    user, system = (after - start for after, start in zip(rig.cpu_seconds(process), before))
    result["cpu_us"] = (user + system) * 1e6 / result["requests"]
    result["user_us"] = user * 1e6 / result["requests"]
    return result


def run_rounds(running, load, rounds, seconds):
    """Every proxy once in each round, each time beginning with another one."""
    for _, port in running.values():
        load(port, 1, BACKEND_CORE)
    results = {name: [] for name in running}
    names = list(running)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            results[name].append(measure(load, *running[name], seconds))
        line = "  ".join(f"{name} {results[name][-1]['cpu_us']:.1f}" for name in names)
        rig.say(f"round {turn + 1} of {rounds}: CPU µs/request: {line}")
    return results


def ratio(results, name, peer):
    """Median over the rounds of one proxy's CPU time for a request as a share of another's."""
    pairs = zip(results[name], results[peer])
    return rig.median(mine["cpu_us"] / theirs["cpu_us"] for mine, theirs in pairs)


def table(results, targets):
    """The figures as Markdown: medians of the rounds."""
    peers = [peer for peer in targets if peer in results]
    head = ["proxy (1 worker)", "CPU µs/request", "of which user", "req/s", "p99 ms", *(f"× {peer}" for peer in peers)]
    lines = [" | ".join(head), "|".join(["---"] * len(head))]
    for name, rounds in results.items():
        medians = {key: rig.median(one[key] for one in rounds) for key in rounds[0]}
        ratios = [f"{ratio(results, name, peer):.2f}" for peer in peers]
        figures = [f"{medians['cpu_us']:.1f}", f"{medians['user_us']:.1f}", f"{medians['requests_per_s']:,.0f}"]
        lines.append(" | ".join([name, *figures, f"{medians['p99_ms']:.1f}", *ratios]))
    return "\n".join(f"| {line} |" for line in lines)


def verdicts(results, targets):
    """Each target with what was measured; whether all are met."""
    if "tidegate" not in results:
        return [], True
    reached = {peer: ratio(results, "tidegate", peer) for peer in targets if peer in results}
    lines = [
        f"{'met' if got <= targets[peer] else 'MISSED'}: {got:.2f} x {peer} (at most {targets[peer]:.2f})"
        for peer, got in reached.items()
    ]
    return lines, all(got <= targets[peer] for peer, got in reached.items())


def compare(row, options):
    """One row: its figures, printed and kept. Whether all of its targets are met."""
    wanted, targets = options.only.split(",") if options.only else ["tidegate", *STARTERS], rows.TARGETS[row]
    with rig.Stage() as stage:
        running, load = start_all(stage, row, wanted, options.against)
        results = run_rounds(running, load, options.rounds, options.seconds)
    lines, met = verdicts(results, targets)
    machine = rig.machine()
    print(f"### {row}\n")
    print(table(results, targets))
    print("\n".join(lines))
    print(f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, {machine['date']}", end="")
    print(f", {options.rounds} rounds of {options.seconds} s, load average {machine['load_average']:.1f}\n")
    ratios = {name: {peer: ratio(results, name, peer) for peer in targets if peer in results} for name in results}
    name = "proxy" if row == "plain" else f"proxy-{row}"
    rig.write_json(name, {"machine": machine, "targets": targets, "ratios": ratios, "rounds": results})
    return met


def main():
    """Exit code 1 when a target is missed."""
    options = arguments()
    if not options.no_build:
        if not options.only or "tidegate" in options.only.split(","):
            rig.build_tidegate()
        if not options.only or "relay" in options.only.split(","):
            rig.build_relay()
    met = [compare(row, options) for row in (rows.TARGETS if options.row == "all" else [options.row])]
    return 0 if all(met) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
