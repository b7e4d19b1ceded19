"""The curves of many containers and many clients: what one more costs.

Used by bench.py (row `scale`). Every figure is per container or per call, so a
flat line is a flat column. Our own engine only: the original needs minutes.
"""
import http.client, json, os, socket, statistics, time
from urllib.parse import quote

STEPS = 5


def per(count, action):
    """Milliseconds of each of `count` calls, on average."""
    begin = time.perf_counter()
    for n in range(count):
        action(n)
    return (time.perf_counter() - begin) * 1000 / count


def median(count, action):
    samples = []
    for _ in range(count):
        begin = time.perf_counter()
        action()
        samples.append((time.perf_counter() - begin) * 1000)
    return statistics.median(samples)


def threads_and_files(pid):
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))


def containers(engine, memory, daemon, created, running):
    """`created` containers of which `running` run, in steps; then all of it back."""
    print(f"\nscale: {created} created, {running} running; milliseconds per container or call")
    columns = ["create", "start", "ps -a", "ps/row µs", "inspect", "stats/row", "MB (PSS)", "MB/running", "threads", "fds"]
    print(f"{'created':>8}{'running':>8}" + "".join(f"{c:>11}" for c in columns), flush=True)
    idle, alive, names = memory(engine), [], []
    for step in range(1, STEPS + 1):
        batch = []
        create = per(created // STEPS, lambda n: batch.append(
            engine.create(["sleep", "100000"], NetworkMode="none", CapAdd=[])))
        names += batch
        starting = batch[: running // STEPS]
        start = per(len(starting), lambda n: engine.start(starting[n]))
        alive += starting
        listed = median(5, lambda: engine.api("GET", "/v1.41/containers/json?all=1"))
        inspect = median(20, lambda: engine.api("GET", f"/v1.41/containers/{names[len(names) // 2]}/json"))
        stats = per(len(alive), lambda n: engine.api("GET", f"/v1.41/containers/{alive[n]}/stats?stream=0&one-shot=1"))
        used = memory(engine)
        threads, files = threads_and_files(daemon)
        figures = [create, start, listed, listed * 1000 / len(names), inspect, stats, used, (used - idle) / len(alive)]
        print(f"{len(names):>8}{len(alive):>8}" + "".join(f"{f:>11.2f}" for f in figures) + f"{threads:>11}{files:>11}", flush=True)
    stop = per(len(alive), lambda n: engine.api("POST", f"/v1.41/containers/{alive[n]}/stop?t=0"))
    remove = per(len(names), lambda n: engine.api("DELETE", f"/v1.41/containers/{names[n]}?force=1"))
    time.sleep(2)  # dockerd gives its heap back a second after the last request
    print(f"stop {stop:.2f} ms, rm {remove:.2f} ms per container; memory afterwards {memory(engine):.1f} MB (before: {idle:.1f})", flush=True)


def follow(engine, path):
    """A client that reads the head of a stream and then stays."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(60)
    client.connect(engine.path)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n".encode())
    if b" 200 " not in client.recv(64):
        raise RuntimeError(f"{path}: refused")
    return client


def clients(engine, memory, daemon, count):
    """`count` clients of /events and as many of a followed log, and what stays of them."""
    name = engine.create(["sh", "-c", "echo begin; sleep 100000"], NetworkMode="none")
    engine.start(name)
    before, idle = threads_and_files(daemon), memory(engine)
    begin = time.perf_counter()
    open_clients = [follow(engine, "/v1.41/events") for _ in range(count)]
    open_clients += [follow(engine, f"/v1.41/containers/{name}/logs?follow=1&stdout=1") for _ in range(count)]
    connected = (time.perf_counter() - begin) * 1000 / len(open_clients)
    # One event must reach everybody.
    begin = time.perf_counter()
    other = engine.create(["true"], NetworkMode="none")
    for client in open_clients[:count]:
        client.recv(65536)
    told = (time.perf_counter() - begin) * 1000
    during, used = threads_and_files(daemon), memory(engine)
    for client in open_clients:
        client.close()
    time.sleep(1)
    after = threads_and_files(daemon)
    print(f"\nscale: {count} clients of events and {count} of logs -f")
    print(f"{'':<26}{'before':>10}{'during':>10}{'1 s after':>10}")
    for title, n in (("threads of dockerd", 0), ("descriptors of dockerd", 1)):
        print(f"{title:<26}{before[n]:>10}{during[n]:>10}{after[n]:>10}")
    print(f"{'memory (PSS), MB':<26}{idle:>10.1f}{used:>10.1f}{memory(engine):>10.1f}")
    print(f"connect {connected:.2f} ms each; an event has reached all of them after {told:.1f} ms", flush=True)
    for identifier in (name, other):
        engine.api("DELETE", f"/v1.41/containers/{identifier}?force=1")
