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

# frames are a matter of the start's terminal, not of the exec's
both = ["sh", "-c", "echo o; echo e >&2"]
made = client.api.exec_create(box.id, both, tty=True)["Id"]
assert client.api.exec_start(made, demux=True) == (b"o\r\ne\r\n", None)
made = client.api.exec_create(box.id, both)["Id"]
assert client.api.exec_start(made, tty=True) == b"o\ne\n"

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

# a build's lines: errors in red, and containers that go only where it was asked for
for rm in (True, False):
    dockerfile = io.BytesIO(b"FROM busybox\nRUN echo fine; echo bad >&2\n")
    lines = [line.get("stream", "") for line in client.api.build(fileobj=dockerfile, decode=True, nocache=True, rm=rm)]
    assert "\x1b[91mbad\n\x1b[0m" in lines and "fine\n" in lines, lines
    assert any("Removed intermediate container" in line for line in lines) == rm, lines

# the SDK writes such a port as 81/tcp/tcp
exposed = client.api.create_container("busybox", ["sleep", "1000"], ports=["81/tcp"], stop_signal="KILL",
                                      host_config=client.api.create_host_config(publish_all_ports=True))
client.api.start(exposed)
assert list(client.api.inspect_container(exposed)["NetworkSettings"]["Ports"]) == ["81/tcp"]
client.api.remove_container(exposed, force=True)

# links of a network other than the default one: what they name may come later
pair = client.networks.create("pair")
asker = client.containers.run("busybox", ["sleep", "1000"], detach=True, network="pair", stop_signal="KILL")
pair.disconnect(asker)
pair.connect(asker, links=[("later", "near")])
assert asker.exec_run("nslookup near").exit_code == 1
later = client.containers.run("busybox", ["sleep", "1000"], detach=True, network="pair", name="later", stop_signal="KILL")
assert asker.exec_run("nslookup near").exit_code == 0
asker.reload()
assert asker.attrs["NetworkSettings"]["Networks"]["pair"]["Links"] == ["later:near"]
for container in (asker, later):
    container.remove(force=True)
pair.remove()

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
