"""The API rows of the benchmark: requests per second and latency of /_ping and
/containers/json, handshakes per second, what a silent connection costs; over a unix
socket, TCP and mutual TLS. Clients are processes of this file, so that every engine
meets the same ones.

Our daemons are started for it. A peer takes part in more than the unix rows if
CORACLE_BENCH_API_<peer> says where: `tcp=PORT tcppid=PID tls=PORT tlspid=PID certs=DIR
unixpid=PID` (ports of loopback in the network namespace of that process, which is its
dockerd; certs has ca.pem, cert.pem, key.pem). Standard library only.
"""
import json, multiprocessing, os, resource, socket, ssl, statistics, subprocess, sys, time

SECONDS = float(os.environ.get("CORACLE_BENCH_SECONDS", "2"))
CLIENTS = 4
ROUNDS = int(os.environ.get("CORACLE_BENCH_API_ROUNDS", "3"))
IDLE = 2000
NAMES = ["api-latency", "api-rate", "api-cpu", "api-handshakes", "api-idle"]
PATHS = ["/_ping", "/v1.41/containers/json"]


def context(certs):
    made = ssl.create_default_context(cafile=f"{certs}/ca.pem")
    made.load_cert_chain(f"{certs}/cert.pem", f"{certs}/key.pem")
    return made


def connect(kind, where, certs=None, made=None):
    if kind == "unix":
        s = socket.socket(socket.AF_UNIX)
        s.connect(where)
        return s
    s = socket.create_connection(("127.0.0.1", int(where)))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s if kind == "tcp" else (made or context(certs)).wrap_socket(s, server_hostname="localhost")


def ask(s, request):
    s.sendall(request)
    data = s.recv(65536)
    while b"\r\n\r\n" not in data:
        data += s.recv(65536)
    head, body = data.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode())
    low = head.lower()
    if b"content-length:" in low:
        length = int(low.split(b"content-length:")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += s.recv(65536)
    else:
        while not body.endswith(b"0\r\n\r\n"):
            body += s.recv(65536)


def request(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def sequential(out, kind, where, certs, path, seconds):
    s, text, times = connect(kind, where, certs), request(path), []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        ask(s, text)
        times.append(time.perf_counter() - begin)
    out.put(times)


def handshakes(out, where, certs, seconds):
    made, text, count = context(certs), request("/_ping"), 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        s = connect("tls", where, certs, made)
        ask(s, text)  # the daemon has judged our certificate
        s.close()
        count += 1
    out.put(count)


def gather(target, count, arguments):
    out = multiprocessing.SimpleQueue()
    workers = [multiprocessing.Process(target=target, args=(out, *arguments)) for _ in range(count)]
    for worker in workers:
        worker.start()
    results = [out.get() for _ in workers]
    for worker in workers:
        worker.join()
    return results


def client(mode, kind, where, certs, path):
    """Prints one line of JSON; runs in a process of its own."""
    if mode == "sequential":
        times = gather(sequential, 1, (kind, where, certs, path, SECONDS))[0]
        times.sort()
        result = {"p50": times[len(times) // 2] * 1e6, "p99": times[len(times) * 99 // 100] * 1e6}
    elif mode == "rate":
        result = sum(len(t) for t in gather(sequential, CLIENTS, (kind, where, certs, path, SECONDS)))
    elif mode == "handshakes":
        result = sum(gather(handshakes, CLIENTS, (where, certs, SECONDS))) / SECONDS
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        made = context(certs) if kind == "tls" else None
        silent = []
        for _ in range(IDLE):
            silent.append(connect(kind, where, certs, made))
            ask(silent[-1], request("/_ping"))
        print("null", flush=True)
        sys.stdin.readline()  # until the other side has measured
        return
    print(json.dumps(result), flush=True)


class Place:
    """Where one engine answers over one kind of connection."""

    def __init__(self, engine, kind, where, certs, pid, inside):
        self.name, self.kind, self.where, self.certs, self.pid = engine.name, kind, where, certs, pid
        self.prefix = ["nsenter", "-t", str(pid), "-n"] if inside else []

    def start(self, mode, path="/_ping"):
        command = [*self.prefix, sys.executable, __file__, mode, self.kind, str(self.where), self.certs or "-", path]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, mode, path="/_ping"):
        done = self.start(mode, path)
        text, _ = done.communicate()
        if done.returncode:
            raise RuntimeError(f"the client of {self.name} failed")
        return json.loads(text)

    def cpu(self):
        """Microseconds that the daemon has used so far."""
        fields = open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


def places(engine, unix_pid, ours):
    """Of our engine, `ours` has been started for it; of a peer, what the environment says."""
    text = ours or os.environ.get(f"CORACLE_BENCH_API_{engine.name}", "")
    told = dict(word.split("=", 1) for word in text.split())
    found = [Place(engine, "unix", engine.path, None, int(told.get("unixpid", unix_pid)), False)]
    for kind in ("tcp", "tls"):
        if kind in told:
            found.append(Place(engine, kind, told[kind], told.get("certs"), int(told[f"{kind}pid"]), not ours))
    return {place.kind: place for place in found}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def our_daemon(ours, name, flags):
    """A second daemon of ours with an address on loopback; its process."""
    home = f"{ours.room}/{name}"
    os.makedirs(f"{home}/run", mode=0o700)
    if ours.prefix:
        entry = os.stat(f"{ours.room}/home")
        for path in (home, f"{home}/run"):
            os.chown(path, entry.st_uid, entry.st_gid)
    environment = {**ours.environment, "HOME": home, "XDG_RUNTIME_DIR": f"{home}/run"}
    dockerd = [*ours.prefix, f"{ours.room}/bin/dockerd"]
    if "--tlsverify" in flags:
        subprocess.run([*dockerd, "--tls-init"], env=environment, check=True, capture_output=True)
    log = open(f"{home}/log", "w")
    return home, subprocess.Popen([*dockerd, *flags], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def silent(place, pss_kib):
    before = pss_kib([place.pid])
    holder = place.start("idle")
    holder.stdout.readline()
    time.sleep(2)  # a burst's memory goes back to the kernel after a second
    value = (pss_kib([place.pid]) - before) * 1024 / IDLE / 1000
    holder.communicate("\n")
    return value


def rows(row, engines, want, pss_kib, pid_of):
    ours = engines[0]
    tcp, tls = free_port(), free_port()
    started = []
    try:
        _, process = our_daemon(ours, "tcp", ["-H", f"tcp://127.0.0.1:{tcp}"])
        started.append(process)
        home, process = our_daemon(ours, "tls", ["--tlsverify", "-H", f"tcp://127.0.0.1:{tls}"])
        started.append(process)
        certs = f"{home}/.config/docker/tls/clients/client"
        wait(tcp, started)
        wait(tls, started)
        told = f"tcp={tcp} tcppid={started[0].pid} tls={tls} tlspid={started[1].pid} certs={certs}"
        at = {e.name: places(e, pid_of(e), told if e is ours else None) for e in engines}
        for kind in ("unix", "tcp", "tls"):
            measure(row, engines, want, lambda e: at[e.name].get(kind), kind, pss_kib)
    finally:
        for process in started:
            process.terminate()
            process.wait()


def wait(port, started):
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if any(process.poll() is not None for process in started):
                raise RuntimeError("a daemon of ours did not start")
            time.sleep(0.01)


def measure(row, engines, want, place, kind, pss_kib):
    def on(work):
        return lambda engine: work(place(engine)) if place(engine) else None
    for path in PATHS:
        short = path.split("/")[-1] if "ping" in path else "containers/json"
        if want("api-latency"):
            row(f"{short}, {kind}, latency", "µs", engines, on(lambda p: p.run("sequential", path)["p50"]), ROUNDS)
        if want("api-rate"):
            row(f"{short}, {kind}, {CLIENTS} clients", "1/s", engines, on(lambda p: p.run("rate", path) / SECONDS), ROUNDS)
        if want("api-cpu"):
            def cpu(p):
                before = p.cpu()
                return (p.run("rate", path), p.cpu() - before)
            def each(p):
                count, used = cpu(p)
                return used / count
            row(f"{short}, {kind}, daemon's CPU", "µs", engines, on(each), 1)
    if want("api-handshakes") and kind == "tls":
        row("handshakes with a request", "1/s", engines, on(lambda p: p.run("handshakes")), ROUNDS)
    if want("api-idle"):
        row(f"a silent connection, {kind}", "kB", engines, on(lambda p: silent(p, pss_kib)), 1)


if __name__ == "__main__":
    client(*sys.argv[1:6])
