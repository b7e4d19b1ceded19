//! One container that takes what it can get, and another that is served meanwhile.

use super::lab::{Container, HOST, Lab, OTHER, at, echo, in_lab_after, server};
use super::machine::{Link, Machine};
use super::ways::ask;
use coracle::net::protocol::{PortSpec, Protocol};
use coracle::util::dns;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(5);
const LONG: Duration = crate::harness::PATIENCE;
/// So many descriptors for netd: its tables are sized by that.
const FEW: &str = "1536";
/// A third: the streams there is room for.
const STREAMS: usize = 512;

fn descriptors(limit: &str) {
    let pid = std::process::id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}")]).status().unwrap().success());
}

/// A netd with small tables in a process that may have more.
fn in_small_lab(name: &str, body: impl FnOnce(&mut Lab)) {
    let few = || descriptors(&format!("{FEW}:"));
    in_lab_after(name, &[], few, |lab| {
        coracle::sys::inet::raise_file_limit();
        body(lab);
    });
}

#[test]
fn streams_out() {
    in_small_lab("net::shares::streams_out", |lab| {
        let (greedy, honest) = (lab.container(), lab.container());
        let listener = server(HOST, |mut s| drop(s.read(&mut [0; 1])));
        let held = greedy.run(move || {
            let open = || TcpStream::connect_timeout(&listener, SHORT).ok();
            std::iter::from_fn(open).take(STREAMS).collect::<Vec<_>>()
        });
        assert_eq!(held.len(), STREAMS / 2, "half of all, then nothing");
        let address = echo(HOST);
        for _ in 0..100 {
            assert_eq!(honest.run(move || ask(address, b"hello")).unwrap(), b"hello");
        }
        drop(held);
        lab.until("the share is free again", |s| s.tcp_flows == 0);
        assert_eq!(greedy.run(move || ask(address, b"hello")).unwrap(), b"hello");
    });
}

/// Nobody says that a socket in SYN_SENT was closed: its SYN just does not come again.
#[test]
fn attempts_that_nobody_waits_for() {
    in_small_lab("net::shares::attempts_that_nobody_waits_for", |lab| {
        let c = lab.container();
        let machine = Machine::new(&Link::default());
        machine.route("198.18.0.0/15");
        let patient = c.run(|| std::thread::spawn(|| TcpStream::connect_timeout(&at("198.18.0.1", 80), LONG)));
        let sockets: Vec<_> = c.run(|| (0..50).map(|n| attempt(at("198.18.0.2", 80 + n))).collect());
        lab.until("all of them are on their way", |s| s.tcp_flows == 51);
        drop(sockets);
        lab.until("only the patient one waits", |s| s.tcp_flows == 1);
        machine.take("198.18.0.1/32");
        assert_eq!(patient.join().unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        lab.until("and then nobody", |s| s.tcp_flows == 0);
    });
}

fn attempt(to: SocketAddr) -> std::os::fd::OwnedFd {
    let fd = coracle::sys::inet::socket(2, 1, 0).unwrap();
    let _ = coracle::sys::inet::connect(&fd, &to);
    fd
}

#[test]
fn datagrams() {
    in_small_lab("net::shares::datagrams", |lab| {
        let (greedy, honest) = (lab.container(), lab.container());
        let there = UdpSocket::bind(at(HOST, 0)).unwrap();
        let address = there.local_addr().unwrap();
        let here = honest.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        for s in [&there, &here] {
            s.set_read_timeout(Some(LONG)).unwrap();
        }
        here.send_to(b"ask", address).unwrap();
        let (_, asker) = there.recv_from(&mut [0; 8]).unwrap();
        // More flows than there are places for all. The last is carried too, at the cost of its own.
        greedy.run(move || {
            let s = UdpSocket::bind("0.0.0.0:0").unwrap();
            for port in 20_000..20_300 {
                s.send_to(b"x", at(OTHER, port)).unwrap();
            }
            s.send_to(b"me", address).unwrap();
        });
        assert_eq!(there.recv(&mut [0; 8]).unwrap(), 2);
        let flows = lab.status().udp_flows;
        assert!((60..=97).contains(&flows), "half of 192 and the honest one: {flows}");
        there.send_to(b"late answer", asker).unwrap();
        assert_eq!(here.recv(&mut [0; 20]).unwrap(), 11);
    });
}

fn asking(lab: &mut Lab, server: &str) -> Container {
    let mut spec = lab.spec(&["one"]);
    spec.dns.embedded = true;
    spec.dns.servers = vec![server.parse().unwrap()];
    lab.create(spec)
}

#[test]
fn names() {
    in_small_lab("net::shares::names", |lab| {
        let silent = UdpSocket::bind((OTHER, 53)).unwrap();
        let busy = UdpSocket::bind((HOST, 53)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((n, from)) = busy.recv_from(&mut buffer) {
                buffer[2] |= 0x80;
                let _ = busy.send_to(&buffer[..n], from);
            }
        });
        let (greedy, honest) = (asking(lab, OTHER), asking(lab, HOST));
        let question = |n: u16| dns::question(n, &format!("n{n}.example.org"), dns::Type::A).unwrap();
        let flood = greedy.run(|| UdpSocket::bind("127.0.0.1:0").unwrap());
        flood.set_read_timeout(Some(LONG)).unwrap();
        let mut answer = [0; 512];
        // More than all: the first answer is that there is no room.
        for n in 0..100 {
            flood.send_to(&question(n), "127.0.0.11:53").unwrap();
        }
        flood.recv(&mut answer).unwrap();
        assert_eq!(answer[3] & 15, 2, "SERVFAIL");
        let s = honest.run(|| UdpSocket::bind("127.0.0.1:0").unwrap());
        s.set_read_timeout(Some(LONG)).unwrap();
        s.send_to(&question(7), "127.0.0.11:53").unwrap();
        s.recv(&mut answer).unwrap();
        assert_eq!(answer[3] & 15, 0, "answered by its server");
        drop(silent);
    });
}

#[test]
fn published_ports() {
    in_small_lab("net::shares::published_ports", |lab| {
        let mut publishing = |host: u16| {
            let host_ip = Ipv4Addr::UNSPECIFIED.into();
            let port = PortSpec {
                container_port: 80,
                protocol: Protocol::Tcp,
                host_ip,
                host_ports: (host, host),
                with_previous: false,
            };
            let c = lab.publishing(vec![port]);
            let listener = c.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
            std::thread::spawn(move || {
                let mut held = Vec::new();
                for mut s in listener.incoming().flatten() {
                    let _ = s.write_all(b"hello");
                    held.push(s);
                }
            });
        };
        publishing(18080);
        publishing(18081);
        let greets = |port: u16| {
            let mut s = TcpStream::connect(("127.0.0.1", port)).unwrap();
            s.set_read_timeout(Some(LONG)).unwrap();
            s.read_exact(&mut [0; 5]).map(|()| s)
        };
        let mut held: Vec<TcpStream> = (0..STREAMS / 2).map(|_| greets(18080).unwrap()).collect();
        // The next waits in the kernel's queue, where it costs netd nothing.
        let mut waiting = TcpStream::connect("127.0.0.1:18080").unwrap();
        let end = |s: TcpStream| coracle::net::relay::abort_on_close(&s.into()).unwrap();
        for _ in 0..50 {
            end(greets(18081).unwrap());
        }
        waiting.set_nonblocking(true).unwrap();
        assert_eq!(waiting.read(&mut [0; 5]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        waiting.set_nonblocking(false).unwrap();
        waiting.set_read_timeout(Some(LONG)).unwrap();
        end(held.pop().unwrap());
        waiting.read_exact(&mut [0; 5]).unwrap();
    });
}
