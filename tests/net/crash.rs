//! Addresses when processes of the engine are killed while containers come and
//! go, and sockets that a service manager passed.

use crate::harness::daemon::{processes_of, signal};
use crate::harness::{Daemon, eventually, probe, run};
use crate::need;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The IPv4 addresses of a process's namespace, loopback left out; none if it has ended.
fn addresses(pid: u64) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).ok()?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let local = lines.windows(2).filter(|w| w[1] == "/32 host LOCAL");
    let mut found: Vec<String> = local.filter_map(|w| w[0].strip_prefix("|-- ").map(str::to_owned)).collect();
    found.retain(|a| !a.starts_with("127."));
    found.sort();
    found.dedup();
    Some(found)
}

/// What is wrong with the addresses of all running containers.
fn wrong(d: &Daemon) -> Vec<String> {
    let mut owners: HashMap<String, String> = HashMap::new();
    let mut found = Vec::new();
    for id in d.docker(&["ps", "-q", "--no-trunc"]).ok().lines() {
        let (status, text) = d.api("GET", &format!("/containers/{id}/json"), None);
        let Ok(container) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
        let pid = container["State"]["Pid"].as_u64().unwrap_or(0);
        if status != 200 || pid == 0 {
            continue;
        }
        let name = container["Name"].to_string();
        let networks = container["NetworkSettings"]["Networks"].as_object().unwrap();
        let shown: Vec<&str> = networks.values().filter_map(|n| n["IPAddress"].as_str()).collect();
        // A process that has just ended has no say.
        let Some(real) = addresses(pid).filter(|_| addresses(pid).is_some()) else { continue };
        if shown != real && addresses(pid).is_some() {
            found.push(format!("{name} is shown with {shown:?} and has {real:?}"));
        }
        if name == "\"/fixed\"" && real != ["10.124.0.30"] {
            found.push(format!("the static address is {real:?}"));
        }
        for address in real {
            if let Some(other) = owners.insert(address.clone(), name.clone()) {
                found.push(format!("{name} and {other} share {address}"));
            }
        }
    }
    found
}

/// Starts and removes containers until it is told to stop; whatever fails, fails.
fn churn(docker: impl Fn(&[&str]) -> bool + Send + 'static, who: usize, stop: Arc<AtomicBool>, made: Arc<AtomicUsize>) {
    let mut mine: Vec<String> = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let name = format!("c{who}-{n}");
        let network = ["one", "bridge"][n % 2];
        if docker(&["run", "-d", "--name", &name, "--network", network, "busybox", "sleep", "1000"]) {
            made.fetch_add(1, Ordering::AcqRel);
            mine.push(name);
        }
        if mine.len() > 3 {
            docker(&["rm", "-f", &mine.remove(0)]);
        }
    }
}

#[test]
fn no_address_is_given_twice_whatever_is_killed() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    d.docker(&["network", "create", "--subnet", "10.124.0.0/27", "one"]).ok();
    d.run_detached(&["--name", "fixed", "--network", "one", "--ip", "10.124.0.30", "busybox", "sleep", "1000"]);
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (program, host) = (d.scratch.join("bin/docker"), d.host());
    let mut threads = Vec::new();
    for who in 0..2 {
        let (program, host, stop, made) = (program.clone(), host.clone(), stop.clone(), made.clone());
        let docker = move |args: &[&str]| {
            let mut command = Command::new(&program);
            command.args(args).env("DOCKER_HOST", &host).stdin(Stdio::null());
            command.output().is_ok_and(|o| o.status.success())
        };
        threads.push(std::thread::spawn(move || churn(docker, who, stop, made)));
    }
    let all = ["dockerd", "coracle-netd", "coracle-spawner", "coracle-shim"];
    for victims in [&all[..1], &all[1..2], &all[2..3], &all[..2], &all[..], &all[1..2], &all[..3], &all[..2]] {
        let before = made.load(Ordering::Acquire);
        eventually("more containers", || made.load(Ordering::Acquire) >= before + 3);
        if victims.contains(&"dockerd") {
            d.kill();
        }
        for pid in processes_of(d.scratch.path()) {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if victims.contains(&comm.trim()) {
                signal(pid, "KILL");
            }
        }
        if victims.contains(&"dockerd") {
            d.up();
        }
        let mut last = Vec::new();
        eventually(&format!("true addresses after the death of {victims:?}"), || {
            let now = wrong(&d);
            if now != last {
                println!("{victims:?}: {now:?}");
                last.clone_from(&now);
            }
            now.is_empty()
        });
    }
    stop.store(true, Ordering::Release);
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(wrong(&d), Vec::<String>::new());
    d.docker(&["restart", "-t", "0", "fixed"]).ok();
    assert_eq!(d.inspect("fixed", "{{.NetworkSettings.Networks.one.IPAddress}}"), "10.124.0.30");
    for id in d.docker(&["ps", "-aq"]).ok().lines() {
        d.docker(&["rm", "-f", id]).ok();
    }
    // Nothing is leaked: all 29 addresses beside the gateway's can be had, and no more.
    for _ in 0..29 {
        d.run_detached(&["--network", "one", "busybox", "sleep", "1000"]);
    }
    let words = d.docker(&["run", "--rm", "--network", "one", "busybox", "true"]).fails(125);
    assert!(words.contains("no available IPv4 addresses on this network's address pools"), "{words}");
}

fn fetch(port: u16) -> String {
    let ask = || -> std::io::Result<String> {
        let mut s = TcpStream::connect(("127.0.0.1", port))?;
        s.set_read_timeout(Some(crate::harness::PATIENCE))?;
        s.write_all(b"GET /f HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        s.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().unwrap_or_default()
}

/// dockerd with two passed sockets, as systemd starts it. The test holds them
/// too: nobody else could bind their ports.
fn activated(d: &Daemon, tcp: &TcpListener, udp: &UdpSocket, names: &str) -> Command {
    let dockerd = d.dockerd();
    let script = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(dockerd.get_program()).args(dockerd.get_args());
    command.env_clear().envs(dockerd.get_envs().filter_map(|(k, v)| v.map(|v| (k, v))));
    command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", names).current_dir(d.scratch.path());
    command.stdin(OwnedFd::from(tcp.try_clone().unwrap())).stdout(OwnedFd::from(udp.try_clone().unwrap()));
    command.stderr(std::fs::OpenOptions::new().create(true).append(true).open(d.log_path()).unwrap());
    command
}

#[test]
fn passed_sockets_are_published() {
    need!(probe::busybox());
    let mut d = Daemon::prepare(&[], &[]);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (web, echo) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    let mut child = activated(&d, &tcp, &udp, "publish:publish").spawn().unwrap();
    eventually("the daemon", || run(d.command("bin/docker").arg("version")).code == 0);
    d.load_busybox();
    let ports = [format!("127.0.0.1:{web}:80"), format!("127.0.0.1:{echo}:53/udp")];
    let start = |d: &Daemon| {
        let serve = "echo hello >/tmp/f; exec httpd -f -h /tmp";
        d.run_detached(&["--name", "web", "-p", &ports[0], "-p", &ports[1], "busybox", "sh", "-c", serve]);
        d.docker(&["port", "web"]).prints(&format!("53/udp -> 127.0.0.1:{echo}\n80/tcp -> 127.0.0.1:{web}"));
        // Who comes early may be reset by a container that does not listen yet.
        eventually("the server", || fetch(web).ends_with("hello\n"));
    };
    start(&d);
    let words = d.docker(&["run", "--rm", "-p", &ports[0], "busybox", "true"]).fails(125);
    assert!(words.contains(&format!("Bind for 127.0.0.1:{web} failed: port is already allocated")), "{words}");
    // Another network process gets them again.
    for pid in processes_of(d.scratch.path()) {
        if std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "coracle-netd") {
            signal(pid, "KILL");
        }
    }
    eventually("the server after netd's death", || fetch(web).ends_with("hello\n"));
    // And they stay with a daemon that was started by hand, while a container runs.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(fetch(web).ends_with("hello\n"));
    d.up();
    d.docker(&["restart", "-t", "0", "web"]).ok();
    eventually("the server of a restarted container", || fetch(web).ends_with("hello\n"));
    d.docker(&["rm", "-f", "web"]).ok();
    start(&d);
}

#[test]
fn sockets_for_ports_are_not_for_the_api() {
    let d = Daemon::prepare(&[], &[]);
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let mut command = activated(&d, &tcp, &udp, "publish:publish");
    let ended = command.args(["-H", "fd://"]).status().unwrap();
    assert_eq!(ended.code(), Some(1));
    assert!(d.log().contains("no sockets found via socket activation"), "{}", d.log());
}
