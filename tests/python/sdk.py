"""What programs do with Docker's Python SDK: containers, images, exec, attach,
logs, volumes, events. DOCKER_HOST says where; any failed assertion is the answer."""
import io
import tarfile

import docker

client = docker.from_env()
assert client.ping()
assert client.version()["ApiVersion"] == "1.51"
assert client.info()["OSType"] == "linux"

# containers
assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
try:
    client.containers.run("busybox", ["sh", "-c", "exit 3"], remove=True)
    raise SystemExit("a failed container must raise")
except docker.errors.ContainerError as error:
    assert error.exit_status == 3
try:
    client.containers.get("nosuch")
    raise SystemExit("a missing container must raise")
except docker.errors.NotFound:
    pass

box = client.containers.run("busybox", ["sh", "-c", "echo up; echo err >&2; exec sleep 1000"], detach=True, name="box",
                            environment={"A": "1"}, labels={"k": "v"}, stop_signal="KILL")
assert box.status in ("created", "running")
box.reload()
assert box.status == "running" and box.name == "box" and box.labels == {"k": "v"}
assert [c.id for c in client.containers.list(filters={"label": "k=v"})] == [box.id]

# exec, plain and demultiplexed, and the raw socket
assert box.exec_run("echo hi").output == b"hi\n"
result = box.exec_run(["sh", "-c", "echo o; echo e >&2; exit 4"], demux=True)
assert result.exit_code == 4 and result.output == (b"o\n", b"e\n"), result
assert box.exec_run("env", environment={"B": "2"}).output.count(b"B=2") == 1
exec_id = client.api.exec_create(box.id, ["cat"], stdin=True)["Id"]
sock = client.api.exec_start(exec_id, socket=True)
raw = getattr(sock, "_sock", sock)
raw.sendall(b"through the socket")
raw.shutdown(1)
received = b""
while chunk := raw.recv(4096):
    received += chunk
assert received[8:] == b"through the socket", received
sock.close()

# logs and attach
assert box.logs(stdout=True, stderr=False) == b"up\n"
assert box.logs(stdout=False, stderr=True) == b"err\n"
assert box.top()["Processes"][0][-1].startswith("sleep")
assert b"up\n" in box.attach(logs=True, stream=False)

# copying
stream, stat = box.get_archive("/etc/passwd")
assert stat["name"] == "passwd"
with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
    assert b"root" in tar.extractfile("passwd").read()
buffer = io.BytesIO()
with tarfile.open(fileobj=buffer, mode="w") as tar:
    info = tarfile.TarInfo("put")
    info.size = 3
    tar.addfile(info, io.BytesIO(b"abc"))
assert box.put_archive("/tmp", buffer.getvalue())
assert box.exec_run("cat /tmp/put").output == b"abc"
assert any(change["Path"] == "/tmp/put" for change in box.diff())

box.pause()
box.reload()
assert box.status == "paused"
box.unpause()
box.rename("renamed")
box.stop(timeout=1)
assert box.wait()["StatusCode"] == 137
box.remove()

# images
image = client.images.get("busybox")
assert image.tags == ["busybox:latest"]
assert image.tag("other", "v1")
saved = b"".join(image.save(named=True))
client.images.remove("other:v1")
assert client.images.load(saved)[0].id == image.id

# volumes
volume = client.volumes.create("stuff", labels={"x": "y"})
client.containers.run("busybox", ["sh", "-c", "echo kept >/d/f"], volumes={"stuff": {"bind": "/d", "mode": "rw"}}, remove=True)
assert client.containers.run("busybox", ["cat", "/d/f"], volumes={"stuff": {"bind": "/d", "mode": "ro"}}, remove=True) == b"kept\n"
assert [v.name for v in client.volumes.list()] == ["stuff"]
volume.remove()

# events, with a window into the past
names = [e["Action"] for e in client.events(since=1, until=__import__("time").time(), decode=True) if e["Type"] == "container"]
assert names[:1] == ["create"] and "die" in names and "destroy" in names, names

assert client.containers.prune() is not None and client.volumes.prune() is not None
assert client.df()["Images"]
print("ok")
