#!/usr/bin/env python3
"""Builds beside the builders that are installed: medians in seconds, and ratios.

usage: builds.py NAME=COMMAND[@IMAGE[@PID,PID…]]... [-- ROW...]

The first column is ours. COMMAND is a docker-compatible command line (environment
in front of it, as for env), IMAGE its small base image with a shell (default
busybox), the PIDs its daemons, whose peak memory is told. All engines take turns in
each round. Rows: ten cached context stages mount. Standard library only.
CORACLE_BENCH_ROUNDS: 5 unless set.
"""
import os, shlex, shutil, statistics, subprocess, sys, tempfile, time

ROUNDS = int(os.environ.get("CORACLE_BENCH_ROUNDS", "5"))
FILES = 20000


class Engine:
    def __init__(self, text):
        self.name, _, rest = text.partition("=")
        command, image, pids = (rest.split("@") + ["", ""])[:3]
        self.command = ["env"] + shlex.split(command)
        self.image = image or "busybox"
        self.pids = [int(p) for p in pids.split(",") if p]

    def build(self, folder, dockerfile, *flags):
        with open(os.path.join(folder, "Dockerfile"), "w") as f:
            f.write(dockerfile.replace("BASE", self.image))
        began = time.monotonic()
        done = subprocess.run([*self.command, "build", "-q", "-t", "coracle-bench-" + self.name, *flags, folder],
                              stdin=subprocess.DEVNULL, capture_output=True)
        took = time.monotonic() - began
        if done.returncode:
            raise RuntimeError(f"{self.name}: {done.stderr.decode()[-400:]}")
        return took

    def peak(self):
        """Highest resident memory of the daemons so far, in MB."""
        total = 0
        for pid in self.pids:
            for line in open(f"/proc/{pid}/status"):
                if line.startswith("VmHWM"):
                    total += int(line.split()[1])
        return total / 1024


TEN = "FROM BASE\n" + "".join(f"RUN echo {n} > /file{n}\n" for n in range(10))
STAGES = "".join(f"FROM BASE AS s{n}\nRUN i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo {n} > /r{n}\n"
                 for n in range(4)) + "FROM BASE\n" + "".join(f"COPY --from=s{n} /r{n} /\n" for n in range(4))
MOUNT = "FROM BASE\nRUN --mount=type=cache,target=/cache date >> /cache/log; wc -l < /cache/log > /runs\n"
CONTEXT = "FROM BASE\nCOPY . /all\nRUN ls /all | wc -l > /count\n"


def many_files(folder):
    for n in range(FILES):
        path = os.path.join(folder, f"d{n % 100}")
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, f"f{n}"), "w") as f:
            f.write(f"content {n}\n" * 8)


def row(name, engines, prepare, turn):
    folders = {e.name: tempfile.mkdtemp() for e in engines}
    for folder in folders.values():
        os.chmod(folder, 0o755)  # the clients may be other users
    try:
        times = {e.name: [] for e in engines}
        refused = {}
        for n in range(-1, ROUNDS):
            for e in engines:
                if e.name in refused:
                    continue
                try:
                    if n < 0:
                        prepare(e, folders[e.name])
                    else:
                        times[e.name].append(turn(e, folders[e.name], n))
                except RuntimeError as error:
                    refused[e.name] = str(error)
        cells = []
        ours = statistics.median(times[engines[0].name] or [float("nan")])
        for e in engines:
            if e.name in refused:
                cells.append("refused")
                print(f"  {refused[e.name][:200]}", file=sys.stderr)
                continue
            middle = statistics.median(times[e.name])
            cells.append(f"{middle:.3f}" + ("" if e is engines[0] else f" ({middle / ours:.1f}x)"))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    finally:
        for folder in folders.values():
            shutil.rmtree(folder)


def touched(e, folder, n):
    with open(os.path.join(folder, "d7", "f7"), "w") as f:
        f.write(f"changed {n} {time.time()}\n")
    return e.build(folder, CONTEXT)


def context(e, folder):
    many_files(folder)
    e.build(folder, CONTEXT)


ROWS = {
    "ten": ("10 steps, no cache", lambda e, f: e.build(f, TEN), lambda e, f, n: e.build(f, TEN, "--no-cache")),
    "cached": ("10 steps, all cached", lambda e, f: e.build(f, TEN), lambda e, f, n: e.build(f, TEN)),
    "context": (f"1 of {FILES} files changed", context, touched),
    "stages": ("four independent stages", lambda e, f: None, lambda e, f, n: e.build(f, STAGES, "--no-cache")),
    "mount": ("a cache mount, no cache", lambda e, f: e.build(f, MOUNT), lambda e, f, n: e.build(f, MOUNT, "--no-cache")),
}


def main():
    words = sys.argv[1:]
    wanted = list(ROWS)
    if "--" in words:
        at = words.index("--")
        words, wanted = words[:at], words[at + 1:]
    engines = [Engine(w) for w in words]
    print("| seconds | " + " | ".join(e.name for e in engines) + " |")
    print("|---|" + "--:|" * len(engines))
    for name in wanted:
        row(ROWS[name][0], engines, *ROWS[name][1:])
    print("| peak memory, MB | " + " | ".join(f"{e.peak():.0f}" if e.pids else "" for e in engines) + " |")


if __name__ == "__main__":
    main()
