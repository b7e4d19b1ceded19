//! The client's side of a container's streams: signals that are handed on, the
//! keys that leave, `-a`, `start -a -i`.

use crate::harness::daemon::signal;
use crate::harness::{Client, Daemon, eventually, probe};
use crate::need;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A program whose output is read while it runs.
struct Live {
    child: Child,
    input: Box<dyn Write>,
    seen: Arc<Mutex<String>>,
}

impl Live {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self::reading(child, input, output)
    }

    /// With a terminal of its own.
    fn in_terminal(command: &mut Command) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        // Ours of the slave's ends go, so that the master hears of the last one.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let master = File::from(pty.master);
        Self::reading(child, master.try_clone().unwrap(), master)
    }

    fn reading(child: Child, input: impl Write + 'static, mut output: impl Read + Send + 'static) -> Self {
        let seen = Arc::new(Mutex::new(String::new()));
        let sink = seen.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Self { child, input: Box::new(input), seen }
    }

    fn saw(&self, words: &str) -> bool {
        self.seen.lock().unwrap().contains(words)
    }

    #[track_caller]
    fn awaits(&self, words: &str) {
        eventually(&format!("{words:?} in the output"), || self.saw(words));
    }

    fn types(&mut self, keys: &[u8]) {
        self.input.write_all(keys).unwrap();
    }

    /// Its exit status as a shell shows it, and all that it printed.
    #[track_caller]
    fn end(mut self) -> (i32, String) {
        use std::os::unix::process::ExitStatusExt;
        let mut status = None;
        eventually("the end of a client", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let status = status.unwrap();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        // The reader may be a moment behind.
        eventually("the last of the output", || Arc::strong_count(&self.seen) == 1);
        let seen = self.seen.lock().unwrap().clone();
        (code, seen)
    }
}

const SIGNALS: &[&str] = &[
    "HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "CONT", "ALRM", "TSTP", "WINCH", "ABRT", "VTALRM", "XCPU", "PWR",
    "SYS",
];

#[test]
fn signals_are_handed_on() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let names = SIGNALS.join(" ");
    let script =
        format!("for s in {names}; do trap \"echo got $s.\" $s; done; echo ready; while :; do usleep 10000; done");
    let program = ["busybox", "sh", "-c", &script];
    for c in d.clients() {
        d.docker(&[&["create", "--name", "attached"][..], &program].concat()).ok();
        // The original's own client leaves `start -a` at the first SIGINT.
        let ways = [&["run", "--name", "run"][..], &["start", "-a"]];
        for args in &ways[..if c == Client::Ours { 2 } else { 1 }] {
            let (name, rest) = if args[0] == "run" { ("run", &program[..]) } else { ("attached", &["attached"][..]) };
            let client = Live::start(d.cli(c).args(*args).args(rest));
            client.awaits("ready");
            for signal_name in SIGNALS {
                signal(client.child.id(), signal_name);
                client.awaits(&format!("got {signal_name}."));
            }
            d.docker(&["kill", name]).ok();
            assert_eq!(client.end().0, 137);
        }
        // Without: the client goes, the container stays.
        let unproxied = ["run", "--sig-proxy=false", "--name", "kept"];
        let client = Live::start(d.cli(Client::Ours).args(unproxied).args(program));
        client.awaits("ready");
        signal(client.child.id(), "TERM");
        assert_eq!(client.end().0, 143);
        assert_eq!(d.inspect("kept", "{{.State.Running}}"), "true");
        // attach hands on as well, or does not.
        let client = Live::start(d.cli(c).args(["attach", "--no-stdin", "kept"]));
        // It may not be attached yet: a signal is handed on from then on.
        eventually("a signal by way of attach", || {
            signal(client.child.id(), "WINCH");
            client.saw("got WINCH.")
        });
        signal(client.child.id(), "USR1");
        client.awaits("got USR1.");
        d.docker(&["kill", "kept"]).ok();
        assert_eq!(client.end().0, 137);
        d.docker(&["rm", "-f", "run", "attached", "kept"]).ok();
    }
}

#[test]
fn detach_keys() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let shell = ["busybox", "sh", "-c", "echo ready; read x; echo x=$x.; sleep 1000"];
    for c in d.clients() {
        for (flag, keys) in [
            ("--tty", &b"\x10\x11"[..]),
            ("--detach-keys=ctrl-x,x", b"\x18x"),
            ("--detach-keys=a", b"a"),
            ("--detach-keys=ctrl-@", b"\x00"),
            ("--detach-keys=DEL", b"\x7f"),
            ("--detach-keys=ctrl-[,ctrl-_", b"\x1b\x1f"),
            ("--detach-keys=", b"\x10\x11"),
            // A beginning that was none goes on to the container.
            ("--detach-keys=a,b,c", b"abXabc"),
        ] {
            let args = [&["run", "-it", "--name", "left", flag][..], &shell].concat();
            let mut client = Live::in_terminal(d.cli(c).args(args));
            client.awaits("ready");
            client.types(keys);
            let (code, seen) = client.end();
            assert_eq!(code, 0, "{flag}: {seen}");
            assert_eq!(d.inspect("left", "{{.State.Running}}"), "true");
            d.docker(&["rm", "-f", "left"]).ok();
        }
        let id = d.docker(&["run", "-dit", "busybox"]).ok();
        let id = id.trim();
        for (line, keys) in [
            (format!("attach --detach-keys=ctrl-e,e {id}"), &b"\x05e"[..]),
            (format!("exec -it {id} sh"), b"\x10\x11"),
            (format!("exec -it --detach-keys=z {id} sh"), b"z"),
        ] {
            let mut client = Live::in_terminal(d.cli(c).args(line.split(' ')));
            client.types(b"echo a\"\"live\n");
            client.awaits("alive");
            client.types(keys);
            let (code, seen) = client.end();
            assert_eq!(code, 1, "{line}: {seen}");
            assert!(seen.contains("read escape sequence"), "{line}: {seen}");
        }
        d.docker(&["kill", id]).ok();
        // start -a -i: what is typed arrives, the code comes back.
        let mut client = Live::in_terminal(d.cli(c).args(["start", "-a", "-i", id]));
        client.types(b"echo a\"\"live; exit 7\n");
        let (code, seen) = client.end();
        assert!(code == 7 && seen.contains("alive"), "{code} {seen}");
        d.docker(&["rm", "-f", id]).ok();
    }
    // Keys that are none are refused before anything is made.
    for keys in ["aab", "ctrl-1", "a,,b", "é", "ctrl-P,ctrl-q"] {
        let flag = format!("--detach-keys={keys}");
        let said = d.docker(&["run", "--name", "never", &flag, "busybox", "true"]).fails(125);
        assert!(said.contains(&format!("invalid detach keys ({keys})")), "{said}");
        assert_eq!(d.docker(&["inspect", "never"]).code, 1);
    }
}

#[test]
fn streams_by_choice() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let script = "echo o; echo e >&2; cat; exit 9";
    let streams = "{{.Config.AttachStdin}} {{.Config.AttachStdout}} {{.Config.AttachStderr}} {{.Config.OpenStdin}}";
    for c in d.clients() {
        for (flags, stdout, stderr, attached) in [
            ("-a stdin", "", "", "true false false false"),
            ("-a stdin -i", "", "", "true false false true"),
            ("-a stdout", "o\n", "", "false true false false"),
            ("-a STDOUT -i", "o\nin\n", "", "true true false true"),
            ("-a stderr", "", "e\n", "false false true false"),
            ("-a stderr -i", "", "e\n", "true false true true"),
            ("-a stdout -a stderr", "o\n", "e\n", "false true true false"),
            ("-a stdin -a stdout -a stderr -i", "o\nin\n", "e\n", "true true true true"),
            ("-i", "o\nin\n", "e\n", "true true true true"),
        ] {
            let args = [
                &["run", "--name", "chosen"][..],
                &flags.split(' ').collect::<Vec<_>>(),
                &["busybox", "sh", "-c", script],
            ];
            let out = d.docker_input(c, &args.concat(), "in\n");
            assert_eq!((out.code, &*out.stdout, &*out.stderr), (9, stdout, stderr), "{flags}");
            assert_eq!(d.inspect("chosen", streams), attached, "{flags}");
            d.docker(&["rm", "chosen"]).ok();
        }
        let both = d.with(c, &["run", "-d", "-a", "stdout", "busybox", "true"]);
        assert!(both.fails(1).contains("cannot specify both --attach and --detach"));
        // start -a and -i.
        d.docker(&["create", "-i", "--name", "cat", "busybox", "cat"]).ok();
        d.docker_input(c, &["start", "-ai", "cat"], "through\n").prints("through");
        d.docker(&["create", "--name", "both", "busybox", "sh", "-c", script]).ok();
        let out = d.with(c, &["start", "-a", "both"]);
        assert_eq!((out.code, &*out.stdout, &*out.stderr), (9, "o\n", "e\n"));
        let two = d.with(c, &["start", "-a", "both", "cat"]).fails(1);
        assert!(two.contains("you cannot start and attach multiple containers at once"), "{two}");
        d.docker(&["rm", "cat", "both"]).ok();
    }
}

#[test]
fn exit_codes() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        for (args, code) in [
            (&["--no-such-flag", "busybox"][..], 125),
            (&["--restart=no-such", "busybox"], 125),
            (&["busybox", "/etc"], 126),
            (&["busybox", "/etc/passwd"], 126),
            (&["busybox", "no-such-program"], 127),
            (&["busybox", "/no/such/file"], 127),
            (&["busybox", "sh", "-c", "exit 0"], 0),
            (&["busybox", "sh", "-c", "exit 255"], 255),
            (&["busybox", "sh", "-c", "kill -9 $$"], 0),
            (&["--init", "busybox", "sh", "-c", "kill -9 $$"], 137),
            (&["--init", "busybox", "sh", "-c", "kill -15 $$"], 143),
            (&["--init", "busybox", "sh", "-c", "kill -6 $$"], 134),
        ] {
            // The first process of a container is deaf to its own SIGKILL.
            let out = d.with(c, &[&["run", "--rm"], args].concat());
            assert_eq!(out.code, code, "{args:?}\n{out}");
        }
        let id = d.run_detached(&["busybox", "sleep", "1000"]);
        let client = Live::start(d.cli(c).args(["wait", &id]));
        d.docker(&["kill", "-s", "KILL", &id]).ok();
        let (code, seen) = client.end();
        assert_eq!((code, seen.trim()), (0, "137"));
        assert_eq!(d.inspect(&id, "{{.State.ExitCode}} {{.State.Status}}"), "137 exited");
    }
}
