//! Asking the user's systemd for a scope: over a real message bus, and end to end
//! against a manager that really moves processes into a delegated cgroup.

use super::AsUser;
use crate::harness::{Daemon, Guest, Scratch, eventually, guest, probe, run};
use crate::need;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const METHOD_RETURN: u8 = 2;

/// One connection that speaks D-Bus, on either side.
struct Wire {
    stream: UnixStream,
    serial: u32,
}

#[derive(Debug, Default)]
struct Message {
    kind: u8,
    serial: u32,
    /// Of header fields: member is 3, sender 7.
    fields: Vec<(u8, String)>,
    body: Vec<u8>,
}

impl Message {
    fn field(&self, code: u8) -> &str {
        self.fields.iter().find(|(c, _)| *c == code).map_or("", |(_, v)| v)
    }
}

/// Reads values at their alignment.
struct Values<'a>(&'a [u8], usize);

impl Values<'_> {
    fn align(&mut self, to: usize) {
        self.1 = self.1.next_multiple_of(to);
    }
    fn byte(&mut self) -> u8 {
        self.1 += 1;
        self.0[self.1 - 1]
    }
    fn u32(&mut self) -> u32 {
        self.align(4);
        self.1 += 4;
        u32::from_le_bytes(self.0[self.1 - 4..self.1].try_into().unwrap())
    }
    fn text(&mut self, length: usize) -> String {
        let text = String::from_utf8(self.0[self.1..self.1 + length].to_vec()).unwrap();
        assert_eq!(self.0[self.1 + length], 0, "a string ends with NUL");
        self.1 += length + 1;
        text
    }
    fn string(&mut self) -> String {
        let length = self.u32() as usize;
        self.text(length)
    }
    fn signature(&mut self) -> String {
        let length = usize::from(self.byte());
        self.text(length)
    }
}

#[derive(Default)]
struct Written(Vec<u8>);

impl Written {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }
    fn u32(&mut self, n: u32) {
        self.align(4);
        self.0.extend(n.to_le_bytes());
    }
    fn string(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.bytes().chain([0]));
    }
    fn field(&mut self, code: u8, kind: &str, value: &str) {
        self.align(8);
        self.0.extend([code, 1, kind.as_bytes()[0], 0]);
        match kind {
            "g" => {
                self.0.push(value.len() as u8);
                self.0.extend(value.bytes().chain([0]));
            }
            "u" => self.u32(value.parse().unwrap()),
            _ => self.string(value),
        }
    }
}

impl Wire {
    fn send(&mut self, kind: u8, fields: &[(u8, &str, &str)], body: &[u8]) {
        self.serial += 1;
        let mut head = Written::default();
        for (code, kind, value) in fields {
            head.field(*code, kind, value);
        }
        let mut w = Written(vec![b'l', kind, 0, 1]);
        w.u32(body.len() as u32);
        w.u32(self.serial);
        w.u32(head.0.len() as u32);
        w.0.extend(head.0);
        w.align(8);
        w.0.extend(body);
        self.stream.write_all(&w.0).unwrap();
    }

    fn receive(&mut self) -> Option<Message> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head).ok()?;
        assert_eq!(head[0], b'l');
        let mut v = Values(&head, 4);
        let (body, serial, length) = (v.u32() as usize, v.u32(), v.u32() as usize);
        let mut fields = vec![0; length.next_multiple_of(8)];
        self.stream.read_exact(&mut fields).unwrap();
        let mut message = Message { kind: head[1], serial, fields: Vec::new(), body: vec![0; body] };
        self.stream.read_exact(&mut message.body).unwrap();
        let mut v = Values(&fields, 0);
        while v.1 < length {
            v.align(8);
            let code = v.byte();
            let value = match v.signature().as_str() {
                "s" | "o" => v.string(),
                "g" => v.signature(),
                "u" => v.u32().to_string(),
                other => panic!("a field of type {other}"),
            };
            message.fields.push((code, value));
        }
        Some(message)
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).into_owned()
    }

    /// The other side authenticates with us.
    fn accept(stream: UnixStream) -> Self {
        let mut wire = Self { stream, serial: 0 };
        let hello = wire.line();
        assert!(hello.starts_with("\0AUTH EXTERNAL "), "{hello:?}");
        wire.stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
        assert_eq!(wire.line(), "BEGIN\r\n");
        wire
    }

    /// We authenticate with a bus and take systemd's name there.
    fn join(path: &Path) -> Self {
        let mut wire = Self { stream: UnixStream::connect(path).unwrap(), serial: 0 };
        let uid = run(Command::new("id").arg("-u")).ok();
        let hex: String = uid.trim().bytes().map(|b| format!("{b:02x}")).collect();
        wire.stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes()).unwrap();
        assert!(wire.line().starts_with("OK"));
        wire.stream.write_all(b"BEGIN\r\n").unwrap();
        let bus =
            [(1, "o", "/org/freedesktop/DBus"), (2, "s", "org.freedesktop.DBus"), (6, "s", "org.freedesktop.DBus")];
        wire.send(1, &[&bus[..], &[(3, "s", "Hello")]].concat(), b"");
        let mut name = Written::default();
        name.string("org.freedesktop.systemd1");
        name.u32(0);
        wire.send(1, &[&bus[..], &[(3, "s", "RequestName"), (8, "g", "su")]].concat(), &name.0);
        wire
    }

    /// Answers calls of StartTransientUnit with what `act` says until it hangs up.
    fn serve(mut self, mut act: impl FnMut(Unit)) {
        while let Some(message) = self.receive() {
            if message.field(3) != "StartTransientUnit" {
                continue;
            }
            assert_eq!(message.kind, 1);
            assert_eq!(message.field(2), "org.freedesktop.systemd1.Manager");
            assert_eq!(message.field(8), "ssa(sv)a(sa(sv))");
            act(Unit::parse(&message.body));
            let mut job = Written::default();
            job.string("/org/freedesktop/systemd1/job/1");
            let serial = message.serial.to_string();
            let mut fields = vec![(5, "u", serial.as_str()), (8, "g", "o")];
            if !message.field(7).is_empty() {
                fields.push((6, "s", message.field(7)));
            }
            self.send(METHOD_RETURN, &fields, &job.0);
        }
    }
}

/// What StartTransientUnit was asked for.
#[derive(Debug, Default)]
struct Unit {
    name: String,
    mode: String,
    delegate: bool,
    pids: Vec<u32>,
    names: Vec<String>,
}

impl Unit {
    fn parse(body: &[u8]) -> Self {
        let mut v = Values(body, 0);
        let mut unit = Self { name: v.string(), mode: v.string(), ..Self::default() };
        let length = v.u32() as usize;
        v.align(8);
        let end = v.1 + length;
        while v.1 < end {
            v.align(8);
            let name = v.string();
            match (name.as_str(), v.signature().as_str()) {
                ("PIDs", "au") => {
                    let end = v.u32() as usize + v.1;
                    while v.1 < end {
                        unit.pids.push(v.u32());
                    }
                }
                ("Delegate", "b") => unit.delegate = v.u32() == 1,
                (_, "s") => {
                    v.string();
                }
                (_, other) => panic!("property {name} of type {other}"),
            }
            unit.names.push(name);
        }
        assert_eq!(v.1, end, "the array's length counts its elements");
        assert_eq!(v.u32(), 0, "no auxiliary units");
        v.align(8);
        assert_eq!(v.1, body.len(), "and nothing behind");
        unit
    }
}

/// A process of the guest, not a test: the user's systemd, as far as it matters.
#[test]
fn manager_of_the_guest() {
    let Some(socket) = std::env::var_os("CORACLE_TEST_MANAGER").map(PathBuf::from) else { return };
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    for stream in listener.incoming() {
        Wire::accept(stream.unwrap()).serve(|unit| {
            assert!(unit.delegate && unit.mode == "fail", "{unit:?}");
            let slice = Path::new("/sys/fs/cgroup/user@1000.service/app.slice");
            let scope = slice.join(&unit.name);
            std::fs::create_dir(&scope).unwrap();
            for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
                chown(scope.join(file), Some(1000), Some(1000)).unwrap();
            }
            for pid in unit.pids {
                std::fs::write(scope.join("cgroup.procs"), pid.to_string()).unwrap();
            }
        });
    }
}

#[test]
fn a_scope_of_the_users_systemd() {
    need!(guest::available());
    let scratch = Scratch::new();
    let disk = super::disk(&scratch, "256M");
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut g = Guest::boot_files("", Some(&disk), &[("opt/manager", &own)]);
    g.sh(
        "mount /dev/nvme0n1 /home/tester
        cd /sys/fs/cgroup
        mkdir -p user@1000.service/app.slice session
        for dir in . user@1000.service user@1000.service/app.slice; do echo '+memory +cpu +cpuset +pids +io' >$dir/cgroup.subtree_control; done
        chown 1000:1000 user@1000.service user@1000.service/app.slice user@1000.service/cgroup.procs user@1000.service/app.slice/cgroup.procs
        mkdir -p /run/user/1000/systemd
        (CORACLE_TEST_MANAGER=/run/user/1000/systemd/private /opt/manager manager_of_the_guest --nocapture >/dev/console 2>&1 &) 
        wait_for 60 test -S /run/user/1000/systemd/private",
    )
    .ok();
    let start = "start() { (echo 0 >/sys/fs/cgroup/session/cgroup.procs; as_user 'exec dockerd' >>/run/dockerd.log 2>&1) >/dev/null 2>&1 & wait_for 60 as_user 'docker version'; }; start";
    g.sh(start).ok();
    g.user("docker load -qi /busybox.tar").ok();
    g.user("docker info -f '{{.CgroupDriver}} {{.MemoryLimit}} {{.CpuCfsQuota}} {{.PidsLimit}}'")
        .prints("systemd true true true");
    let id = g.user("docker run -d --network none --cgroupns host --name box -m 32m busybox sleep 1000").ok();
    let path = g.user("docker exec box cat /proc/1/cgroup").ok();
    let path = path.trim().strip_prefix("0::").unwrap().to_owned();
    assert!(
        path.starts_with("/user@1000.service/app.slice/coracle-") && path.ends_with(&format!(".scope/{}", id.trim())),
        "{path}"
    );
    g.sh(&format!("cat /sys/fs/cgroup{path}/memory.max")).prints("33554432");
    // The next daemon gets a scope of its own; what runs stays where it is.
    g.sh("kill -9 $(pidof dockerd)").ok();
    g.sh(start).ok();
    g.user("docker info -f '{{.CgroupDriver}}'").prints("systemd");
    g.user("docker update -m 48m --memory-swap 96m box").ok();
    g.sh(&format!("cat /sys/fs/cgroup{path}/memory.max")).prints("50331648");
    g.user("docker run --rm --network none -m 16m busybox cat /sys/fs/cgroup/memory.max").prints("16777216");
    g.user("docker rm -f box").ok();
    g.sh(&format!("ls -d /sys/fs/cgroup{path}")).fails(1);
}

/// A bus of its own, from Debian's dbus-daemon.
struct Bus(Child);

impl Bus {
    fn start(scratch: &Scratch) -> (Self, PathBuf) {
        let socket = scratch.join("run/bus");
        let config = scratch.file(
            "bus.conf",
            format!(
                "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
                 <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
                socket.display()
            ),
        );
        let mut command = Command::new("dbus-daemon");
        command.arg(format!("--config-file={}", config.display())).args(["--nofork", "--nopidfile"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        eventually("the bus", || UnixStream::connect(&socket).is_ok());
        (Self(child), socket)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn over_a_real_bus() {
    need!(probe::program("dbus-daemon", "dbus-daemon"), probe::cgroup2());
    let mut d = Daemon::prepare(&[], &[]);
    let (_bus, socket) = Bus::start(&d.scratch);
    let (tell, told) = std::sync::mpsc::channel();
    let wire = Wire::join(&socket);
    std::thread::spawn(move || wire.serve(|unit| tell.send(unit).unwrap()));
    d.up();
    let unit = told.recv_timeout(crate::harness::PATIENCE).expect("the daemon asks for a scope");
    assert_eq!((unit.name, unit.mode, unit.delegate), (format!("coracle-{}.scope", d.pid()), "fail".to_owned(), true));
    assert!(unit.pids.contains(&d.pid()), "{:?} without {}", unit.pids, d.pid());
    assert_eq!(unit.names, ["Description", "Delegate", "CollectMode", "PIDs"]);
    // Nothing was moved: the daemon says so and goes on without.
    let log = d.log();
    assert!(log.contains("the scope did not start in time"), "{log}");
    assert_eq!(d.docker(&["info", "-f", "{{.CgroupDriver}}"]).ok().trim(), "none");
}
