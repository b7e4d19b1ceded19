//! A virtual machine under QEMU's own translation (no KVM): Debian's cloud
//! kernel, an initramfs made here of busybox and our one binary, and nothing
//! else. What needs real controllers, sysctls, root, a power cut or a bare board
//! is proved inside it.
//!
//! Commands go over the second serial port: one line of a number, a checksum and base64
//! is a shell script, the answer is its status and two streams with their lengths. A busy
//! host may lose bytes on the way in, the end of a line among them: what is whole is told
//! as taken, what is not comes again, and one number is run once. When a script takes very
//! long, the guest writes to the console what each process waits for.

use super::command::Output;
use super::{Scratch, daemon, image, probe};
use base64::Engine as _;
use coracle::image::digest::Digest;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `tests/scripts/setup` unpacks kernel and modules here.
const KERNEL: &str = "/opt/coracle-test/guest";
/// Only a hang reaches it: translated code on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(300);
/// So long a script may be on its way before it is sent again.
const AGAIN: Duration = Duration::from_secs(10);

/// What these tests need of the host.
pub fn available() -> probe::Need {
    probe::program("qemu-system-x86_64", "qemu-system-x86")?;
    probe::busybox()?;
    if Path::new(KERNEL).join("vmlinuz").exists() {
        Ok(())
    } else {
        Err(format!("no kernel for a guest in {KERNEL}; fetch it with: sudo tests/scripts/setup $USER"))
    }
}

pub struct Guest {
    qemu: Child,
    port: UnixStream,
    scratch: Scratch,
    profile: String,
    /// Of the last script.
    number: u32,
}

/// First process of the guest. Everything it needs is in busybox.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /bin /sbin /proc /sys /dev /run /tmp /root /mnt /var/tmp
/bin/busybox --install -s /bin
export PATH=/bin:/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
chmod 1777 /tmp /dev/shm
chmod 666 /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/ptmx
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname guest
ip link set lo up
for module in overlay bridge veth lzo-rle zram loop; do modprobe $module; done
mkdir -p /home/tester /run/user/1000
chown 1000:1000 /home/tester /run/user/1000
chmod 700 /run/user/1000
"#;

/// The end of [`INIT`], or a service beside systemd: runs what comes over the port.
const AGENT: &str = r#"stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo ready >&3
n=0
waits() {
    for p in /proc/[0-9]*; do
        line=$(tr '\0' ' ' <$p/cmdline | cut -c1-120)
        [ -n "$line" ] || continue # the kernel's own
        echo "$p $line"
        for t in $p/task/*; do
            echo "  $(cat $t/comm) $(cat $t/syscall)" $(cut -d' ' -f2 $t/stack)
        done
    done
}
while sleep 100; do
    busy=$(cat /run/busy) && [ "$busy" = "$before" ] && waits
    before=$busy
done </dev/null >/dev/ttyS0 2>/dev/null 3>&- &
while read -r number sum line <&3; do
    [ "$(echo "$number $line" | sha256sum | cut -c1-64)" = "$sum" ] || { echo again >&3; continue; }
    echo "taken $number" >&3
    [ "$number" != "$n" ] || continue
    echo $number >/run/busy
    n=$number # what an earlier script left running keeps its own files
    echo "$line" | base64 -d >/run/$n.sh
    sh /run/$n.sh </dev/null >/run/$n.out 2>/run/$n.err
    code=$?
    rm /run/busy
    echo "$code $(stat -c %s /run/$n.out) $(stat -c %s /run/$n.err)" >&3
    cat /run/$n.out /run/$n.err >&3
done
"#;

/// What every script may use: programs by name, and commands as the ordinary user.
const PROFILE: &str = r#"export PATH=/opt:/bin:/sbin HOME=/root
as_user() { HOME=/home/tester XDG_RUNTIME_DIR=/run/user/1000 su -p -s /bin/sh tester -c "$1"; }
wait_for() { # SECONDS COMMAND: until it succeeds
    local n=$(($1 * 5)); shift
    until "$@" >/dev/null 2>&1; do n=$((n - 1)); [ $n -gt 0 ] || { echo "never came: $*" >&2; return 1; }; usleep 200000; done
}
"#;

/// First process where the disk is Debian's root: it puts our programs there and lets
/// systemd boot. Its own root is the same initramfs.
const SWITCH: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /sys /new
/bin/busybox mount -t devtmpfs dev /dev
until [ -b /dev/nvme0n1 ]; do /bin/busybox usleep 20000; done
/bin/busybox mount -t ext4 /dev/nvme0n1 /new
/bin/busybox cp -a /opt/. /new/opt/
/bin/busybox cp /bin/busybox /new/bin/busybox
/bin/busybox cp /busybox.tar /agent /new/
/bin/busybox cp /agent.service /new/etc/systemd/system/
/bin/busybox mkdir -p /new/etc/systemd/system/basic.target.wants
/bin/busybox ln -s ../agent.service /new/etc/systemd/system/basic.target.wants/
exec /bin/busybox switch_root /new /sbin/init
"#;

const AGENT_UNIT: &str = "[Unit]
DefaultDependencies=no
After=basic.target
[Service]
ExecStart=/agent
KillMode=process
";

/// Beside [`PROFILE`], where the programs are Debian's.
const SYSTEMD_PROFILE: &str = r#"export PATH=/opt:/usr/sbin:/usr/bin:/sbin:/bin
usleep() { busybox usleep "$1"; }
as_user() {
    setpriv --reuid 1000 --regid 1000 --init-groups env -i HOME=/home/tester USER=tester LANG=C.UTF-8 \
        PATH=/opt:/usr/bin:/bin:/usr/sbin:/sbin XDG_RUNTIME_DIR=/run/user/1000 sh -c "$1"
}
"#;

/// A root file system with systemd, OpenRC and runit; `tests/scripts/setup` makes it, of the
/// host's release. `CORACLE_GUEST` names one of another.
fn debian() -> PathBuf {
    std::env::var_os("CORACLE_GUEST").map_or_else(|| Path::new(KERNEL).join("debian.img"), PathBuf::from)
}

/// What tests of service managers need beside [`available`].
pub fn with_systemd() -> probe::Need {
    available()?;
    match debian().exists() {
        true => Ok(()),
        false => Err(format!("no {}; make it with: sudo tests/scripts/setup $USER", debian().display())),
    }
}

impl Guest {
    /// Boots; `append` is more of the kernel's command line.
    pub fn boot(append: &str) -> Self {
        Self::boot_with(append, None)
    }

    /// The same with a disk (`/dev/nvme0n1`), which outlives the guest.
    pub fn boot_with(append: &str, disk: Option<&Path>) -> Self {
        Self::boot_files(append, disk, &[])
    }

    /// The same with more programs in its root.
    pub fn boot_files(append: &str, disk: Option<&Path>, programs: &[(&str, &[u8])]) -> Self {
        let drive = disk.map(|disk| format!("cache=unsafe,file={}", disk.display()));
        Self::launch(append, &format!("{INIT}{AGENT}"), drive, programs)
    }

    /// Debian with systemd as the first process. Nothing that is written outlives it.
    pub fn boot_systemd() -> Self {
        let drive = format!("snapshot=on,file={}", debian().display());
        let agent = format!("#!/bin/sh\n{AGENT}");
        let programs = [("agent", agent.as_bytes()), ("agent.service", AGENT_UNIT.as_bytes())];
        let mut guest = Self::launch("", SWITCH, Some(drive), &programs);
        guest.profile = format!("{PROFILE}{SYSTEMD_PROFILE}");
        guest
    }

    fn launch(append: &str, init: &str, drive: Option<String>, programs: &[(&str, &[u8])]) -> Self {
        let scratch = Scratch::new();
        let initramfs = scratch.file("initramfs", initramfs(init, programs));
        let socket = scratch.join("port");
        let log = std::fs::File::create(scratch.join("qemu.log")).unwrap();
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", "768"])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(Path::new(KERNEL).join("vmlinuz"))
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 no_timer_check random.trust_cpu=on {append}")])
            .arg("-serial")
            .arg(format!("file:{}", scratch.join("console").display()))
            .arg("-serial")
            .arg(format!("unix:{},server=on,wait=off", socket.display()));
        if let Some(drive) = drive {
            let drive = format!("if=none,id=disk,format=raw,{drive}");
            command.args(["-drive", &drive, "-device", "nvme,drive=disk,serial=1"]);
        }
        let qemu = command
            .env("CORACLE_TEST", scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut guest = Self { port: connect(&socket), qemu, scratch, profile: PROFILE.to_owned(), number: 0 };
        guest.port.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert_eq!(guest.line(PATIENCE).as_deref(), Some("ready"), "{}", guest.console());
        guest
    }

    /// Runs a shell script as the guest's root.
    #[track_caller]
    pub fn sh(&mut self, script: &str) -> Output {
        let line = base64::engine::general_purpose::STANDARD.encode(format!("{}{script}\n", self.profile));
        let sum = Digest::of(format!("{} {line}\n", self.number + 1).as_bytes());
        self.number += 1;
        self.send(&format!("{} {} {line}\n", self.number, sum.hex()));
        let head = loop {
            match self.line(PATIENCE) {
                // Of what came twice.
                Some(line) if line == "again" || line.starts_with("taken ") => {}
                Some(head) => break head,
                None => panic!("the guest does not answer to: {script}\n{}", self.console()),
            }
        };
        let numbers: Vec<usize> = head.split(' ').map(|n| n.parse().unwrap_or(usize::MAX)).collect();
        let [code, out, err] = numbers[..] else { panic!("not an answer: {head:?}\n{}", self.console()) };
        let raw = self.bytes(out);
        let stderr = self.bytes(err);
        Output::of(script, code as i32, raw, &stderr)
    }

    /// Until the guest says that it has it whole.
    fn send(&mut self, request: &str) {
        let taken = format!("taken {}", self.number);
        let limit = Instant::now() + PATIENCE;
        self.port.write_all(request.as_bytes()).unwrap();
        loop {
            match self.line(AGAIN) {
                Some(line) if line == taken => return,
                Some(line) if line != "again" => {}
                _ => self.port.write_all(request.as_bytes()).unwrap(),
            }
            assert!(Instant::now() < limit, "the guest takes nothing\n{}", self.console());
        }
    }

    /// kill -9 of the machine: what the disk has is what there is.
    pub fn power_cut(mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }

    /// What the kernel and the daemon's log wrote.
    pub fn console(&self) -> String {
        let read = |name: &str| std::fs::read(self.scratch.join(name)).unwrap_or_default();
        let console = read("console");
        let tail = console.len().saturating_sub(20_000);
        format!(
            "--- qemu\n{}\n--- console\n{}",
            String::from_utf8_lossy(&read("qemu.log")),
            String::from_utf8_lossy(&console[tail..])
        )
    }

    /// None: it did not begin in time.
    fn line(&mut self, patience: Duration) -> Option<String> {
        let mut line = vec![0];
        self.read(&mut line, Instant::now() + patience)?;
        while line.last() != Some(&b'\n') {
            line.extend(self.bytes(1));
        }
        line.pop();
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let limit = Instant::now() + PATIENCE;
        let mut bytes = vec![0; count];
        let mut have = 0;
        while have < count {
            match self.read(&mut bytes[have..], limit) {
                Some(n) => have += n,
                None => panic!("the guest does not answer\n{}", self.console()),
            }
        }
        bytes
    }

    /// None: nothing came until `limit`.
    fn read(&mut self, buffer: &mut [u8], limit: Instant) -> Option<usize> {
        loop {
            match self.port.read(buffer) {
                Ok(0) => panic!("the guest is gone\n{}", self.console()),
                Ok(n) => return Some(n),
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {
                    if Instant::now() >= limit {
                        return None;
                    }
                }
                Err(e) => panic!("the guest's port: {e}\n{}", self.console()),
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.console());
        }
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn connect(socket: &Path) -> UnixStream {
    let limit = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return stream,
            Err(e) => assert!(Instant::now() < limit, "QEMU's serial port: {e}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn initramfs(init: &str, programs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut cpio = Cpio::default();
    for dir in ["bin", "opt", "etc", "dev", "lib"] {
        cpio.dir(dir);
    }
    cpio.add("dev/console", 0o020_600, b"", (5, 1));
    cpio.file("init", 0o755, init.as_bytes());
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|p| std::fs::read(p).ok()).unwrap();
    cpio.file("bin/busybox", 0o755, &busybox);
    cpio.file("opt/coracle", 0o755, &stripped());
    for name in ["docker", "dockerd"] {
        cpio.add(&format!("opt/{name}"), 0o120_777, b"coracle", (0, 0));
    }
    cpio.file("busybox.tar", 0o644, &std::fs::read(image::busybox_archive()).unwrap());
    cpio.file("rootfs.tar", 0o644, image::busybox_layer());
    cpio.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\ntester:x:1000:1000::/home/tester:/bin/sh\n");
    cpio.file("etc/group", 0o644, b"root:x:0:\ntester:x:1000:\n");
    cpio.file("etc/hosts", 0o644, b"127.0.0.1 localhost guest\n");
    for (name, content) in programs {
        cpio.file(name, 0o755, content);
    }
    add_tree(&mut cpio, &Path::new(KERNEL).join("lib"), Path::new("lib"));
    cpio.finish()
}

/// The program without its symbols, which a debug build is mostly made of.
fn stripped() -> Vec<u8> {
    let scratch = Scratch::new();
    let copy = scratch.join("coracle");
    let done = Command::new("strip").arg("-o").arg(&copy).arg(daemon::binary()).stderr(Stdio::null()).status();
    let path = if done.is_ok_and(|s| s.success()) { copy } else { daemon::binary() };
    std::fs::read(path).unwrap()
}

fn add_tree(cpio: &mut Cpio, from: &Path, to: &Path) {
    let mut names: Vec<PathBuf> = std::fs::read_dir(from).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for path in names {
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            cpio.dir(to.to_str().unwrap());
            add_tree(cpio, &path, &to);
        } else {
            cpio.file(to.to_str().unwrap(), 0o644, &std::fs::read(&path).unwrap());
        }
    }
}

/// The "newc" format, which the kernel unpacks.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    count: u32,
}

impl Cpio {
    fn dir(&mut self, name: &str) {
        self.add(name, 0o040_755, b"", (0, 0));
    }
    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.add(name, 0o100_000 | mode, content, (0, 0));
    }
    fn add(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        self.count += 1;
        let (size, name_size) = (content.len() as u32, name.len() as u32 + 1);
        let fields = [self.count, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"", (0, 0));
        self.bytes
    }
}
