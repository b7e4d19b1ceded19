//! Further processes in a running container.

use crate::harness::{Daemon, eventually, probe};
use crate::need;

#[test]
fn streams_codes_and_environment() {
    need!(probe::busybox(), probe::subordinate_ids());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&["-e", "A=1", "-w", "/tmp", "busybox", "sleep", "1000"]);
    for c in d.clients() {
        let out = d.with(c, &["exec", &id, "sh", "-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (3, "out\n", "err\n"), "{out}");
        d.with(c, &["exec", "-e", "B=2", &id, "sh", "-c", "echo $A$B; pwd"]).prints("12\n/tmp");
        d.with(c, &["exec", "-u", "user", "-w", "/home", &id, "sh", "-c", "id -u; pwd"]).prints("1000\n/home");
        d.docker_input(c, &["exec", "-i", &id, "cat"], "through and back").prints("through and back");
        d.with(c, &["exec", &id, "nosuch"]).contains("executable file not found in $PATH").fails(127);
        let words = d.with(c, &["exec", "nosuchcontainer", "true"]).fails(1);
        assert!(words.contains("No such container: nosuchcontainer"), "{words}");
        d.with(c, &["exec", "-t", &id, "echo", "hi"]).prints("hi");
    }
}

#[test]
fn sees_the_container_and_nothing_else() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&["-h", "boat", "busybox", "sleep", "1000"]);
    for c in d.clients() {
        d.with(c, &["exec", &id, "hostname"]).prints("boat");
        let ps = d.with(c, &["exec", &id, "ps", "-o", "pid,args"]).ok();
        assert!(ps.contains("1 sleep 1000"), "{ps}");
        for space in ["mnt", "pid", "net", "ipc", "uts"] {
            let script = format!("test \"$(readlink /proc/1/ns/{space})\" = \"$(readlink /proc/self/ns/{space})\"");
            d.with(c, &["exec", &id, "sh", "-c", &script]).ok();
        }
        // No descriptor of ours is left in it (0, 1, 2 and the one that ls opens).
        d.with(c, &["exec", &id, "sh", "-c", "ls /proc/self/fd | wc -l"]).prints("4");
    }
}

#[test]
fn detached_and_inspected() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&["busybox", "sleep", "1000"]);
    for c in d.clients() {
        d.with(c, &["exec", "-d", &id, "sh", "-c", "echo done >/result"]).prints("");
        eventually("the detached command", || d.docker(&["exec", &id, "cat", "/result"]).stdout == "done\n");
        d.docker(&["exec", &id, "rm", "/result"]).ok();
    }
    let made = d.json("POST", &format!("/containers/{id}/exec"), Some(r#"{"Cmd":["sh","-c","exit 4"]}"#));
    let exec = made["Id"].as_str().unwrap();
    assert_eq!(d.json("GET", &format!("/exec/{exec}/json"), None)["ExitCode"], serde_json::Value::Null);
    let (status, _) = d.api("POST", &format!("/exec/{exec}/start"), Some(r#"{"Detach":true}"#));
    assert_eq!(status, 200);
    eventually("its exit code", || d.json("GET", &format!("/exec/{exec}/json"), None)["ExitCode"] == 4);
    let (status, text) = d.api("POST", &format!("/exec/{exec}/start"), Some(r#"{"Detach":true}"#));
    assert_eq!(status, 409, "{text}");
}

#[test]
fn of_a_stopped_container_is_refused() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.docker(&["create", "busybox"]).ok();
    for c in d.clients() {
        let words = d.with(c, &["exec", id.trim(), "true"]).fails(1);
        assert!(words.contains("is not running"), "{words}");
    }
}

#[test]
fn ends_with_the_run_of_its_container() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&["--stop-signal", "KILL", "--network", "none", "busybox", "sleep", "1000"]);
    let make = |cmd: &str| {
        let made = d.json("POST", &format!("/containers/{id}/exec"), Some(&format!(r#"{{"Cmd":["{cmd}"]}}"#)));
        made["Id"].as_str().unwrap().to_owned()
    };
    let start = |exec: &str| d.api("POST", &format!("/exec/{exec}/start"), Some(r#"{"Detach":true}"#));
    // What is not there is the caller's mistake.
    let (status, text) = start(&make("nosuchcommand"));
    assert!(status == 400 && text.contains("executable file not found"), "{status} {text}");
    let (ended, waiting) = (make("true"), make("true"));
    assert_eq!(start(&ended).0, 200);
    eventually("its exit code", || d.json("GET", &format!("/exec/{ended}/json"), None)["ExitCode"] == 0);
    d.docker(&["stop", &id]).ok();
    assert_eq!(start(&waiting).0, 404);
    let (status, text) = d.api("POST", &format!("/exec/{ended}/resize?h=4&w=4"), None);
    assert_eq!((status, text.trim()), (409, &*format!(r#"{{"message":"container {id} is not running"}}"#)));
    d.docker(&["start", &id]).ok();
    assert_eq!(start(&waiting).0, 404);
    d.docker(&["rm", "-f", &id]).ok();
    assert_eq!(d.api("GET", &format!("/exec/{ended}/json"), None).0, 404);
}

#[test]
fn has_a_terminal_s_variable_only_with_a_terminal() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let id = d.run_detached(&["-t", "--network", "none", "busybox", "sleep", "1000"]);
    for c in d.clients() {
        d.with(c, &["exec", &id, "sh", "-c", "echo ${TERM:-none}"]).prints("none");
        d.with(c, &["exec", "-t", &id, "sh", "-c", "echo ${TERM:-none}"]).prints("xterm");
    }
}

#[test]
fn is_bound_by_the_profile_of_a_privileged_container() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let deny =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let profile = format!("seccomp={}", d.scratch.file("profile.json", deny).display());
    for privileged in [true, false] {
        let flag = format!("--privileged={privileged}");
        let id = d.run_detached(&[&flag, "--network", "none", "--security-opt", &profile, "busybox", "sleep", "1000"]);
        for c in d.clients() {
            let words = d.with(c, &["exec", &id, "mkdir", "/made"]).fails(1);
            assert!(words.contains("Operation not permitted"), "{words}");
        }
    }
}
