//! Networks as people use them: the commands, a restart of dockerd, and the
//! words of refusals.

use crate::harness::{Daemon, eventually, probe};
use crate::need;
use std::io::{Read, Write};
use std::net::TcpStream;

fn fetch(port: &str) -> std::io::Result<String> {
    let mut s = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    s.set_read_timeout(Some(crate::harness::PATIENCE))?;
    s.write_all(b"GET /f HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    s.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn names_join_and_leave() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    d.docker(&["network", "create", "one"]).ok();
    d.docker(&["network", "create", "--subnet", "10.123.0.0/24", "two"]).ok();
    d.run_detached(&["--name", "db", "--network", "one", "--network-alias", "database", "busybox", "sleep", "100"]);
    // Lists tell what a container got, not what it asked for, as the original's do.
    let one = |row: &serde_json::Value| row["NetworkSettings"]["Networks"]["one"].clone();
    let rows =
        [one(&d.json("GET", "/containers/json", None)[0]), one(&d.json("GET", "/system/df", None)["Containers"][0])];
    for row in &rows {
        assert!(row["Aliases"].is_null() && row["DNSNames"].is_null() && row["IPAddress"].is_string(), "{row}");
    }
    let ping = |who: &str| d.docker(&["run", "--rm", "--network", "one", "busybox", "ping", "-c1", "-w3", who]);
    for who in ["db", "database"] {
        let _ = ping(who).contains("1 packets received");
    }
    ping("nosuchname").fails(1);
    d.docker(&["network", "connect", "--ip", "10.123.0.77", "two", "db"]).ok();
    let _ = d.docker(&["exec", "db", "ip", "-4", "-o", "addr", "show", "eth1"]).contains("10.123.0.77/24");
    assert_eq!(d.inspect("db", "{{.NetworkSettings.Networks.two.IPAddress}}"), "10.123.0.77");
    let words = d.docker(&["network", "rm", "two"]).fails(1);
    assert!(
        words.contains("error while removing network: network two has active endpoints (name:\"db\" id:"),
        "{words}"
    );
    d.docker(&["network", "disconnect", "two", "db"]).ok();
    d.docker(&["network", "rm", "two"]).prints("two");
    d.docker(&["rename", "db", "store"]).ok();
    let _ = ping("store").contains("1 packets received");
    d.docker(&["rm", "-f", "store"]).ok();
    let _ = d.docker(&["network", "prune", "-f"]).contains("one");
}

#[test]
fn a_published_port_outlives_dockerd() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    let serve = "echo hello > /tmp/f; exec httpd -f -h /tmp";
    d.run_detached(&["--name", "web", "-p", "127.0.0.1::80", "busybox", "sh", "-c", serve]);
    let port = d.docker(&["port", "web", "80/tcp"]).ok();
    let port = port.trim().rsplit(':').next().unwrap_or_default().to_owned();
    eventually("the server answers", || fetch(&port).is_ok_and(|t| t.ends_with("hello\n")));
    let mut held = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    d.kill();
    assert!(fetch(&port).unwrap().ends_with("hello\n"), "new connections without a daemon");
    d.up();
    held.write_all(b"GET /f HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    held.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("hello\n"), "a connection from before: {text}");
    let taken = format!("127.0.0.1:{port}:80");
    let words = d.docker(&["run", "--rm", "-p", &taken, "busybox", "true"]).fails(125);
    assert!(words.contains(&format!("Bind for 127.0.0.1:{port} failed: port is already allocated")), "{words}");
    d.docker(&["network", "inspect", "-f", "{{range .Containers}}{{.Name}}{{end}}", "bridge"]).prints("web");
    d.docker(&["rm", "-f", "web"]).ok();
    eventually("the port is free", || TcpStream::connect(format!("127.0.0.1:{port}")).is_err());
}

/// A start does not wait for the program to listen, and not every client tries again.
#[test]
fn a_client_that_is_early_is_served() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let serve = "until [ -e /go ]; do usleep 1000; done; echo hello | exec nc -l -p 80";
    // On a slow machine the second is over for one container; the next has its own.
    eventually("an early client's answer", || {
        d.run_detached(&["--name", "late", "-p", "127.0.0.1::80", "busybox", "sh", "-c", serve]);
        let port = d.docker(&["port", "late", "80/tcp"]).ok();
        let mut client = TcpStream::connect(port.trim()).unwrap();
        d.docker(&["exec", "late", "touch", "/go"]).ok();
        let mut text = String::new();
        let read = client.read_to_string(&mut text);
        d.docker(&["rm", "-f", "late"]).ok();
        read.is_ok() && text == "hello\n"
    });
}

/// As by the original: without a network a port is free, with another it is published there.
#[test]
fn published_ports_follow_the_way_out() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for name in ["one", "two"] {
        d.docker(&["network", "create", name]).ok();
    }
    let serve = "echo hello > /tmp/f; exec httpd -f -h /tmp";
    let ports = ["-p", "127.0.0.1::80", "-p", "127.0.0.1::81"];
    let flags = [&["--name", "web", "--network", "one"], &ports[..], &["busybox", "sh", "-c", serve]].concat();
    d.run_detached(&flags);
    let port = || {
        let text = d.docker(&["port", "web", "80/tcp"]).stdout;
        text.trim().rsplit(':').next().unwrap_or_default().to_owned()
    };
    let first = port();
    eventually("the server answers", || fetch(&first).is_ok_and(|t| t.ends_with("hello\n")));
    d.docker(&["network", "disconnect", "one", "web"]).ok();
    d.docker(&["port", "web"]).prints("");
    assert_eq!(d.inspect("web", "{{json .NetworkSettings.Ports}}"), "{}");
    assert!(TcpStream::connect(format!("127.0.0.1:{first}")).is_err(), "the port is free");
    // Its old address is somebody else's meanwhile.
    d.run_detached(&["--network", "one", "busybox", "sleep", "1000"]);
    d.docker(&["network", "connect", "two", "web"]).ok();
    let second = port();
    eventually("the server answers on the other network", || fetch(&second).is_ok_and(|t| t.ends_with("hello\n")));
    // A network that ranks behind changes nothing.
    d.docker(&["network", "connect", "--gw-priority", "-1", "one", "web"]).ok();
    assert_eq!(port(), second);
    d.docker(&["network", "disconnect", "two", "web"]).ok();
    let third = port();
    eventually("and on the one that is left", || fetch(&third).is_ok_and(|t| t.ends_with("hello\n")));
    let id = d.inspect("web", "{{.NetworkSettings.Networks.one.EndpointID}}");
    let words = d.docker(&["network", "rm", "one"]).fails(1);
    assert!(words.contains(&format!("name:\"web\" id:{:?}", &id[..12])), "{words}");
}

/// The pid behind netd.sock: who called listen(2) on it.
fn netd(d: &Daemon) -> u32 {
    use std::os::fd::AsFd;
    let dir = std::fs::File::open(d.scratch.join("run/x")).unwrap();
    let socket = coracle::sys::socket::connect_at(dir.as_fd(), coracle::net::client::SOCKET).unwrap();
    coracle::sys::socket::peer(socket.as_fd()).unwrap().pid() as u32
}

#[test]
fn containers_outlive_the_network_process() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    d.docker(&["network", "create", "one"]).ok();
    let serve = "echo hello > /tmp/f; exec httpd -f -h /tmp";
    d.run_detached(&["--name", "web", "--network", "one", "-p", "127.0.0.1::80", "busybox", "sh", "-c", serve]);
    d.run_detached(&["--name", "peer", "--network", "one", "busybox", "sleep", "1000"]);
    d.docker(&["network", "connect", "bridge", "peer"]).ok();
    let port = d.docker(&["port", "web", "80/tcp"]).ok();
    let port = port.trim().rsplit(':').next().unwrap_or_default().to_owned();
    let addresses = || {
        let of = |name| d.docker(&["exec", name, "ip", "-o", "-4", "addr", "show", "up", "scope", "global"]).ok();
        let words = |text: String| text.split_whitespace().filter(|w| w.contains('/')).map(str::to_owned).collect();
        let (mut web, mut peer): (Vec<String>, Vec<String>) = (words(of("web")), words(of("peer")));
        web.sort();
        peer.sort();
        (web, peer)
    };
    let served = |how: &str| {
        eventually(how, || fetch(&port).is_ok_and(|t| t.ends_with("hello\n")));
        let ask = |name| d.docker(&["exec", "peer", "wget", "-qO-", name]).stdout == "hello\n";
        eventually(how, || ask("http://web/f"));
    };
    served("before");
    let before = addresses();
    assert_eq!((before.0.len(), before.1.len()), (1, 2), "{before:?}");
    let first = netd(&d);
    crate::harness::daemon::signal(first, "KILL");
    served("after netd's death");
    assert_eq!(addresses(), before);
    d.docker(&["network", "inspect", "-f", "{{len .Containers}}", "one"]).prints("2");
    // A newcomer gets an address of its own.
    d.docker(&["run", "--rm", "--network", "one", "busybox", "wget", "-qO-", "http://web/f"]).prints("hello");
    // And both at once, as when the machine is short of memory.
    let second = netd(&d);
    assert_ne!(first, second);
    crate::harness::daemon::signal(second, "KILL");
    d.kill();
    d.up();
    let served = |how: &str| {
        eventually(how, || fetch(&port).is_ok_and(|t| t.ends_with("hello\n")));
        let ask = |name| d.docker(&["exec", "peer", "wget", "-qO-", name]).stdout == "hello\n";
        eventually(how, || ask("http://web/f"));
    };
    served("after the death of both");
    d.docker(&["rm", "-f", "web", "peer"]).ok();
}

/// The network process outlives its last dockerd by some seconds: the next one
/// has other namespaces and must not take it for its own.
#[test]
fn a_daemon_may_be_restarted_at_once() {
    need!(probe::busybox());
    let mut d = Daemon::with_busybox();
    for _ in 0..3 {
        d.docker(&["run", "--rm", "busybox", "true"]).ok();
        d.stop();
        d.up();
    }
}

#[test]
fn a_container_may_serve_names_itself() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    d.docker(&["network", "create", "one"]).ok();
    d.run_detached(&[
        "--name", "resolver", "--network", "one", "busybox", "nc", "-ll", "-p", "53", "-e", "echo", "mine",
    ]);
    let ask = |target: &str| {
        let line = format!("nc -w 5 {target} 53 </dev/null");
        d.docker(&["run", "--rm", "--network", "one", "busybox", "sh", "-c", &line]).stdout
    };
    eventually("the container's own server", || ask("resolver") == "mine\n");
    // Where the kernel has no nftables, 127.0.0.11 is the engine's and nobody else's.
    let _ = d.docker(&["exec", "resolver", "nslookup", "resolver"]).contains("127.0.0.11:53");
}
