//! A disk with no room left, and one that loses its power. What must hold: clear
//! words, nothing half, a daemon that goes on, and a way to get room.

use super::{AsUser, disk};
use crate::harness::{Guest, Scratch, guest, image};
use crate::need;
use serde_json::json;

const START: &str =
    "(as_user 'exec dockerd' >>/run/dockerd.log 2>&1) >/dev/null 2>&1 & wait_for 60 as_user 'docker version'";
const STAGING: &str = "cd /home/tester/.local/share/coracle && find . -path './overlay2/staging/*' -o -path './image/tmp/*' -o -name '*.tmp' -o -name '.filling-*'";

/// Bytes that no file system can make smaller.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

/// busybox and 8 MiB below /data, which is a volume of the image.
fn big() -> Vec<u8> {
    let mut layer = image::Tar::default();
    layer.dir("data", 0o755);
    for n in 0..8 {
        layer.file(&format!("data/{n}"), 0o644, &noise(1 << 20));
    }
    image::archive("big:1", &[image::busybox_layer(), &layer.finish()], json!({"Cmd": ["sh"]}))
}

/// Leaves so many KiB of the disk.
fn fill(g: &mut Guest, left: u32) {
    let free = "df -k /home/tester | awk 'NR==2{print $4}'";
    let script = format!(
        "rm -f /home/tester/filler; sync; dd if=/dev/zero of=/home/tester/filler bs=1024 count=$(($({free}) - {left})) 2>/dev/null; sync; {free}"
    );
    g.sh(&script).ok();
}

/// The command fails, says why and what to do, and leaves nothing unfinished.
#[track_caller]
fn full(g: &mut Guest, command: &str) -> String {
    let output = g.user(command);
    assert_ne!(output.code, 0, "{output}");
    let said = output.stderr.to_lowercase();
    assert!(said.contains("no space left on device"), "{output}");
    g.sh(&format!("wait_for 60 sh -c 'test -z \"$({STAGING})\"'; {STAGING}")).prints("");
    output.stderr
}

#[test]
fn a_full_disk_is_survived() {
    need!(guest::available());
    let scratch = Scratch::new();
    let (disk, big) = (disk(&scratch, "64M"), big());
    let mut g = Guest::boot_files("", Some(&disk), &[("big.tar", &big)]);
    g.sh(&format!("mount /dev/nvme0n1 /home/tester; {START}")).ok();
    g.user("docker load -qi /busybox.tar").ok();
    let ticker = "docker run -d --name ticker --network none busybox sh -c 'i=0; while :; do echo $i; i=$((i+1)); usleep 100000; done'";
    g.user(ticker).ok();
    g.user("docker create --name other --network none busybox true").ok();

    // An image that does not fit: how much is missing, and nothing of it stays.
    fill(&mut g, 5000);
    let said = full(&mut g, "docker load -i /big.tar");
    assert!(said.contains("free in") && said.contains("docker system prune"), "{said}");
    g.user("docker images --format '{{.Repository}}'").prints("busybox");
    g.user("docker run --rm --network none busybox echo works").prints("works");

    // With room for the image but not for a copy of it.
    g.sh("rm /home/tester/filler").ok();
    g.user("docker load -qi /big.tar").ok();
    fill(&mut g, 4000);
    full(&mut g, "docker run --rm --network none -v filled:/data big:1 true");
    g.sh("ls -A /home/tester/.local/share/coracle/volumes/filled/_data").prints("");
    g.user("docker ps -aq --filter ancestor=big:1").prints("");
    g.user("docker exec ticker dd if=/dev/urandom of=/fat bs=1M count=2").ok();
    fill(&mut g, 1500);
    // A copy that fails leaves what was there.
    g.sh("echo before >/run/before && chmod 644 /run/before").ok();
    g.user("docker cp /run/before other:/big.tar").ok();
    let said = full(&mut g, "docker cp /big.tar other:/big.tar");
    assert!(said.contains("/big.tar: ") && said.contains("Nothing was copied."), "{said}");
    g.user("docker cp other:/big.tar - | tar -xO").prints("before");
    g.user("docker diff other").prints("A /big.tar");
    full(&mut g, "docker commit ticker made");
    g.user("docker exec ticker echo runs").prints("runs");
    g.sh("mkdir -p /run/context && echo 'FROM busybox\nRUN dd if=/dev/zero of=/fat bs=1M count=8' >/run/context/Dockerfile && chmod 755 /run/context").ok();
    fill(&mut g, 3000);
    let build = g.user("docker build --network none /run/context");
    assert_ne!(build.code, 0, "{build}");
    let _ = build.contains("No space left on device");
    g.user("docker ps -aq --filter status=exited").prints("");
    // Nothing of the step that failed is there or counts: the next try is whole.
    g.sh(&format!("wait_for 60 sh -c 'test -z \"$({STAGING})\"'; {STAGING}")).prints("");
    g.sh("rm /home/tester/filler; sed -i s/count=8/count=1/ /run/context/Dockerfile").ok();
    g.user("docker build -q -t after --network none /run/context").ok();
    g.user("docker run --rm --network none after wc -c /fat").prints("1048576 /fat");
    g.user("docker rmi after").ok();

    // No room at all: what is there stays whole, what runs goes on.
    fill(&mut g, 0);
    g.sh("dd if=/dev/zero of=/home/tester/last bs=1024 2>/dev/null").fails(1);
    let create = g.user("docker create --network none busybox true");
    assert_ne!(create.code, 0, "{create}");
    let _ = create.contains("no space left on device").contains("docker system prune");
    let _ = g.user("docker rename other another");
    let _ = g.user("docker update --restart always other");
    g.user("docker ps -q --filter name=ticker --no-trunc").ok();
    g.user("docker exec ticker echo runs").prints("runs");
    g.user("docker stop -t 0 ticker").ok();
    // The way out works where there is no byte left.
    g.user("docker rm ticker").prints("ticker");
    g.user("docker rmi big:1").ok();
    g.user("docker system prune -af --volumes").contains("Total reclaimed space").ok();
    g.sh("rm -f /home/tester/filler /home/tester/last").ok();
    g.user("docker load -qi /big.tar").ok();
    g.user("docker run --rm --network none -v filled:/data big:1 sh -c 'cat /data/* | wc -c'").prints("8388608");

    // Nothing of it has hurt a record.
    g.sh("kill -9 $(pidof dockerd)").ok();
    g.sh(START).ok();
    g.sh("cd /home/tester/.local/share/coracle && find . -name '*.unreadable' -o -name '*.tmp'; grep -E 'unreadable|panick' /run/dockerd.log || true").prints("");
    g.user("docker run --rm --network none big:1 true").ok();
}

#[test]
fn logs_go_on_when_there_is_room_again() {
    need!(guest::available());
    let scratch = Scratch::new();
    let disk = disk(&scratch, "32M");
    let mut g = Guest::boot_with("", Some(&disk));
    g.sh(&format!("mount /dev/nvme0n1 /home/tester; {START}")).ok();
    g.user("docker load -qi /busybox.tar").ok();
    let ticker = "docker run -d --name ticker --network none busybox sh -c 'i=0; while :; do echo line $i; i=$((i+1)); usleep 50000; done'";
    g.user(ticker).ok();
    fill(&mut g, 0);
    // Wait until lines are lost: the log's end no longer moves.
    let stuck = "last() { as_user 'docker logs --tail 1 ticker'; }; n=0; until [ $n -gt 200 ]; do a=$(last); sleep 1; b=$(last); [ \"$a\" = \"$b\" ] && exit 0; n=$((n+1)); done; exit 1";
    g.sh(stuck).ok();
    g.user("docker inspect -f '{{.State.Running}}' ticker").prints("true");
    g.sh("rm /home/tester/filler").ok();
    let moves = "last() { as_user 'docker logs --tail 1 ticker'; }; a=$(last); n=0; while [ \"$(last)\" = \"$a\" ]; do sleep 1; n=$((n+1)); [ $n -lt 120 ] || exit 1; done";
    g.sh(moves).ok();
    // Every line that is there is a whole one.
    let whole = |line: &str| line.strip_prefix("line ").is_some_and(|n| n.parse::<u64>().is_ok());
    let log = g.user("docker logs ticker").ok();
    assert!(log.lines().all(whole), "{:?}", log.lines().find(|l| !whole(l)));
    g.user("docker rm -f ticker").ok();
}

#[test]
fn after_a_power_cut_every_image_runs() {
    need!(guest::available());
    let scratch = Scratch::new();
    let (disk, big) = (disk(&scratch, "128M"), big());
    let boot = || {
        let mut g = Guest::boot_files("", Some(&disk), &[("big.tar", &big)]);
        g.sh(&format!("mount /dev/nvme0n1 /home/tester; {START}")).ok();
        g
    };
    let mut g = boot();
    g.user("docker load -qi /busybox.tar").ok();
    g.user("docker run -d --name always --restart always --network none busybox sleep 1000").ok();
    g.user("docker run -d --name plain --network none busybox sleep 1000").ok();
    g.user("docker run -d --rm --name gone --network none busybox sleep 1000").ok();
    g.user("docker load -qi /big.tar").ok();
    // The records follow within a moment; what nobody has synced is lost.
    g.sh("sleep 2").ok();
    g.power_cut();

    let mut g = boot();
    // What is listed is whole: all its bytes are there.
    let listed = g.user("docker images --format '{{.Repository}}'").ok();
    assert!(listed.contains("busybox") && listed.contains("big"), "{listed}");
    let sum = g.user("docker run --rm --network none big:1 sh -c 'cat /data/0 | sha256sum'").ok();
    assert_eq!(sum.split(' ').next(), Some(&*image::sha256(&noise(1 << 20))));
    g.user("docker run --rm --network none big:1 sh -c 'cat /data/* | wc -c'").prints("8388608");
    g.sh("wait_for 60 as_user 'docker exec always true'").ok();
    g.user("docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' plain").prints("exited 255");
    g.sh("wait_for 60 sh -c '! HOME=/home/tester XDG_RUNTIME_DIR=/run/user/1000 su -p -s /bin/sh tester -c \"docker inspect gone\"'").ok();
    g.sh("cd /home/tester/.local/share/coracle && find . -name '*.unreadable'").prints("");
    // In the middle of a load, with nothing synced.
    g.user("docker rmi -f big:1").ok();
    g.sh("(as_user 'docker load -qi /big.tar' >/dev/null 2>&1) >/dev/null 2>&1 & usleep 300000").ok();
    g.power_cut();
    let mut g = boot();
    for id in g.user("docker images -aq").ok().lines() {
        g.user(&format!("docker run --rm --network none {id} true")).ok();
    }
    g.user("docker load -qi /big.tar").ok();
    g.user("docker run --rm --network none big:1 sh -c 'cat /data/* | wc -c'").prints("8388608");
}
