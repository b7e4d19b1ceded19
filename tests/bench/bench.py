#!/usr/bin/env python3
"""The benchmark table: every row is measured on all engines in turn, in one run.

usage: bench.py DIRECTORY-OF-THE-BINARY [ROW...]

Our daemon is started in a scratch directory as the calling user (as root: as
CORACLE_BENCH_USER, default the owner of the first peer's socket, else root).
Rows: run-default run-none run-host run-added api exec cold idle idle50 start50 start50x8
ps1000 cold size scale, those of images.py: load-plain load-gzip
load-zstd pull-gzip pull-zstd push save layers50, of network.py: net-out net-connect
net-rate net-publish net-latency net-peer net-dns net-memory, and of api.py:
api-latency api-rate api-cpu api-handshakes api-idle. Standard library only.
CORACLE_BENCH_PS_<peer>: containers of that peer in ps1000 (podman takes half a
minute to remove a hundred; the figure is then scaled and marked).
"""
import http.client, json, os, pwd, shlex, shutil, signal, socket, statistics, subprocess, sys, tempfile, threading, time
from urllib.parse import quote

sys.dont_write_bytecode = True
import api
import images
import network
import scale

ROUNDS = int(os.environ.get("CORACLE_BENCH_ROUNDS", "20"))
LABEL = "coracle.bench=1"


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("docker", timeout=300)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(300)
        self.sock.connect(self.path)


class Engine:
    """One engine under test: its socket, its client command, its processes."""

    def __init__(self, name, path, cli):
        self.name, self.path, self.cli = name, path, cli

    def api(self, method, path, body=None, raw=None):
        connection = Connection(self.path)
        data = raw if raw is not None else (json.dumps(body) if body is not None else None)
        kind = "application/x-tar" if raw is not None else "application/json"
        connection.request(method, path, data, {"Content-Type": kind} if data is not None else {})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{self.name}: {method} {path}: {answer.status} {text[:300]!r}")
        try:
            return json.loads(text)
        except ValueError:
            return text  # a stream of documents, or none at all

    def run(self, *words):
        done = subprocess.run([*self.cli, *words], stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(words)}: {done.stderr.decode()[-300:]}")

    def create(self, command, **host):
        # The original publishes only what is exposed.
        exposed = {port: {} for port in host.get("PortBindings", {})}
        body = {"Image": "busybox", "Cmd": command, "Labels": {"coracle.bench": "1"}, "ExposedPorts": exposed, "HostConfig": host}
        return self.api("POST", "/v1.41/containers/create", body)["Id"]

    def start(self, identifier):
        self.api("POST", f"/v1.41/containers/{identifier}/start")

    def remove_all(self):
        filters = json.dumps({"label": [LABEL]}).replace(" ", "")
        listed = self.api("GET", f"/v1.41/containers/json?all=1&filters={quote(filters)}")
        for container in listed:
            try:
                # podman's forced removal asks first and waits ten seconds.
                if container["State"] == "running":
                    self.api("POST", f"/v1.41/containers/{container['Id']}/kill")
                self.api("DELETE", f"/v1.41/containers/{container['Id']}?force=1&v=1")
            except RuntimeError:
                pass

    def pull(self, name, tag):
        """Errors come in the stream, after a 200."""
        path = f"/v1.41/images/create?fromImage={name}&tag={tag}"
        if self.name == "podman":  # Which can be told only here that a registry speaks no TLS.
            path = f"/v5.0.0/libpod/images/pull?reference={name}:{tag}&tlsVerify=false"
        stream = self.api("POST", path)
        if isinstance(stream, bytes) and b'"error"' in stream:
            raise RuntimeError(f"{self.name}: pull {name}: {stream[-200:]!r}")

    def stream(self, method, path, headers={}):
        """Reads an answer of any length to its end; errors may come in it, after a 200."""
        connection = Connection(self.path)
        connection.request(method, path, headers=headers)
        answer, last = connection.getresponse(), b""
        while part := answer.read(1 << 20):
            last = part[-1000:]
        connection.close()
        if answer.status >= 400 or b'"errorDetail"' in last:
            raise RuntimeError(f"{self.name}: {method} {path}: {answer.status} {last[-300:]!r}")

    def version(self):
        return self.api("GET", "/version")["Version"]


def timed(action):
    begin = time.perf_counter()
    action()
    return (time.perf_counter() - begin) * 1000


def pss_kib(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        except OSError:
            pass
    return total


def processes(names, uid, marked=None):
    """Pids of the engine's own processes (never the containers')."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            comm = open(f"/proc/{pid}/comm").read().strip()
            environ = open(f"/proc/{pid}/environ", "rb").read() if marked else b""
            if not marked and os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith("coracle"):
                continue  # our own dockerd is no peer's
        except OSError:
            continue
        if (marked and marked.encode() in environ) or (not marked and any(comm.startswith(n) for n in names)):
            found.append(int(pid))
    return found


PEER_PROCESSES = {
    "docker": ["dockerd", "containerd", "rootlesskit", "slirp4netns", "docker-proxy", "pasta", "vpnkit", "exe"],
    "podman": ["podman", "conmon", "aardvark", "netavark", "pasta", "rootlessport", "catatonit"],
}


class Ours(Engine):
    def __init__(self, binaries):
        self.room = tempfile.mkdtemp(prefix="coracle-bench.")
        self.binaries = binaries
        peers = os.environ.get("CORACLE_BENCH_PEERS", "").split()
        self.user = os.environ.get("CORACLE_BENCH_USER")
        if os.getuid() == 0 and not self.user:
            owner = os.stat(peers[0].split("unix://")[1]).st_uid if peers else 0
            self.user = pwd.getpwuid(owner).pw_name
        os.makedirs(f"{self.room}/run", mode=0o700)
        os.makedirs(f"{self.room}/home", mode=0o700)
        # A copy that the unprivileged user can reach wherever the tree lies.
        os.makedirs(f"{self.room}/bin")
        shutil.copy(f"{binaries}/coracle", f"{self.room}/bin/coracle")
        for name in ("docker", "dockerd"):
            os.symlink("coracle", f"{self.room}/bin/{name}")
        self.prefix = []
        if os.getuid() == 0 and self.user and self.user != "root":
            entry = pwd.getpwnam(self.user)
            for path in (self.room, f"{self.room}/run", f"{self.room}/home"):
                os.chown(path, entry.pw_uid, entry.pw_gid)
            self.prefix = ["setpriv", "--reuid", self.user, "--regid", self.user, "--init-groups"]
        os.chmod(self.room, 0o755)
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": f"{self.room}/home", "XDG_RUNTIME_DIR": f"{self.room}/run",
            "CORACLE_BENCH": self.room, "DOCKER_HOST": f"unix://{self.room}/run/docker.sock", "USER": self.user or "root",
        }
        super().__init__("coracle", f"{self.room}/run/docker.sock", [f"{self.room}/bin/docker"])
        self.daemon = None

    def run(self, *words):
        done = subprocess.run([*self.cli, *words], stdin=subprocess.DEVNULL, capture_output=True, env=self.environment)
        if done.returncode:
            raise RuntimeError(f"coracle: {' '.join(words)}: {done.stderr.decode()[-300:]}")

    def up(self):
        """Starts dockerd; milliseconds until the first answered ping."""
        begin = time.perf_counter()
        self.daemon = subprocess.Popen(
            [*self.prefix, f"{self.room}/bin/dockerd", "-H", f"unix://{self.path}", "--data-root", f"{self.room}/home/data",
             "--exec-root", f"{self.room}/run/coracle", "--pidfile", f"{self.room}/run/docker.pid", "--insecure-registry", "127.0.0.1:5000"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(f"{self.room}/log", "a"), env=self.environment)
        while True:
            try:
                self.api("GET", "/_ping")
                return (time.perf_counter() - begin) * 1000
            except OSError:
                if self.daemon.poll() is not None or time.perf_counter() - begin > 60:
                    sys.exit(open(f"{self.room}/log").read())
                time.sleep(0.0005)

    def down(self):
        if self.daemon:
            self.daemon.send_signal(signal.SIGTERM)
            self.daemon.wait()
            self.daemon = None

    def close(self):
        try:
            self.remove_all()
        except OSError:
            pass  # it never came up, and said why
        finally:
            self.down()
            if os.environ.get("CORACLE_BENCH_KEEP"):
                return
            shutil.rmtree(self.room, ignore_errors=True)
            if os.path.exists(self.room):
                subprocess.run([*self.prefix, "unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", self.room], stderr=subprocess.DEVNULL)


def find_peers():
    peers = []
    for word in os.environ.get("CORACLE_BENCH_PEERS", "").split():
        name, address = word.split("=", 1)
        path = address[len("unix://"):]
        cli = os.environ.get(f"CORACLE_BENCH_CLI_{name}")
        peers.append(Engine(name, path, shlex.split(cli) if cli else []))
    return peers


def row(title, unit, engines, measure, rounds):
    """Measures in turn (A B A B …) and prints medians and ratios to ours."""
    samples = {engine.name: [] for engine in engines}
    failures = {}
    for _ in range(rounds):
        for engine in engines:
            if engine.name in failures:
                continue
            try:
                value = measure(engine)
                if value is not None:
                    samples[engine.name].append(value)
            except (RuntimeError, OSError, ValueError, subprocess.SubprocessError, http.client.HTTPException, KeyError) as error:
                failures[engine.name] = str(error)
    cells, medians = [], {}
    ours = statistics.median(samples["coracle"]) if samples["coracle"] else None
    for engine in engines:
        got = samples[engine.name]
        if not got:
            cells.append(f"{'-':>16}")
            continue
        median = medians[engine.name] = statistics.median(got)
        ratio = f" ×{median / ours:.1f}" if ours and engine.name != "coracle" else ""
        cells.append(f"{median:>10.1f}{ratio:<8}")
    print(f"{title:<34}{unit:<6}" + "".join(f"{c:>20}" for c in cells), flush=True)
    for name, text in failures.items():
        print(f"    {name}: {text}")
    return medians


def measure_run(network):
    def measure(engine):
        if not engine.cli:
            return None
        extra = [] if network == "default" else ["--network", network]
        return timed(lambda: engine.run("run", "--rm", *extra, "busybox", "true"))
    return measure


def measure_added(engine):
    """Pairs taken at once: what drifts with the machine goes out of the difference."""
    if not engine.cli:
        return None
    return measure_run("default")(engine) - measure_run("none")(engine)


def measure_api(engine):
    def cycle():
        identifier = engine.create(["true"], NetworkMode="none")
        engine.start(identifier)
        engine.api("POST", f"/v1.41/containers/{identifier}/wait")
        engine.api("DELETE", f"/v1.41/containers/{identifier}?force=1")
    return timed(cycle)


class Exec:
    """`docker exec C true` in one long-lived container of each engine."""
    def __init__(self):
        self.containers = {}

    def __call__(self, engine):
        if engine.name not in self.containers:
            self.containers[engine.name] = engine.create(["sleep", "1000"], NetworkMode="none")
            engine.start(self.containers[engine.name])
        if not engine.cli:
            return None
        return timed(lambda: engine.run("exec", self.containers[engine.name], "true"))


def engine_processes(engine):
    if isinstance(engine, Ours):
        return processes([], 0, f"CORACLE_BENCH={engine.room}")
    return processes(PEER_PROCESSES.get(engine.name, [engine.name]), 0)


def measure_memory(engine):
    return pss_kib(engine_processes(engine)) / 1024


def start_many(count, at_once):
    def measure(engine):
        identifiers = [engine.create(["sleep", "1000"], NetworkMode="none") for _ in range(count)]
        def work(part):
            for identifier in part:
                engine.start(identifier)
        def go():
            threads = [threading.Thread(target=work, args=(identifiers[i::at_once],)) for i in range(at_once)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return timed(go)
    return measure


def measure_ps(engine):
    return timed(lambda: engine.api("GET", "/v1.41/containers/json?all=1"))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    wanted = set(sys.argv[2:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # and so through every finally
    ours = Ours(os.path.abspath(sys.argv[1]))
    peers = find_peers()
    engines = [ours, *peers]
    busybox = os.environ.get("CORACLE_BENCH_BUSYBOX", "/srv/peers/busybox.tar")
    big = os.environ.get("CORACLE_BENCH_BIG", "/srv/peers/big.tar")
    want = lambda name: not wanted or name in wanted
    try:
        first = ours.up()
        ours.api("POST", "/v1.41/images/load", raw=open(busybox, "rb").read())
        print("engines: " + ", ".join(f"{e.name} {e.version()}" for e in engines))
        if not peers:
            print("no peers: set CORACLE_BENCH_PEERS to the sockets of running engines to compare with")
        print(f"{'':<40}" + "".join(f"{e.name:>20}" for e in engines))
        for name in ("default", "none", "host"):
            if want(f"run-{name}"):
                row(f"run --rm true, network {name}", "ms", engines, measure_run(name), ROUNDS)
        if want("run-added"):
            row("  added by the default network", "ms", engines, measure_added, ROUNDS)
        if want("api"):
            row("create+start+wait+rm, API", "ms", engines, measure_api, ROUNDS)
        if want("exec"):
            row("exec true", "ms", engines, Exec(), ROUNDS)
            for engine in engines:
                engine.remove_all()
        if want("idle"):
            row("memory (PSS), idle", "MB", engines, measure_memory, 1)
        if want("idle50") or want("start50"):
            row("start 50, one by one", "ms", engines, start_many(50, 1), 1)
            row("memory (PSS), 50 running", "MB", engines, measure_memory, 1)
            for engine in engines:
                engine.remove_all()
        if want("start50x8"):
            row("start 50, eight at a time", "ms", engines, start_many(50, 8), 1)
            for engine in engines:
                engine.remove_all()
        if want("ps1000"):
            counts = {e.name: int(os.environ.get(f"CORACLE_BENCH_PS_{e.name}", "1000")) for e in engines}
            for engine in engines:
                for _ in range(counts[engine.name]):
                    engine.create(["true"], NetworkMode="none")
            row("ps -a with 1000 containers, API", "ms", engines, lambda e: measure_ps(e) * 1000 / counts[e.name], 5)
            for name in (n for n, count in counts.items() if count != 1000):
                print(f"    {name}: measured with {counts[name]} and scaled")
            for engine in engines:
                engine.remove_all()
        def pid_of(engine):
            return ours.daemon.pid if engine is ours else max(processes(["dockerd" if engine.name == "docker" else engine.name], 0), default=0)
        if not wanted or wanted & set(images.NAMES):
            try:
                images.rows(row, engines, want, timed, engine_processes, pid_of, big, min(ROUNDS, 3))
            except (RuntimeError, OSError) as error:
                print(f"    images: {error}")
        if not wanted or wanted & set(network.NAMES):
            network.rows(row, engines, want, pss_kib)
        if not wanted or wanted & set(api.NAMES):
            api.rows(row, engines, want, pss_kib, pid_of)
        if want("cold"):
            ours.down()
            def cold(engine):
                if not isinstance(engine, Ours):
                    return None
                value = engine.up()
                engine.down()
                return value
            row("cold start to first ping", "ms", [ours], cold, 10)
            ours.up()
        if want("scale"):
            created = int(os.environ.get("CORACLE_BENCH_SCALE", "1000"))
            scale.containers(ours, measure_memory, ours.daemon.pid, created, created // 5)
            scale.clients(ours, measure_memory, ours.daemon.pid, created)
        if want("size"):
            print(f"{'binary':<34}{'MB':<6}{os.path.getsize(f'{ours.binaries}/coracle') / 1e6:>10.2f}")
        print(f"(first start of the run: {first:.1f} ms; medians of {ROUNDS} rounds taken in turn)")
    finally:
        ours.close()
        for engine in peers:
            engine.remove_all()


if __name__ == "__main__":
    main()
