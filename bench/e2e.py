"""Releases end to end, by native proxies and by Envoys: `make bench-e2e`.

Each release has a daemon of its own, 200 requests a second, and 10 % of them on the new version; stable fails one in a
thousand. Measured is the time from the first bad answer that a client saw (for slowness: from the first request on the
new version) to the decision, and whether healthy releases go through. The releases are those of `tests/it/detect.rs`,
by the release build; both planes at once, several releases of each at a time.
"""

import argparse
import json
import os
import subprocess
import sys

import rig

PLANES = ("native", "envoy")


def arguments():
    """How much of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="releases of each bad kind and plane, at least 10 [20]")
    parser.add_argument("--healthy", type=int, default=50, help="healthy releases of each plane [50]")
    parser.add_argument("--at-a-time", type=int, default=4, help="releases of each plane under way at once [4]")
    options = parser.parse_args()
    if options.runs < 10:
        parser.error("--runs: a median of fewer than 10 is mostly luck")
    return options


def told(row):
    """One row of the table; and whether it is as it must be."""
    in_time = row["goal_s"] is None or row["median_s"] <= row["goal_s"]
    is_met = row["ended_well"] == row["releases"] and in_time
    goal = "all promoted" if row["goal_s"] is None else f"{row['goal_s']} s"
    cells = [
        row["plane"].replace("Native", "native"),
        row["kind"],
        f"{row['ended_well']} of {row['releases']} " + ("promoted" if row["goal_s"] is None else "rolled back"),
        goal,
        f"{row['median_s']:.1f} s",
        f"{row['longest_s']:.1f} s",
        f"{row['failed_median']} / {row['failed_most']}",
        "met" if is_met else "**missed**",
    ]
    return "| " + " | ".join(cells) + " |", is_met


def main():
    """Exit code 1 when a goal is missed."""
    options = arguments()
    files = [rig.ROOT / "target" / "bench" / f"e2e-{plane}.json" for plane in PLANES]
    for file in files:
        file.unlink(missing_ok=True)
    amounts = {"RUNS": options.runs, "HEALTHY": options.healthy, "AT_A_TIME": options.at_a_time}
    environment = {f"TIDEGATE_{name}": str(amount) for name, amount in amounts.items()}
    python = rig.ROOT / ".venv" / "bin"
    environment["PATH"] = f"{python}:{os.environ['PATH']}"
    command = ["cargo", "test", "--locked", "--release", "--test", "it", "detect::", "--", "--nocapture", "--test-threads=2"]
    code = subprocess.run(command, cwd=rig.ROOT, env=os.environ | environment, check=False).returncode
    rows = [row for file in files if file.exists() for row in json.loads(file.read_text())]
    print("| proxies | the new version | ended | goal | decided after, median | longest | failed requests, median / most | |")
    print("|---|---|---|---|---|---|---|---|")
    lines = [told(row) for row in rows]
    print(*(line for line, _ in lines), sep="\n")
    missing = [plane for plane, file in zip(PLANES, files) if not file.exists()]
    for plane in missing:
        print(f"not measured: {plane} (see above why)")
    rig.write_json("e2e", {"machine": rig.machine(), "rows": rows})
    return 0 if code == 0 and not missing and all(is_met for _, is_met in lines) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
