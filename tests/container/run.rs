//! `docker run` as people type it.

use crate::harness::{Client, Daemon, probe};
use crate::need;

#[test]
fn prints_and_passes_the_exit_code_on() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        d.with(c, &["run", "--rm", "busybox", "echo", "hello"]).prints("hello");
        let out = d.with(c, &["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (3, "out\n", "err\n"), "{out}");
        d.with(c, &["run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$"]).fails(137);
        // Pid 1 without a handler is deaf to every signal from inside.
        d.with(c, &["run", "--rm", "busybox", "sh", "-c", "kill -9 $$; exit 4"]).fails(4);
    }
}

#[test]
fn start_failures_have_their_codes_and_words() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let words = d.with(c, &["run", "--rm", "busybox", "nosuch"]).fails(127);
        assert!(words.contains(r#"exec: "nosuch": executable file not found in $PATH"#), "{words}");
        assert!(
            words.starts_with("docker: Error response from daemon: failed to create task for container"),
            "{words}"
        );
        let words = d.with(c, &["run", "--rm", "busybox", "/etc"]).fails(126);
        assert!(words.contains("is a directory"), "{words}");
        let words = d.with(c, &["run", "--rm", "busybox", "/etc/passwd"]).fails(126);
        assert!(words.contains("permission denied"), "{words}");
        let words = d.with(c, &["run", "--rm", "-u", "nobodyhere", "busybox", "true"]).fails(125);
        assert!(words.contains("unable to find user nobodyhere: no matching entries in passwd file"), "{words}");
        let words = d.with(c, &["run", "--rm", "--nosuchflag", "busybox", "true"]).fails(125);
        assert!(words.contains("unknown flag: --nosuchflag"), "{words}");
        let words = d.with(c, &["run", "--rm", "--name", "bad name", "busybox", "true"]).fails(125);
        assert!(
            words.contains("Invalid container name (bad name), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
            "{words}"
        );
        let words = d.with(c, &["run", "--rm", "-w", "rel", "busybox", "true"]).fails(125);
        assert!(words.contains("the working directory 'rel' is invalid, it needs to be an absolute path"), "{words}");
        let words =
            d.with(c, &["run", "--rm", "--mount", "type=bind,src=/nosuch,dst=/x", "busybox", "true"]).fails(125);
        assert!(
            words.contains(r#"invalid mount config for type "bind": bind source path does not exist: /nosuch"#),
            "{words}"
        );
    }
}

#[test]
fn environment_is_in_docker_s_order() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file = d.scratch.file("env", "# comment\nFROM_FILE=1\nPATH\n");
    for c in d.clients() {
        let args = ["run", "--rm", "-h", "boat", "-e", "A=1", "-e", "NOT_SET_HERE", "-e", "EMPTY=", "busybox", "env"];
        let out = d.with(c, &args).ok();
        // The original's client sends its own variables in random order.
        let own = out
            .strip_prefix("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nHOSTNAME=boat\n")
            .and_then(|rest| rest.strip_suffix("HOME=/root\n"));
        assert!(matches!(own, Some("A=1\nEMPTY=\n" | "EMPTY=\nA=1\n")), "{out}");
        let out = d.with(c, &["run", "--rm", "--env-file", file.to_str().unwrap(), "busybox", "env"]).ok();
        assert!(out.contains("FROM_FILE=1\n") && !out.contains('#'), "{out}");
    }
}

#[test]
fn users_groups_and_directories() {
    need!(probe::busybox(), probe::subordinate_ids());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let id = "id -u; id -g; id -G; echo $HOME; pwd";
        let sh = |extra: &[&str]| d.with(c, &[&["run", "--rm"], extra, &["busybox", "sh", "-c", id]].concat()).ok();
        assert_eq!(sh(&[]), "0\n0\n0\n/root\n/\n");
        assert_eq!(sh(&["-u", "user"]), "1000\n1000\n1000 29\n/home\n/\n");
        assert_eq!(sh(&["-u", "1234"]), "1234\n0\n0\n/\n/\n");
        assert_eq!(sh(&["-u", "user:daemon"]), "1000\n1\n1\n/home\n/\n");
        assert_eq!(
            sh(&["-u", "1000:1000", "--group-add", "audio", "--group-add", "4242"]),
            "1000\n1000\n1000 29 4242\n/home\n/\n"
        );
        assert_eq!(sh(&["-w", "/made/by/run"]), "0\n0\n0\n/root\n/made/by/run\n");
    }
}

#[test]
fn stdin_is_passed_on_to_its_end() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let text = "x".repeat(300_000);
        let out = d.docker_input(c, &["run", "--rm", "-i", "busybox", "wc", "-c"], text.clone());
        out.prints("300000");
        // Output that is still coming after the end of input must not be lost.
        let out =
            d.docker_input(c, &["run", "--rm", "-i", "busybox", "sh", "-c", "cat; sleep 0.3; echo end"], text.clone());
        assert_eq!(out.ok(), text.clone() + "end\n");
        // Without -i the container has no input at all.
        d.docker_input(c, &["run", "--rm", "busybox", "cat"], "ignored").prints("");
    }
}

#[test]
fn output_is_binary_and_whole() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let out = d.with(c, &["run", "--rm", "busybox", "dd", "if=/bin/busybox", "bs=4k"]);
        let expected = std::fs::read("/bin/busybox").or_else(|_| std::fs::read("/usr/bin/busybox")).unwrap();
        assert!(out.raw == expected, "{} bytes instead of {}", out.raw.len(), expected.len());
    }
}

#[test]
fn detached_names_ids_and_files() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for (i, c) in d.clients().into_iter().enumerate() {
        let name = format!("boat{i}");
        let cidfile = d.scratch.join(format!("cid{i}"));
        let id = d
            .with(
                c,
                &[
                    "run",
                    "-d",
                    "--name",
                    &name,
                    "--cidfile",
                    cidfile.to_str().unwrap(),
                    "-l",
                    "a=b",
                    "busybox",
                    "sleep",
                    "100",
                ],
            )
            .ok();
        let id = id.trim();
        assert_eq!(id.len(), 64);
        assert_eq!(std::fs::read_to_string(&cidfile).unwrap(), id);
        let words = d.with(c, &["run", "--name", &name, "busybox", "true"]).fails(125);
        assert!(words.contains(&format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        )), "{words}");
        d.with(c, &["ps", "-q", "--filter", "label=a=b", "--filter", &format!("name={name}")]).prints(&id[..12]);
        d.with(c, &["inspect", "-f", "{{.Name}} {{.State.Status}} {{.Config.Labels.a}}", &id[..5]])
            .prints(&format!("/{name} running b"));
        d.with(c, &["rm", "-f", &name]).prints(&name);
    }
}

#[test]
fn entrypoint_and_command_merge() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        d.with(c, &["run", "--rm", "--entrypoint", "echo", "busybox", "a", "b"]).prints("a b");
        d.with(c, &["run", "--rm", "--entrypoint", "hostname", "-h", "h", "busybox"]).prints("h");
        let words = d.with(c, &["run", "--rm", "--entrypoint", "", "busybox"]).fails(125);
        assert!(words.contains("no command specified"), "{words}");
    }
}

#[test]
fn a_missing_image_is_said_in_docker_s_words() {
    let d = Daemon::start();
    for c in d.clients() {
        let words = d.with(c, &["run", "--rm", "--pull", "never", "nosuchimage", "true"]).fails(125);
        assert!(words.contains("No such image: nosuchimage:latest"), "{words}");
    }
}

#[test]
fn init_reaps_and_forwards() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let out =
            d.with(c, &["run", "--rm", "--init", "busybox", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '"]).ok();
        assert!(out.starts_with("/sbin/docker-init -- sh -c"), "{out}");
        d.with(c, &["run", "--rm", "--init", "busybox", "sh", "-c", "exit 7"]).fails(7);
        // An orphan that ends must not stay a zombie.
        let script = "(sh -c 'sleep 0.1 & :' &) ; sleep 0.5; ps -o stat,comm | grep -c '^Z' || true";
        d.with(c, &["run", "--rm", "--init", "busybox", "sh", "-c", script]).prints("0");
    }
}

#[test]
fn terminals() {
    need!(probe::busybox(), probe::program("script", "bsdutils"));
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let program = d.cli(c).get_program().to_string_lossy().into_owned();
        let mut command = d.command("/usr/bin/script");
        let line =
            format!("{program} run --rm -it busybox sh -c 'test -t 0 && test -t 1 && echo tty; stty size; echo $TERM'");
        command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
        let out = crate::harness::run(&mut command).ok();
        assert!(out.contains("tty\r\n") && out.contains("xterm"), "{out:?}");
        let words = d.docker_input(c, &["run", "--rm", "-it", "busybox", "true"], "").fails(1);
        assert!(words.contains("the input device is not a TTY"), "{words}");
        // -t alone needs no terminal on our side; lines end as a terminal ends them.
        let out = d.with(c, &["run", "--rm", "-t", "busybox", "echo", "hi"]).ok();
        assert_eq!(out, "hi\r\n");
    }
}

#[test]
fn networks_that_need_no_driver() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let out = d
            .with(
                c,
                &[
                    "run",
                    "--rm",
                    "--network",
                    "none",
                    "busybox",
                    "sh",
                    "-c",
                    "ls /sys/class/net; ping -c1 -W1 127.0.0.1 >/dev/null && echo up",
                ],
            )
            .ok();
        assert!(out.starts_with("lo\n") && out.ends_with("up\n"), "{out}");
        let host = std::fs::read_link("/proc/self/ns/net").unwrap();
        d.with(c, &["run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"])
            .prints(host.to_str().unwrap());
        let asked = ["run", "--rm", "--network", "host", "--dns", "9.9.9.9", "--dns-search", "xx", "busybox"];
        let out = d.with(c, &[&asked[..], &["cat", "/etc/resolv.conf"]].concat()).ok();
        assert!(out.contains("nameserver 9.9.9.9\n") && out.contains("search xx\n"), "{out}");
        let id = d.with(c, &["run", "-d", "-h", "a.b.c", "busybox", "sleep", "100"]).ok();
        let id = id.trim();
        assert!(d.with(c, &["exec", id, "cat", "/etc/hosts"]).ok().contains("\ta.b.c a\n"));
        let theirs = d.with(c, &["exec", id, "readlink", "/proc/self/ns/net"]).ok();
        d.with(
            c,
            &["run", "--rm", "--network", &format!("container:{id}"), "busybox", "readlink", "/proc/self/ns/net"],
        )
        .prints(theirs.trim());
        let words = d.with(c, &["run", "--rm", "--network", "nosuchnet", "busybox", "true"]).fails(125);
        assert!(words.contains("network nosuchnet not found"), "{words}");
        d.with(c, &["rm", "-f", id]).ok();
    }
}

#[test]
fn containers_on_the_default_bridge_reach_one_another() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let server = d.run_detached(&["busybox", "httpd", "-f", "-h", "/www"]);
    let address = d.inspect(&server, "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    assert!(address.starts_with("172.17."), "{address}");
    for c in d.clients() {
        let url = format!("http://{address}/index.html");
        d.with(c, &["run", "--rm", "busybox", "wget", "-qO-", &url]).prints("hello from coracle");
    }
    assert_eq!(d.clients().len(), if d.clients().contains(&Client::Real) { 2 } else { 1 });
}

#[test]
fn marks_of_a_container() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let script = "ls -A /.dockerenv; readlink /etc/mtab; ls -d /dev/shm";
        d.with(c, &["run", "--name", "marked", "busybox", "sh", "-c", script])
            .prints("/.dockerenv\n/proc/mounts\n/dev/shm");
        d.with(c, &["diff", "marked"]).prints("");
        d.with(c, &["ps", "-as", "--format", "{{.Size}}"]).contains("0B (virtual").ok();
        d.with(c, &["commit", "marked", "plain"]).ok();
        d.docker(&["rm", "marked"]).ok();
        d.docker(&["create", "--name", "marked", "plain"]).ok();
        let listed = run_tar(&d.docker(&["export", "marked"]).raw);
        assert!(!listed.contains(".dockerenv") && !listed.contains("mtab"), "{listed}");
        d.docker(&["rm", "marked"]).ok();
        let out = d.with(c, &["run", "--rm", "--ipc", "none", "busybox", "ls", "/dev"]).ok();
        assert!(!out.lines().any(|l| l == "shm"), "{out}");
    }
}

/// The names in a tar.
fn run_tar(bytes: &[u8]) -> String {
    let mut archive = tar::Archive::new(bytes);
    archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string() + "\n").collect()
}

/// Who sends and ends at once, and his container with him, is heard to the end.
#[test]
fn last_words_arrive() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for _ in 0..20 {
        let id = d.run_detached(&["-p", "127.0.0.1::80", "busybox", "sh", "-c", "echo last words | nc -lp 80"]);
        let at = d.docker(&["port", &id, "80"]).ok();
        let heard = || {
            let mut text = String::new();
            let mut stream = std::net::TcpStream::connect(at.trim()).ok()?;
            std::io::Read::read_to_string(&mut stream, &mut text).ok()?;
            Some(text)
        };
        // Until its server listens, connections are refused.
        let text = loop {
            let runs = d.inspect(&id, "{{.State.Running}}") == "true";
            match heard() {
                Some(text) if !text.is_empty() => break text,
                other => assert!(runs, "it ended and was not heard: {other:?}"),
            }
        };
        assert_eq!(text, "last words\n");
    }
}
