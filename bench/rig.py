"""What the benchmarks stand on: the machine, processes pinned to cores, load, and what a window of load cost.

    Service (proxy, backend) ◀── run_wrk ──▶ measure ──▶ one row of figures
"""

import contextlib
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

HOST = "bench.localhost"
BODY = "A fixed answer of one hundred bytes, so that what is measured is the proxy and not the payload. 0123\n"
DEBIAN_PACKAGES = {
    "nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client",
    "ab": "apache2-utils", "openssl": "openssl", "taskset": "util-linux",
}

# --- configurations -------------------------------------------------------------------------------

BACKEND_CONF = """
daemon off; worker_processes 1; pid {dir}/backend.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off; default_type text/plain;
    keepalive_requests 1000000000; keepalive_timeout 1h;
    server {{
        listen 127.0.0.1:{backend};
        location / {{ return 200 "{body}"; }}
        location = /forwarded-for {{ return 200 "$http_x_forwarded_for"; }}
        location = /served {{ stub_status; }}
    }}
}}
"""

PORTOLAN_CONF = """
workers: 1
state_dir: {dir}/state
listeners:
  http: {{ address: "127.0.0.1:{ports.http}", redirect: off }}
  https: {{ address: "127.0.0.1:{ports.https}", tls: {{}} }}
providers: {{ file: {{ path: "{dir}/routes.d" }} }}
status: {{ address: "127.0.0.1:{ports.status}" }}
admin: {{ address: "127.0.0.1:{ports.admin}" }}
access_log: {{ enabled: false }}
shutdown: {{ delay: 0s, deadline: 5s }}
log: {{ level: warn }}
"""

# --- the machine ----------------------------------------------------------------------------------


class BenchError(Exception):
    """Something that makes the whole run pointless; told to the user without a traceback."""


def install_missing_tools(tools):
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = sorted({DEBIAN_PACKAGES[tool] for tool in tools if not shutil.which(tool)})
    if not missing:
        return
    install = ["apt-get", "install", "-qy", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise BenchError(f"missing tools; as root on Debian: {' '.join(install)}")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["apt-get", "update", "-q"], install):
        if subprocess.run(command, env=environment, stdout=sys.stderr).returncode:
            raise BenchError(f"{' '.join(command)} failed")


def two_cores():
    """One for the proxy, one for load and backend."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise BenchError("two cores are needed: one for the proxy, one for load and backend")
    return cores


def first_line(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return (done.stdout.strip().splitlines() or ["unknown"])[0]


def short_version(line):
    found = re.search(r"\d+\.\d+[^\s,)]*", line)
    return found.group() if found else line


def machine():
    model = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return {"kernel": platform.release(), "architecture": platform.machine(), "cores": os.cpu_count(),
            "cpu": model.group(1) if model else "unknown"}


def unused_ports():
    """Free ports below the range that outgoing connections take theirs from."""
    for port in range(21000, 32000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                yield port


# --- processes ------------------------------------------------------------------------------------


class Service:
    """A server process, pinned to one core, in a session of its own so that all of it can be ended."""

    def __init__(self, name, core, command, directory):
        self.name, self.log = name, directory / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(["taskset", "-c", str(core), *map(str, command)], cwd=directory,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def stop(self):
        self._signal_all(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=6)
        self._signal_all(signal.SIGKILL)
        self.process.wait()

    def _signal_all(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def wait_until(self, ready, seconds=20):
        """Calls `ready` until it returns None; otherwise it returns or raises what is still wrong."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                wrong = ready()
            except (OSError, http.client.HTTPException) as error:
                wrong = error
            if wrong is None:
                return
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise BenchError(f"{self.name} did not become ready: {wrong}\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def cpu_seconds(self):
        """User and system time of the whole process tree, children that have ended included."""
        if self.process.poll() is not None:
            raise BenchError(f"{self.name} ended during the run\n{self.log.read_text()[-2000:]}")
        parents, ticks = {}, {}
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = stat.read_text().rpartition(")")[2].split()  # from field 3 of proc(5) on
                parents[int(stat.parent.name)] = int(fields[1])
                ticks[int(stat.parent.name)] = sum(map(int, fields[11:15]))
        tree, found = set(), {self.process.pid}
        while found:
            tree |= found
            found = {pid for pid, parent in parents.items() if parent in tree} - tree
        return sum(ticks[pid] for pid in tree) / os.sysconf("SC_CLK_TCK")


def core_busy_seconds(core):
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    raise BenchError(f"no cpu{core} in /proc/stat")


def start_backend(start, core, directory, port):
    """`start(name, core, command)` starts a service that is ended with the run."""
    directory.mkdir()
    (directory / "conf").write_text(BACKEND_CONF.format(dir=directory, backend=port, body=BODY))
    command = ["nginx", "-p", directory, "-e", "stderr", "-c", directory / "conf"]
    start("backend", core, command).wait_until(lambda: None if get(port)[0] == 200 else "no 200")


# --- requests and load ----------------------------------------------------------------------------


def get(port, path="/", host=HOST):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")


def not_ready(port):
    status, text = get(port, "/readyz")
    return None if status == 200 else f"/readyz answered {status} {text}"


def numbers(text):
    return [int(number) for number in re.findall(r"\d+", text)]


def microseconds(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(value) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}[unit]


def run_tool(core, command, seconds):
    try:
        done = subprocess.run(["taskset", "-c", str(core), *map(str, command)],
                              capture_output=True, text=True, timeout=seconds + 20)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[0]} did not end") from None
    if done.returncode:
        raise BenchError(f"{command[0]} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout


def run_wrk(core, url, connections, options, seconds, arguments=()):
    """`arguments` are those of the script that `options` name."""
    out = run_tool(core, ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *options, url,
                          *(["--", *arguments] if arguments else [])], seconds)
    latency = dict(re.findall(r"^\s+(50|99)%\s+(\S+)[ ]*$", out, re.M))
    bad = re.findall(r"^\s+Socket errors:(.*)$|^\s+Non-2xx or 3xx responses:(.*)$", out, re.M)
    return {"requests": int(re.search(r"(\d+) requests in", out).group(1)),
            "requests_per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1)),
            "p50_us": microseconds(latency["50"]), "p99_us": microseconds(latency["99"]),
            "failures": sum(sum(numbers(part)) for parts in bad for part in parts)}


def run_ab(core, url, connections, options, seconds):
    """Without -k every request has a connection of its own."""
    out = run_tool(core, ["ab", "-q", "-l", f"-c{connections}", f"-t{seconds}", "-n10000000", *options, url], seconds)
    figure = lambda name: float(re.search(rf"^{name}:?\s+([\d.]+)", out, re.M).group(1))
    bad = re.search(r"^Non-2xx responses:\s+(\d+)", out, re.M)
    requests = int(figure("Complete requests"))
    return {"requests": requests, "requests_per_second": figure("Requests per second"),
            "p50_us": figure(r"\s+50%") * 1e3, "p99_us": figure(r"\s+99%") * 1e3,
            "failures": int(figure("Failed requests")) + (int(bad.group(1)) if bad else 0)}


def requests_seen_by(backend):
    return numbers(get(backend, "/served")[1])[3]  # stub_status: active, accepts, handled, requests


def measure(service, core, backend, load):
    """One window of load on one proxy: what the tool saw, and what it cost the proxy."""
    seen, others, cpu, start = requests_seen_by(backend), core_busy_seconds(core), service.cpu_seconds(), time.monotonic()
    result = load()
    wall = time.monotonic() - start
    cpu = service.cpu_seconds() - cpu
    others = core_busy_seconds(core) - others - cpu
    seen = requests_seen_by(backend) - seen - 1  # without this question itself
    answered_elsewhere = result["requests"] - seen  # negative by the requests in flight at the end
    return result | {
        "failures": max(result["failures"], answered_elsewhere),
        "cpu_seconds": round(cpu, 2),
        "cpu_us_per_request": round(cpu / max(1, result["requests"]) * 1e6, 2),
        "core_share": round(cpu / wall, 3),
        "core_share_of_others": round(max(0, others) / wall, 3),
    }


# --- the run --------------------------------------------------------------------------------------


def main(name, arguments, run, markdown):
    """Prints the report as Markdown and keeps all of it in out/<name>.json. Exits with 1 if any figure is void."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # so that everything started is ended
    try:
        report = run(arguments)
    except BenchError as error:
        sys.exit(f"bench/{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    output = pathlib.Path(__file__).resolve().parent / "out" / f"{name}.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))
    sys.exit(any(row["failures"] for row in report["rounds"]))
