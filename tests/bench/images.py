"""The image rows of the benchmark: load and pull of one big image as plain, gzip and zstd
layers, push, save, a pull of 50 small layers over a slow link, memory and bytes written
meanwhile, and the same work against its slowest stage alone (that of pull.py).

Each round has an image of its own: every layer begins with a small file that says which
(a gzip member or zstd frame in front of the same packed bytes), so nothing is shared and
nothing has to be removed before the end. ext4 does not give away an inode that was freed
a minute ago, and to look for others costs several times what a pull does.

The registry is Debian's, started here on port 5000. Rootless dockerd reaches it as
10.0.2.2 (slirp4netns), the others on loopback. The slow link is a relay of this file; a
peer of the name docker gets one in its own network namespace. Standard library only.
CORACLE_BENCH_KEEP: a folder for the packed layers; what was pulled stays too then, for a
run soon after this one. CORACLE_BENCH_SMALL: kB of a small layer (20).
"""
import concurrent.futures, hashlib, http.client, io, json, os, queue, socket, subprocess, sys, tarfile, threading, time, zlib

import pull as alone

NAMES = ["load-plain", "load-gzip", "load-zstd", "pull-gzip", "pull-zstd", "save", "layers50", "push"]
PORT, RELAY = 5000, 5051
DELAY = 0.050  # of a round trip, half of it each way
HOSTS = {"docker": f"10.0.2.2:{PORT}"}
STAMP = f"{os.getpid()}-{time.time_ns()}"


def pack(kind, data):
    if kind == "gzip":
        return zlib.compress(data, 6, 31)
    return subprocess.run(["zstd", "-3", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout if kind == "zstd" else data


def entry(name, data):
    """A regular file as a tar archive has it, without the end of the archive."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.GNU_FORMAT) + data + b"\0" * (-len(data) % 512)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Image:
    """Layers as (packed, diff ID), and the config that goes with them."""

    def __init__(self, kind, layers):
        self.kind, self.layers = kind, layers
        self.config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "history": [{"created_by": "bench"} for _ in layers],
                                  "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]}}).encode()

    def archive(self, tag):
        """What `docker load` takes, the layers packed as they are."""
        manifest = [{"Config": "config.json", "RepoTags": [f"{tag}:latest"], "Layers": [f"{n}/layer.tar" for n in range(len(self.layers))]}]
        files = [("config.json", self.config), ("manifest.json", json.dumps(manifest).encode())]
        files += [(f"{n}/layer.tar", data) for n, (data, _) in enumerate(self.layers)]
        return b"".join(entry(name, data) for name, data in files) + b"\0" * 1024

    def upload(self, name):
        blobs = [self.config, *(data for data, _ in self.layers)]
        types = ["config.v1+json", *[f"layer.v1.tar+{self.kind}"] * len(self.layers)]
        told = [{"mediaType": f"application/vnd.oci.image.{t}", "size": len(b), "digest": digest(b)} for t, b in zip(types, blobs)]
        registry = http.client.HTTPConnection("127.0.0.1", PORT)
        for blob, about in zip(blobs, told):
            place = call(registry, "POST", f"/v2/{name}/blobs/uploads/")
            call(registry, "PUT", f"{place}&digest={about['digest']}", blob, "application/octet-stream")
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "config": told[0], "layers": told[1:]}
        call(registry, "PUT", f"/v2/{name}/manifests/latest", json.dumps(manifest).encode(), kind)
        registry.close()


def call(registry, method, path, body=b"", kind="text/plain"):
    registry.request(method, path, body, {"Content-Type": kind})
    answer = registry.getresponse()
    text = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"registry: {method} {path}: {answer.status} {text[:200]!r}")
    return answer.headers.get("Location")


class Big:
    """The image of a `docker save`, in as many versions as there are rounds."""

    def __init__(self, path, keep):
        os.makedirs(keep, exist_ok=True)
        self.keep = keep
        with tarfile.open(path) as tar:
            names = json.load(tar.extractfile("manifest.json"))[0]["Layers"]
            self.layers = [tar.extractfile(name).read() for name in names]
        self.size = sum(map(len, self.layers))
        self.packed = {"plain": self.layers}

    def of(self, kind):
        if kind not in self.packed:
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                self.packed[kind] = list(pool.map(lambda layer: self.kept(kind, layer), self.layers))
        return self.packed[kind]

    def kept(self, kind, layer):
        path = f"{self.keep}/{hashlib.sha256(layer).hexdigest()}.{kind}"
        if not os.path.exists(path):
            with open(path + ".part", "wb") as file:
                file.write(pack(kind, layer))
            os.rename(path + ".part", path)
        return open(path, "rb").read()

    def version(self, kind, name):
        layers = []
        for n, (packed, plain) in enumerate(zip(self.of(kind), self.layers)):
            first = entry(f"bench-{n}", f"{name} {STAMP}".encode())
            diff = hashlib.sha256(first)
            diff.update(plain)
            layers.append((pack(kind, first) + packed, "sha256:" + diff.hexdigest()))
        return Image(kind, layers)


def small_layers(count):
    size = int(os.environ.get("CORACLE_BENCH_SMALL", "20")) * 1000
    plain = [entry(f"file-{n}", os.urandom(size)) + b"\0" * 1024 for n in range(count)]
    return Image("gzip", [(pack("gzip", data), digest(data)) for data in plain])


class Registry:
    def __init__(self, room):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                raise RuntimeError(f"port {PORT} has a registry already: stop it, this bench starts its own")
        os.makedirs(room)
        with open(f"{room}/config.yml", "w") as file:
            file.write(f'version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n'
                       f'storage: {{filesystem: {{rootdirectory: {room}}}}}\nhttp: {{addr: "127.0.0.1:{PORT}"}}\n')
        self.process = subprocess.Popen(["docker-registry", "serve", f"{room}/config.yml"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answers(PORT, self.process)

    def close(self):
        self.process.terminate()
        self.process.wait()


def answers(port, process, prefix=()):
    probe = f"import socket; socket.create_connection(('127.0.0.1', {port}))"
    while subprocess.run([*prefix, sys.executable, "-c", probe], stderr=subprocess.DEVNULL).returncode:
        if process.poll() is not None:
            raise RuntimeError(f"what should serve port {port} ended at once")


def relay(host):
    """Port RELAY to the registry at `host`, every byte half a DELAY late and the first a handshake later."""
    server = socket.create_server(("127.0.0.1", RELAY))
    while True:
        near = server.accept()[0]
        try:
            far = socket.create_connection((host, PORT))
        except OSError:
            near.close()
            continue
        for source, sink, late in ((near, far, DELAY), (far, near, 0)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            on_the_way = queue.SimpleQueue()
            threading.Thread(target=take, args=(source, on_the_way, time.monotonic() + late), daemon=True).start()
            threading.Thread(target=give, args=(sink, on_the_way), daemon=True).start()


def take(source, on_the_way, not_before):
    data = b"begin"
    while data:
        try:
            data = source.recv(1 << 16)
        except OSError:
            data = b""
        on_the_way.put((max(not_before, time.monotonic()) + DELAY / 2, data))


def give(sink, on_the_way):
    data = b"begin"
    while data:
        due, data = on_the_way.get()
        time.sleep(max(0, due - time.monotonic()))
        try:
            sink.sendall(data) if data else sink.shutdown(socket.SHUT_WR)
        except OSError:
            return


class Gauge:
    """While something runs: peak memory (MB) of a daemon, bytes that all processes of its engine write."""

    def __init__(self, pids, pid_of):
        self.pids, self.pid_of, self.peak, self.written = pids, pid_of, {}, {}

    def around(self, engine, work):
        pids, daemon = self.pids(engine), self.pid_of(engine)
        with open(f"/proc/{daemon}/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
        os.sync()  # what the registry has just taken in is not for this engine to wait for
        before = sum(alone.field(pid, "io", "write_bytes") for pid in pids)
        value = work()
        self.peak[engine.name] = max(self.peak.get(engine.name, 0), alone.field(daemon, "status", "VmHWM") / 1024)
        self.written[engine.name] = sum(alone.field(pid, "io", "write_bytes") for pid in pids) - before
        return value


class Rows:
    def __init__(self, row, engines, timed, pids, pid_of, big, rounds):
        self.row, self.engines, self.timed, self.pids, self.pid_of = row, engines, timed, pids, pid_of
        self.keep = os.environ.get("CORACLE_BENCH_KEEP")
        self.room, self.rounds, self.names = engines[0].room, rounds, {e.name: [] for e in engines}
        self.big = Big(big, self.keep or f"{self.room}/packed")
        self.pulled, self.alone, self.count = {}, {}, 0
        self.registry = Registry(f"{self.room}/registry")

    def host(self, engine):
        return HOSTS.get(engine.name, f"127.0.0.1:{PORT}")

    def fresh(self, kind, engine):
        """A version that no engine has seen, and its name."""
        self.count += 1
        name = f"bench-{kind}-{engine.name}-{self.count}"
        return name, self.big.version(kind, name)

    def note(self, engine, name):
        self.names[engine.name].append(name)
        return name

    def meanwhile(self, gauge):
        self.row("  peak memory of the daemon", "MB", self.engines, lambda e: gauge.peak[e.name], 1)
        self.row("  written to disk per image byte", "%", self.engines, lambda e: gauge.written[e.name] * 100 / self.big.size, 1)

    def against(self, kind, medians):
        """The stages alone are timed once for each kind."""
        if kind not in self.alone:
            os.makedirs(f"{self.room}/{kind}")
            inflating, writing, _, _ = alone.stages(self.big.of(kind), kind, f"{self.room}/{kind}")
            self.alone[kind] = max(inflating, writing) * 1000
            print(f"    alone: decompressor {inflating * 1000:.0f} ms, tree writer {writing * 1000:.0f} ms", flush=True)
        self.row("  of the slowest stage alone", "%", self.engines, lambda e: medians[e.name] * 100 / self.alone[kind] if e.name in medians else None, 1)

    def load(self, kind):
        gauge = Gauge(self.pids, self.pid_of)

        def measure(engine):
            name, image = self.fresh(kind, engine)
            data = image.archive(self.note(engine, name))
            return gauge.around(engine, lambda: self.timed(lambda: engine.api("POST", "/v1.41/images/load", raw=data)))
        medians = self.row(f"load, {self.big.size / 1e6:.0f} MB, {kind} layers", "ms", self.engines, measure, self.rounds)
        self.meanwhile(gauge)
        self.against(kind, medians)

    def get(self, engine, kind, gauge):
        name, image = self.fresh(kind, engine)
        image.upload(name)
        full = self.note(engine, f"{self.host(engine)}/{name}")
        value = gauge.around(engine, lambda: self.timed(lambda: engine.pull(full, "latest")))
        self.pulled[engine.name] = full
        return value

    def pull(self, kind):
        gauge = Gauge(self.pids, self.pid_of)
        medians = self.row(f"pull, {self.big.size / 1e6:.0f} MB, {kind} layers", "ms", self.engines, lambda e: self.get(e, kind, gauge), self.rounds)
        self.meanwhile(gauge)
        self.against(kind, medians)

    def have(self):
        """Every engine has pulled something; what cannot is told by the row that needs it."""
        for engine in self.engines:
            try:
                if engine.name not in self.pulled:
                    self.get(engine, "gzip", Gauge(self.pids, self.pid_of))
            except (RuntimeError, OSError):
                pass

    def push(self):
        """What was pulled goes to an empty registry, which has nothing to mount."""
        self.have()
        self.registry.close()
        self.registry = Registry(f"{self.room}/registry-push")

        def measure(engine):
            self.count += 1
            name = self.note(engine, f"{self.host(engine)}/pushed-{engine.name}-{self.count}")
            engine.api("POST", f"/v1.41/images/{self.pulled[engine.name]}:latest/tag?repo={name}&tag=latest")
            return self.timed(lambda: engine.stream("POST", f"/v1.41/images/{name}/push?tag=latest", {"X-Registry-Auth": "e30="}))
        self.row("push of what was pulled", "ms", self.engines, measure, 1)

    def save(self):
        self.have()
        self.row("save of what was pulled", "ms", self.engines,
                 lambda e: self.timed(lambda: e.stream("GET", f"/v1.41/images/{self.pulled[e.name]}:latest/get")), self.rounds)

    def layers50(self):
        relays = {}

        def measure(engine):
            inside = engine.name in HOSTS
            if inside not in relays:
                prefix = ["nsenter", "-t", str(self.pid_of(engine)), "-n"] if inside else []
                host = HOSTS[engine.name].split(":")[0] if inside else "127.0.0.1"
                relays[inside] = subprocess.Popen([*prefix, sys.executable, __file__, host])
                answers(RELAY, relays[inside], prefix)
            self.count += 1
            name = f"small-{engine.name}-{self.count}"
            small_layers(50).upload(name)
            full = self.note(engine, f"127.0.0.1:{RELAY}/{name}")
            return self.timed(lambda: engine.pull(full, "latest"))
        try:
            self.row(f"pull, 50 layers, {DELAY * 1000:.0f} ms round trip", "ms", self.engines, measure, self.rounds)
        finally:
            for process in relays.values():
                process.terminate()
                process.wait()

    def close(self):
        self.registry.close()
        for engine in [] if self.keep else self.engines[1:]:
            for name in self.names[engine.name]:
                try:
                    engine.api("DELETE", f"/v1.41/images/{name}:latest?force=1")
                except (RuntimeError, OSError):
                    pass


def rows(row, engines, want, timed, pids, pid_of, big, rounds):
    made = Rows(row, engines, timed, pids, pid_of, big, rounds)
    try:
        for name in filter(want, NAMES):
            work, _, kind = name.partition("-")
            getattr(made, work)(*filter(None, [kind]))
    finally:
        made.close()


if __name__ == "__main__":
    relay(sys.argv[1])
