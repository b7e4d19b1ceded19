//! RUN: its mounts, users, environment and secrets.

use super::{build, sh};
use crate::harness::{Client, Daemon, eventually, probe};
use crate::need;
use std::process::Stdio;

#[test]
fn forms_and_mounts() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file = r#"FROM busybox AS other
RUN mkdir /data && echo other > /data/f
FROM busybox
ARG P=arg
RUN ["sh", "-c", "echo $0 exec > /exec"]
RUN echo "$P $(hostname) $HOME" > /shell
RUN <<EOF
set -e
echo one > /script
echo two >> /script
EOF
RUN <<EOF
#!/bin/awk -f
BEGIN { print "awk" > "/awk" }
EOF
RUN cat <<A > /ha && cat <<B > /hb
in a
A
in b
B
RUN --mount=type=tmpfs,target=/t touch /t/x && grep ' /t tmpfs' /proc/mounts
RUN --mount=target=/ctx test -f /ctx/f && ! touch /ctx/f2
RUN --mount=target=/ctx,rw touch /ctx/f2
RUN --mount=from=other,source=/data,target=/o cp /o/f /from
RUN --mount=type=cache,target=/cache,id=c date +%N >> /cache/log; wc -l < /cache/log > /runs
USER 12:34
RUN id > /tmp/id
"#;
    build(&d, Client::Ours, "forms", &[("Dockerfile", file), ("f", "x")], &[]).ok();
    let shown = sh(
        &d,
        "forms",
        "cat /exec /shell /script /awk /ha /hb /from /runs /tmp/id; ls -d /t /ctx /o /cache 2>&1 | grep -vc No || true",
    );
    assert_eq!(
        shown,
        "sh exec\narg buildkitsandbox /root\none\ntwo\nawk\nin a\nin b\nother\n1\nuid=12 gid=34 groups=34\n0"
    );
    assert_eq!(d.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn secrets_leave_no_trace() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let secret = "tr0ub4dor-and-3";
    d.scratch.file("token", secret);
    let file = "FROM busybox\n\
        RUN --mount=type=secret,id=s test $(cat /run/secrets/s) = tr0ub4dor\"-and-\"3 && stat -c '%a %u' /run/secrets/s > /stat\n\
        RUN --mount=type=secret,id=s,env=TOKEN,target=/tok test $TOKEN = $(cat /tok)\n\
        RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n";
    let source = format!("id=s,src={}", d.scratch.join("token").display());
    build(&d, Client::Ours, "secret", &[("Dockerfile", file)], &["--secret", &source]).ok();
    assert_eq!(sh(&d, "secret", "cat /stat; ls -d /run /tok 2>/dev/null || true"), "400 0");
    let found = std::process::Command::new("grep")
        .args(["-rl", secret])
        .args([d.scratch.join("data"), d.scratch.join("run")])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

/// A secret as a variable is the process's alone: not in the record of the step's
/// container, not on disk, not in the cache's description of it.
#[test]
fn a_secret_variable_is_in_no_record() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let secret = "correct-horse-battery";
    d.scratch.file("token", secret);
    let file = "FROM busybox\nRUN --mount=type=secret,id=s,env=TOKEN test -n \"$TOKEN\" && echo ready && sleep 1000\n";
    let folder = super::context(&d, "env", &[("Dockerfile", file)]);
    let mut command = d.cli(Client::Ours);
    command
        .args(["build", "--network", "none", "--secret"])
        .arg(format!("id=s,src={}", d.scratch.join("token").display()));
    command.arg(&folder).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    eventually("the step's container", || !d.docker(&["ps", "-q"]).ok().is_empty());
    let id = d.docker(&["ps", "-q", "--no-trunc"]).ok().trim().to_owned();
    eventually("its command", || d.docker(&["top", &id]).ok().contains("sleep 1000"));
    assert!(!d.docker(&["inspect", &id]).ok().contains(secret));
    let holds = |dir: &str| {
        let output =
            std::process::Command::new("grep").args(["-rlF", secret]).arg(d.scratch.join(dir)).output().unwrap();
        !output.stdout.is_empty()
    };
    assert!(!holds("data") && !holds("run"), "the secret is on disk");
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("no container", || d.docker(&["ps", "-aq"]).ok().is_empty());
}

/// A program of the host with its libraries, for an image that has none.
fn with_libraries(d: &Daemon, program: &str, folder: &str) {
    let listed = std::process::Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = text.split_whitespace().filter(|w| w.starts_with('/'));
    for path in libraries.chain([program]) {
        let bytes = std::fs::read(path).unwrap();
        let copy = d.scratch.file(&format!("{folder}{path}"), bytes);
        std::fs::set_permissions(copy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
}

struct Agent(std::process::Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_agent_of_the_client() {
    let tools = ["ssh-agent", "ssh-add", "ssh-keygen"].map(|p| probe::program(p, "openssh-client"));
    let [agent, add, keygen] = tools;
    need!(probe::busybox(), agent, add, keygen);
    let d = Daemon::with_busybox();
    let socket = d.scratch.join("agent.sock");
    let _agent =
        Agent(d.command("/usr/bin/ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap());
    eventually("the agent", || socket.exists());
    let key = d.scratch.join("key");
    crate::harness::run(
        d.command("/usr/bin/ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f"]).arg(&key),
    )
    .ok();
    crate::harness::run(d.command("/usr/bin/ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket)).ok();
    with_libraries(&d, probe::find("ssh-add").unwrap().to_str().unwrap(), "ssh/root");
    let file = "FROM busybox\nCOPY root/ /\nRUN mkdir -p /root && \
        echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd\n\
        RUN --mount=type=ssh ssh-add -l > /keys && ssh-add -l >> /keys\n\
        RUN --mount=type=ssh ! ssh-add -D\n\
        RUN --mount=type=ssh,id=other,target=/a.sock test -S /a.sock && test $SSH_AUTH_SOCK = /a.sock\n\
        RUN --mount=type=ssh,id=none test -z \"$SSH_AUTH_SOCK\"\n\
        RUN --mount=type=ssh,mode=666,uid=12 stat -c '%a %u' $SSH_AUTH_SOCK > /stat\n";
    let folder = super::context(&d, "ssh", &[("Dockerfile", file)]).display().to_string();
    let mut command = d.cli(Client::Ours);
    let other = format!("other={}", socket.display());
    command.args(["build", "--network", "none", "-t", "ssh", "--ssh", "default", "--ssh", &other, &folder]);
    crate::harness::run(command.env("SSH_AUTH_SOCK", &socket)).ok();
    let shown = sh(&d, "ssh", "cat /keys /stat; ls -d /run /a.sock 2>/dev/null || true");
    assert!(shown.matches("mine (ED25519)").count() == 2 && shown.ends_with("666 12"), "{shown}");
    // The key is still in the agent: removing was refused.
    crate::harness::run(d.command("/usr/bin/ssh-add").arg("-l").env("SSH_AUTH_SOCK", &socket)).contains("mine").ok();
    d.docker(&["build", "--ssh", "default", &folder]).contains("make sure SSH_AUTH_SOCK is set").fails(1);
    let required = [("Dockerfile", "FROM busybox\nRUN --mount=type=ssh,required=true true\n")];
    build(&d, Client::Ours, "required", &required, &[]).contains("no SSH key \"default\" forwarded").fails(1);
}

/// Private keys instead of an agent: a step signs with them and cannot read them.
#[test]
fn keys_of_the_client() {
    let tools = ["ssh-add", "ssh-keygen"].map(|p| probe::program(p, "openssh-client"));
    let [add, keygen] = tools;
    need!(probe::busybox(), add, keygen);
    let d = Daemon::with_busybox();
    let ok = |program: &str, args: &[&str]| crate::harness::run(d.command(program).args(args)).ok();
    let path = |name: &str| d.scratch.join(name).display().to_string();
    let kinds: &[(&str, &[&str])] = &[
        ("ed", &["-t", "ed25519"]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("pem", &["-t", "rsa", "-b", "3072", "-m", "PEM"]),
        ("pem8", &["-t", "ecdsa", "-m", "PKCS8"]),
        ("sec1", &["-t", "ecdsa", "-m", "PEM"]),
    ];
    let mut flags = Vec::new();
    let mut file = "FROM busybox\nCOPY root/ /\nCOPY *.pub /\nRUN mkdir -p /root /tmp && \
        echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd && echo data > /data && :> /allowed\n"
        .to_owned();
    for (name, kind) in kinds {
        let key = path(&format!("keys/{name}"));
        d.scratch.dir("keys");
        let args = [&["-q", "-N", "", "-C", name, "-f", &key][..], kind].concat();
        ok("/usr/bin/ssh-keygen", &args);
        d.scratch.dir("keyed");
        std::fs::copy(format!("{key}.pub"), d.scratch.join(format!("keyed/{name}.pub"))).unwrap();
        flags.extend(["--ssh".to_owned(), format!("{name}={key}")]);
        file.push_str(&format!(
            "RUN --mount=type=ssh,id={name} ssh-add -L | cut -d' ' -f1,2 > /listed && \
             cut -d' ' -f1,2 /{name}.pub | cmp - /listed && \
             ssh-keygen -q -Y sign -n t -f /{name}.pub < /data > /sig && (printf 'me '; cat /{name}.pub) > /allowed && \
             ssh-keygen -Y verify -n t -I me -f /allowed -s /sig < /data && echo {name} >> /done\n"
        ));
    }
    for program in ["ssh-add", "ssh-keygen"] {
        with_libraries(&d, probe::find(program).unwrap().to_str().unwrap(), "keyed/root");
    }
    let folder = super::context(&d, "keyed", &[("Dockerfile", &file)]).display().to_string();
    let mut args = vec!["build", "--network", "none", "-t", "keyed"];
    args.extend(flags.iter().map(String::as_str));
    d.docker(&[&args[..], &[&folder]].concat()).ok();
    assert_eq!(sh(&d, "keyed", "cat /done | xargs"), "ed p256 p384 rsa pem pem8 sec1");
    // Several keys for one id; an encrypted one is refused with what helps.
    let both = format!("default={},{}", path("keys/ed"), path("keys/rsa"));
    let list = "FROM keyed\nRUN --mount=type=ssh ssh-add -l | wc -l > /count\n";
    build(&d, Client::Ours, "both", &[("Dockerfile", list)], &["--ssh", &both]).ok();
    assert_eq!(sh(&d, "both", "cat /count"), "2");
    ok("/usr/bin/ssh-keygen", &["-q", "-N", "secret", "-t", "ed25519", "-f", &path("locked")]);
    let locked = format!("default={}", path("locked"));
    d.docker(&["build", "--ssh", &locked, &folder])
        .contains("is protected by a passphrase")
        .contains("ssh-add")
        .fails(1);
    // ring has no P-521: the refusal names the way that works.
    ok("/usr/bin/ssh-keygen", &["-q", "-N", "", "-t", "ecdsa", "-b", "521", "-f", &path("p521")]);
    let p521 = format!("default={}", path("p521"));
    d.docker(&["build", "--ssh", &p521, &folder])
        .contains("its curve cannot be used: nistp256 and nistp384 can")
        .contains("--ssh default")
        .fails(1);
    let public = format!("default={}", path("keys/ed.pub"));
    d.docker(&["build", "--ssh", &public, &folder])
        .contains("neither the socket of an agent nor a private key")
        .fails(1);
}

/// `RUN --device`: a CDI description of the user's own; one that is not there
/// matters only if it is required.
#[test]
fn devices_and_entitlements() {
    need!(probe::busybox());
    let description = r#"{"cdiVersion":"0.6.0","kind":"test.io/dev","devices":[{"name":"one","containerEdits":{"env":["DEVICE=one"]}}]}"#;
    let d = Daemon::prepare(&[], &[]);
    d.scratch.file("home/.config/cdi/test.json", description);
    let mut d = d;
    d.up();
    d.load_busybox();
    let file = "FROM busybox\nRUN --device=test.io/dev=one --device=test.io/dev=none echo $DEVICE > /d\n\
        RUN --network=host readlink /proc/self/ns/net > /n\n";
    let flags = ["--allow", "device", "--allow", "network.host"];
    build(&d, Client::Ours, "device", &[("Dockerfile", file)], &flags).ok();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_eq!(sh(&d, "device", "cat /d /n"), format!("one\n{own}"));
    let required = "FROM busybox\nRUN --device=test.io/dev=none,required true\n";
    build(&d, Client::Ours, "required", &[("Dockerfile", required)], &flags)
        .contains("unresolvable CDI devices test.io/dev=none")
        .fails(1);
}
