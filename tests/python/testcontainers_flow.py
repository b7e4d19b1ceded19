"""Testcontainers with its reaper: containers, ports, networks and waiting; then a
run that is killed, whose containers the reaper takes away. The image behind
RYUK_CONTAINER_IMAGE speaks ryuk's protocol (tests/api/python.rs makes it)."""
import os
import signal
import subprocess
import sys
import time
import urllib.request

import docker
from testcontainers.core.container import DockerContainer, Reaper
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy


# The library tells its reaper's container what to wait for after the start, when
# nothing waits any more.
tell = DockerContainer.waiting_for


def waiting_for(container, strategy):
    if container._container is not None:
        strategy.wait_until_ready(container)
    return tell(container, strategy)


DockerContainer.waiting_for = waiting_for


def eventually(what, condition):
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit, f"never came: {what}"
        time.sleep(0.05)


# Lists come from client.api: client.containers.list() inspects each one, and what
# is being removed may be gone by then.


def killed():
    """The other half: starts something and dies without a word."""
    DockerContainer("busybox").with_command("sleep 1000").with_name("orphan").start()
    with_network = Network().create()
    print(SESSION_ID, with_network.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    client = docker.from_env()
    serve = ["sh", "-c", "echo serving; exec httpd -f -p 8080 -h /www"]
    with Network() as network:
        web = DockerContainer("busybox", command=serve, network=network, network_aliases=["site"])
        web.with_exposed_ports(8080).with_env("MODE", "test").with_copy_into_container(b"copied", "/www/new")
        with web.waiting_for(LogMessageWaitStrategy("serving").with_startup_timeout(60)):
            url = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(8080)}"

            def answers():
                try:
                    return urllib.request.urlopen(f"{url}/index.html", timeout=10).read().startswith(b"hello")
                except OSError:
                    return False

            eventually("an answer of the published port", answers)
            assert urllib.request.urlopen(f"{url}/new", timeout=10).read() == b"copied"
            result = web.exec(["sh", "-c", "echo $MODE; exit 3"])
            assert (result.exit_code, result.output) == (3, b"test\n"), result
            assert web.get_logs()[0] == b"serving\n", web.get_logs()
            fetch = "wget -q -O - http://site:8080/index.html"
            with DockerContainer("busybox", command=fetch, network=network) as peer:
                assert peer.wait() == 0
                assert peer.get_logs()[0].startswith(b"hello"), peer.get_logs()
            assert LABEL_SESSION_ID in web.get_wrapped_container().labels
        assert not client.api.containers(all=True, filters={"label": f"{LABEL_SESSION_ID}={SESSION_ID}", "name": "web"})
    ryuk = Reaper._container.get_wrapped_container()
    Reaper.delete_instance()
    eventually("the end of the reaper", lambda: not client.api.containers(all=True, filters={"id": ryuk.id}))

    child = subprocess.run([sys.executable, __file__, "killed"], stdout=subprocess.PIPE, text=True)
    assert child.returncode == -signal.SIGKILL, child
    session, network = child.stdout.split()
    left = {"label": f"{LABEL_SESSION_ID}={session}"}
    eventually("the reaping of a container", lambda: not client.api.containers(all=True, filters=left))
    eventually("the reaping of a network", lambda: not client.networks.list(names=[network]))
    eventually("the end of the other reaper", lambda: not client.api.containers(filters={"name": session}))


killed() if sys.argv[1:] == ["killed"] else main()
