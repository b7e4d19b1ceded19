#!/usr/bin/env python3
"""What one pull costs: time, peak memory, bytes written, page cache that stays.
The stages alone serve images.py too.

usage: pull.py BINARY IMAGE [RUNS]     e.g. pull.py target/release/coracle 127.0.0.1:5000/big 3

Starts a dockerd of its own for each run, on an empty data root, as the user who
runs it. What a pull is measured by is its slowest stage alone, for the same blobs:
the decompressor (zlib of this Python or the zstd command, from memory to nowhere) or the writer of
trees (GNU tar in a user namespace, from memory, and the sync that a pull ends with).

Nothing is removed before the last run: ext4 does not give away an inode that was
freed a minute ago, and to look for others costs several times what a pull does.
"""
import json, os, shutil, signal, subprocess, sys, tempfile, time, urllib.request, zlib

ACCEPT = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


def manifest(image):
    host, _, path = image.partition("/")
    name, _, tag = path.partition(":")
    base = f"http://{host}/v2/{name}"
    ask = urllib.request.Request(f"{base}/manifests/{tag or 'latest'}", headers={"Accept": ACCEPT})
    return base, json.load(urllib.request.urlopen(ask))["layers"]


MAPPED = ["unshare", "--user", "--map-root-user", "--map-auto"] if os.getuid() else []


def inflate(data, kind):
    """Seconds of the decompressor alone, and what came out."""
    begin = time.monotonic()
    if kind == "gzip":
        decoder = zlib.decompressobj(31)
        for at in range(0, len(data), 1 << 16):
            decoder.decompress(data[at:at + (1 << 16)])
        return time.monotonic() - begin, zlib.decompress(data, 31)
    if kind == "plain":
        return 0.0, data
    subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin, subprocess.run(["zstd", "-dc"], input=data, stdout=subprocess.PIPE, check=True).stdout


def stages(blobs, kind, room):
    """Seconds of the decompressor, of the tree writer; packed and unpacked bytes."""
    inflating, writing, packed, unpacked = 0.0, 0.0, 0, 0
    for data in blobs:
        took, tar = inflate(data, kind)
        inflating, packed, unpacked = inflating + took, packed + len(data), unpacked + len(tar)
        tree = tempfile.mkdtemp(dir=room)
        begin = time.monotonic()
        subprocess.run([*MAPPED, "tar", "-xpf", "-", "-C", tree], input=tar, check=True)
        writing += time.monotonic() - begin
    begin = time.monotonic()
    os.sync()
    return inflating, writing + time.monotonic() - begin, packed, unpacked


def stages_alone(base, layers, rooms):
    rooms.append(tempfile.mkdtemp(prefix="tree-"))
    blobs = (urllib.request.urlopen(f"{base}/blobs/{layer['digest']}").read() for layer in layers)
    return stages(blobs, "zstd" if "zstd" in layers[0]["mediaType"] else "gzip", rooms[-1])


def field(pid, file, name):
    for line in open(f"/proc/{pid}/{file}"):
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def cached(root):
    """Bytes of files below root that are in the page cache."""
    files = [os.path.join(d, f) for d, _, names in os.walk(root) for f in names]
    total = 0
    for at in range(0, len(files), 500):
        part = [f for f in files[at:at + 500] if not os.path.islink(f)]
        out = subprocess.run(["fincore", "-b", "-n", "-o", "RES", *part], capture_output=True, text=True).stdout
        total += sum(int(n) for n in out.split())
    return total


def once(binary, image, rooms):
    room = tempfile.mkdtemp(prefix="pull-")
    rooms.append(room)
    os.makedirs(f"{room}/run", mode=0o700)
    for name in ("docker", "dockerd"):
        os.symlink(os.path.abspath(binary), f"{room}/{name}")
    env = {"PATH": os.environ["PATH"], "HOME": room, "XDG_RUNTIME_DIR": f"{room}/run", "USER": os.environ.get("USER", "")}
    host = f"unix://{room}/run/d.sock"
    daemon = subprocess.Popen([f"{room}/dockerd", "--data-root", f"{room}/data", "-H", host], env=env, stderr=subprocess.DEVNULL)
    while not os.path.exists(f"{room}/run/d.sock"):
        if daemon.poll() is not None:
            sys.exit("dockerd ended at once")
        time.sleep(0.02)
    idle = field(daemon.pid, "status", "VmHWM")
    env["DOCKER_HOST"] = host
    begin = time.monotonic()
    subprocess.run([f"{room}/docker", "pull", "-q", image], env=env, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begin
    result = {
        "seconds": seconds,
        "peak_kb": field(daemon.pid, "status", "VmHWM"),
        "idle_kb": idle,
        "written": field(daemon.pid, "io", "write_bytes"),
        "cached": cached(f"{room}/data"),
    }
    daemon.send_signal(signal.SIGTERM)
    daemon.wait()
    return result


def main():
    binary, image, runs = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 3
    rooms = []
    try:
        inflating, writing, packed, unpacked = stages_alone(*manifest(image), rooms)
        print(f"{image}: {packed / 1e6:.1f} MB packed, {unpacked / 1e6:.1f} MB unpacked; alone: decompressor {inflating:.2f} s, tree writer {writing:.2f} s")
        for _ in range(runs):
            r = once(binary, image, rooms)
            print(
                f"pull {r['seconds']:.2f} s ({r['seconds'] / max(inflating, writing):.2f} of the slowest stage), peak {r['peak_kb'] / 1024:.1f} MiB "
                f"(idle {r['idle_kb'] / 1024:.1f}), written {r['written'] / 1e6:.0f} MB = {r['written'] / unpacked:.2f} per byte, "
                f"{r['cached'] / 1e6:.0f} MB stay cached"
            )
    finally:
        for room in rooms:
            subprocess.run([*MAPPED, "rm", "-rf", room])
            shutil.rmtree(room, ignore_errors=True)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    main()
