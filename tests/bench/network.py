"""The network rows of the benchmark: throughput, CPU, latency, connections per
second, names, memory. Containers are `sleep`; what is measured with runs inside
their network namespace by nsenter, so that every engine gets the same programs
(iperf3, python3). Needs root, iperf3, and an address of the host besides loopback.

Throughput rows run in turn with the host's own loopback as yardstick.
"""
import json, os, re, shutil, socket, subprocess, sys, threading, time
from contextlib import contextmanager

#: Whole ones: iperf3 takes 0.7 for 0, which means for ever.
SECONDS = max(1, int(float(os.environ.get("CORACLE_BENCH_SECONDS", "3"))))
NAMES = ["net-out", "net-connect", "net-rate", "net-publish", "net-latency", "net-peer", "net-dns", "net-memory"]
#: Who carries the packets, by command name, for engines whose names begin so.
CARRIERS = {"docker": ["slirp4netns", "rootlesskit", "exe", "docker-proxy"], "podman": ["pasta", "pasta.avx2", "rootlessport", "rootlessport-c"]}

CONNECT = """
import socket, sys, time
times = []
for n in range(300):
    s = socket.socket(); begin = time.perf_counter(); s.connect((sys.argv[1], int(sys.argv[2])))
    times.append(time.perf_counter() - begin); s.close()
print(sorted(times)[len(times) // 2] * 1000)
"""
# Over many ports: a kernel that has to look for one not in TIME-WAIT is all that would be seen.
RATE = """
import socket, sys, time
end = time.perf_counter() + float(sys.argv[2]); n = 0; ports = sys.argv[3:]
while time.perf_counter() < end:
    s = socket.create_connection((sys.argv[1], int(ports[n % len(ports)])))
    s.sendall(b"x"); s.recv(1); s.close(); n += 1
print(n / float(sys.argv[2]))
"""
EXCHANGE = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); s.setsockopt(6, 1, 1)
times = []
for n in range(2000):
    begin = time.perf_counter(); s.sendall(b"x"); s.recv(1)
    times.append(time.perf_counter() - begin)
print(sorted(times)[len(times) // 2] * 1e6)
"""
# One thread: two would hand Python's lock to each other every 5 ms, which is all that would be seen.
ECHO = """
import select, socket, sys
e = select.epoll(); listening = {}; held = {}
for port in sys.argv[1:]:
    l = socket.socket(); l.setsockopt(1, 2, 1); l.bind(("0.0.0.0", int(port))); l.listen(512); e.register(l, 1); listening[l.fileno()] = l
def serve(n):
    try:
        b = held[n].recv(4096)
        if b: return held[n].sendall(b)
    except OSError: pass
    held.pop(n).close()
while True:
    for n, _ in e.poll():
        if n in listening:
            s = listening[n].accept()[0]; s.setsockopt(6, 1, 1); held[s.fileno()] = s; e.register(s, 1)
        else: serve(n)
"""
ASK = """
import socket, sys, time
name = b"".join(bytes([len(p)]) + p for p in sys.argv[2].encode().split(b".")) + b"\\0"
s = socket.socket(2, 2); s.settimeout(5); s.connect((sys.argv[1], 53)); n = 0
end = time.perf_counter() + float(sys.argv[3])
while time.perf_counter() < end:
    s.send(n.to_bytes(4, "big")[2:] + b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + name + b"\\0\\1\\0\\1"); a = s.recv(600); n += 1
    assert a[3] & 15 == 0 and a[7] > 0, a
print(n / float(sys.argv[3]))
"""
HOLD = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
held = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for n in range(1000)]
print("held", flush=True); sys.stdin.read()
"""


class Loopback:
    """The host itself, as if it were an engine."""
    name = "loopback"

    def version(self):
        return os.uname().release


class Place:
    """One container of an engine and how to be in its network."""

    def __init__(self, engine, mtu=None, **host):
        self.engine, self.network = engine, None
        self.prefix, self.pid = [], None
        if isinstance(engine, Loopback):
            return
        if engine.name == "podman":
            host.setdefault("NetworkMode", f"pasta:--mtu,{mtu or 1500}")
        elif mtu:
            self.network = f"bench-mtu-{mtu}"
            try:
                engine.api("POST", "/v1.41/networks/create", {"Name": self.network, "Options": {"com.docker.network.driver.mtu": str(mtu)}})
            except RuntimeError:
                pass
            host["NetworkMode"] = self.network
        self.identifier = engine.create(["sleep", "1000"], **host)
        engine.start(self.identifier)
        self.pid = engine.api("GET", f"/v1.41/containers/{self.identifier}/json")["State"]["Pid"]
        self.prefix = ["nsenter", "-t", str(self.pid), "-n"]

    def close(self):
        if self.pid:
            self.engine.api("DELETE", f"/v1.41/containers/{self.identifier}?force=1")
        if self.network:
            self.engine.api("DELETE", f"/v1.41/networks/{self.network}")

    def target(self):
        """The host, as the container has to call it."""
        if isinstance(self.engine, Loopback):
            return "127.0.0.1"
        # pasta gives the container the host's own address.
        return "169.254.1.2" if self.engine.name == "podman" else own_address()

    def python(self, program, *words):
        done = subprocess.run([*self.prefix, sys.executable, "-c", program, *map(str, words)], capture_output=True, timeout=120)
        if done.returncode:
            raise RuntimeError(done.stderr.decode()[-200:])
        return float(done.stdout)

    @contextmanager
    def serving(self, *command):
        child = subprocess.Popen([*self.prefix, *map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            yield
        finally:
            child.kill()
            child.wait()


@contextmanager
def place(engine, **words):
    p = Place(engine, **words)
    try:
        boost(carriers(engine))
        yield p
    finally:
        p.close()


def own_address():
    for line in subprocess.run(["ip", "-o", "-4", "addr", "show", "scope", "global"], capture_output=True, text=True).stdout.splitlines():
        return re.search(r"inet ([0-9.]+)", line)[1]


def carriers(engine):
    if isinstance(engine, Loopback):
        return []
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            comm = open(f"/proc/{pid}/comm").read().strip()
            environ = open(f"/proc/{pid}/environ", "rb").read() if comm.startswith("coracle") else b""
        except OSError:
            continue
        peers = next((names for name, names in CARRIERS.items() if engine.name.startswith(name)), [])
        ours = hasattr(engine, "room") and comm == "coracle-netd" and engine.room.encode() in environ
        if ours or comm in peers:
            found.append(int(pid))
    return found


def boost(pids):
    """On a busy machine: CORACLE_BENCH_NICE=-19 lets all who are measured go first."""
    level = int(os.environ.get("CORACLE_BENCH_NICE", "0"))
    for pid in [os.getpid(), *pids] if level else []:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(task), level)


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total / os.sysconf("SC_CLK_TCK")


def iperf(prefix, address, port, *words):
    for _ in range(5):
        done = subprocess.run([*prefix, "iperf3", "-J", "-c", address, "-p", str(port), "-t", str(SECONDS), *words], capture_output=True, timeout=120)
        report = json.loads(done.stdout or b'{"error":"no answer"}')
        if "error" not in report:
            return report["end"]["sum_received"]["bits_per_second"]
        time.sleep(0.7)
    raise RuntimeError(report["error"])


class Throughput:
    """Mbit/s, and CPU milliseconds of the carriers per GiB on the side."""

    def __init__(self):
        self.cost = {}

    def __call__(self, engine, prefix, address, port, *words):
        pids = carriers(engine)
        before = cpu_seconds(pids)
        rate = iperf(prefix, address, port, *words)
        gib = rate * SECONDS / 8 / 2**30
        self.cost.setdefault(engine.name, []).append((cpu_seconds(pids) - before) * 1000 / gib)
        return rate / 1e6

    def per_gib(self, engine):
        return sorted(self.cost[engine.name])[len(self.cost[engine.name]) // 2] if engine.name in self.cost else None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def rows(row, engines, want, pss_kib):
    if os.getuid() != 0 or not shutil.which("iperf3") or not own_address():
        print("network rows: need root, iperf3 and an address besides loopback")
        return
    os.setpriority(os.PRIO_PROCESS, 0, int(os.environ.get("CORACLE_BENCH_NICE", "0")))
    everyone = [*engines, Loopback()]
    rounds = int(os.environ.get("CORACLE_BENCH_NET_ROUNDS", "3"))

    def throughput(title, who, measure):
        meter = Throughput()
        row(f"{title}", "Mb/s", who, lambda e: measure(e, meter), rounds)
        row("  CPU of the carriers", "ms/G", [e for e in who if not isinstance(e, Loopback)], meter.per_gib, 1)

    here = Place(Loopback())
    ports = range(5391, 5423)
    with here.serving(sys.executable, "-c", ECHO, *ports):
        for mtu in (1500, 65520) if want("net-out") else ():
            for title, words in (("up", []), ("down", ["-R"])):
                def measure(engine, meter):
                    # A server of its own: one that a peer's cell left hanging costs no other cell.
                    port = free_port()
                    with here.serving("iperf3", "-s", "-p", port), place(engine, mtu=mtu) as p:
                        return meter(engine, p.prefix, p.target(), port, *words)
                throughput(f"outbound {title}, MTU {mtu}", everyone, measure)
        if want("net-connect"):
            def measure(engine):
                with place(engine) as p:
                    return p.python(CONNECT, p.target(), ports[0])
            row("outbound connect(), median", "ms", everyone, measure, rounds)
        if want("net-rate"):
            def measure(engine):
                with place(engine) as p:
                    return p.python(RATE, p.target(), SECONDS, *ports)
            row("outbound short connections", "1/s", everyone, measure, rounds)
        if want("net-memory"):
            def measure(engine):
                with place(engine) as p:
                    # Carriers of peers may come with the first container.
                    p.python(RATE, p.target(), 0.2, *ports)
                    pids = carriers(engine)
                    before = pss_kib(pids)
                    child = subprocess.Popen([*p.prefix, sys.executable, "-c", HOLD, p.target(), str(ports[0])], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                    child.stdout.readline()
                    grown = pss_kib(pids) - before
                    child.stdin.close()
                    child.wait()
                    return grown / 1024
            row("memory of 1,000 idle flows", "MB", engines, measure, 1)

    def published(engine, inner, measure):
        if isinstance(engine, Loopback):
            with Place(engine).serving(*inner):
                return measure(5201)
        port = free_port()
        bindings = {"5201/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
        with place(engine, PortBindings=bindings) as p, p.serving(*inner):
            boost(carriers(engine))
            return measure(port)

    if want("net-publish"):
        for title, words in (("in", []), ("out", ["-R"])):
            def measure(engine, meter):
                return published(engine, ["iperf3", "-s", "-p", "5201"], lambda port: meter(engine, [], "127.0.0.1", port, *words))
            throughput(f"published port, {title}", everyone, measure)
    if want("net-latency"):
        row("published port, one exchange", "us", everyone,
            lambda e: published(e, [sys.executable, "-c", ECHO, "5201"], lambda port: here.python(EXCHANGE, "127.0.0.1", port)), rounds)
        row("published port, short connections", "1/s", everyone,
            lambda e: published(e, [sys.executable, "-c", ECHO, "5201"], lambda port: here.python(RATE, "127.0.0.1", SECONDS, port)), rounds)

    if want("net-peer") or want("net-dns"):
        def pair(engine, measure):
            name = "bench-pair"
            try:
                engine.api("POST", "/v1.41/networks/create", {"Name": name})
            except RuntimeError:
                pass
            first = Place(engine, NetworkMode=name)
            second = Place(engine, NetworkMode=name)
            try:
                address = engine.api("GET", f"/v1.41/containers/{first.identifier}/json")["NetworkSettings"]["Networks"][name]["IPAddress"]
                return measure(first, second, address)
            finally:
                first.close()
                second.close()
                engine.api("DELETE", f"/v1.41/networks/{name}")

        def peer(first, second, address):
            with first.serving("iperf3", "-s", "-p", "5201"):
                return iperf(second.prefix, address, 5201) / 1e6

        def names(first, second, address):
            conf = open(f"/proc/{second.pid}/root/etc/resolv.conf").read()
            server = re.search(r"nameserver ([0-9.]+)", conf)[1]
            return second.python(ASK, server, first.identifier[:12], SECONDS)

        if want("net-peer"):
            row("container to container", "Mb/s", engines, lambda e: pair(e, peer), rounds)
        if want("net-dns"):
            row("names of neighbours, one client", "1/s", engines, lambda e: pair(e, names), rounds)
