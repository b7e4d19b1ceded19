//! A board with a kernel and one program of ours: no libraries, no newuidmap, no
//! init system, a root in the initial ramfs.

use super::AsUser;
use crate::harness::{Guest, guest};
use crate::need;

#[test]
fn one_program_is_enough() {
    need!(guest::available());
    let mut g = Guest::boot("");
    g.sh("(as_user 'exec dockerd' >>/run/dockerd.log 2>&1) >/dev/null 2>&1 & wait_for 60 as_user 'docker version'")
        .ok();
    // The one own id, said once where it matters.
    g.user("docker info").contains("only one user id is available to containers").ok();
    g.sh("grep -c 'only one user id is available' /run/dockerd.log").prints("1");
    // An image without a registry, and the way back out.
    g.user("docker import -c 'CMD [\"sh\"]' /rootfs.tar board:1").ok();
    g.user("docker run --rm board:1 sh -c 'id -u; cat /etc/hostname | wc -c; test -w /tmp && echo writes'")
        .prints("0\n13\nwrites");
    // A service: its port is open on the board's own address, its log is kept.
    g.user("docker run -d --name web --restart always -p 8080:80 board:1 httpd -f -h /www").ok();
    g.sh("wait_for 60 wget -q -O /run/page http://127.0.0.1:8080/ && cat /run/page").prints("hello from coracle");
    g.user("docker exec web sh -c 'wget -q -O - http://127.0.0.1/'").prints("hello from coracle");
    // Containers reach one another by name.
    g.user("docker network create inner").ok();
    g.user("docker run -d --network inner --name peer board:1 httpd -f -h /www").ok();
    g.user("docker run --rm --network inner board:1 sh -c 'until wget -q -O - http://peer/; do sleep 1; done'")
        .prints("hello from coracle");
    // What needs a second id says so instead of half working.
    let other = g.user("docker run --rm --user 1000 board:1 id");
    assert_ne!(other.code, 0, "{other}");
    let kept = g.user("docker run --rm --userns=keep-id board:1 id").fails(125);
    assert!(kept.contains("takes a second id for the container's root"), "{kept}");
    // Volumes, limits discarded by name, and a stop in order.
    g.user("docker run --rm -v data:/data board:1 sh -c 'echo kept >/data/f'").ok();
    g.user("docker run --rm -v data:/data board:1 cat /data/f").prints("kept");
    g.user("docker pause web").prints("web");
    g.user("docker unpause web").prints("web");
    g.sh("kill -9 $(pidof dockerd); (as_user 'exec dockerd' >>/run/dockerd.log 2>&1) >/dev/null 2>&1 & wait_for 60 as_user 'docker exec web true'").ok();
    g.sh("wget -q -O - http://127.0.0.1:8080/").prints("hello from coracle");
    g.user("docker rm -f web peer").ok();
    g.sh("kill $(pidof dockerd); wait_for 60 sh -c '! pidof dockerd'; wait_for 60 sh -c '! ps | grep -q \"[c]oracle-\"'; ls /run/user/1000").prints("coracle");
}
