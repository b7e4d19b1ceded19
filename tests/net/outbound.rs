//! What leaves a container besides streams (`ways`): UDP and ping, how failures
//! look inside, and what may not leave at all.

use super::lab::{HOST, HOST6, Lab, at, echo, in_lab, network};
use super::ways::ask;
use coracle::net::protocol::{Call, HOST_GATEWAY};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = crate::harness::PATIENCE;

#[test]
fn the_hosts_loopback_is_closed_unless_asked_for() {
    in_lab("net::outbound::the_hosts_loopback_is_closed_unless_asked_for", |lab| {
        let address = echo("127.0.0.1");
        let gateway = SocketAddr::new(HOST_GATEWAY, address.port());
        let plain = lab.container();
        let error = plain.run(move || TcpStream::connect_timeout(&gateway, LONG)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let wildcard = at("0.0.0.0", address.port());
        assert!(plain.run(move || TcpStream::connect_timeout(&wildcard, SHORT)).is_err());
        let mut spec = lab.spec(&["one"]);
        spec.host_gateway = true;
        let asked = lab.create(spec);
        assert_eq!(asked.run(move || ask(gateway, b"hi")).unwrap(), b"hi");
    });
}

fn udp_echo(ip: &str) -> SocketAddr {
    let socket = UdpSocket::bind(at(ip, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..n], from);
        }
    });
    address
}

#[test]
fn datagrams_of_every_size() {
    in_lab("net::outbound::datagrams_of_every_size", |lab| {
        let c = lab.container();
        for ip in [HOST, HOST6] {
            let address = udp_echo(ip);
            for size in [0, 1, 1452, 1453, 1472, 1473, 9000, 60000] {
                let got = c.run(move || {
                    let s = UdpSocket::bind(at(if address.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).unwrap();
                    s.connect(address).unwrap();
                    s.set_read_timeout(Some(LONG)).unwrap();
                    let data: Vec<u8> = (0..size).map(|n| n as u8).collect();
                    s.send(&data).unwrap();
                    let mut buffer = vec![0; 65536];
                    let n = s.recv(&mut buffer).map_err(|e| format!("{ip} {size}: {e}"))?;
                    if buffer[..n] == data { Ok(()) } else { Err(format!("{ip} {size}: other data")) }
                });
                got.unwrap();
            }
            let closed = at(ip, 9);
            let error = c.run(move || {
                let s = UdpSocket::bind(at(if closed.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).unwrap();
                s.connect(closed).unwrap();
                s.set_read_timeout(Some(LONG)).unwrap();
                s.send(b"x").unwrap();
                s.recv(&mut [0; 10]).unwrap_err()
            });
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{ip}");
        }
    });
}

#[test]
fn ping_reaches_the_host() {
    in_lab("net::outbound::ping_reaches_the_host", |lab| {
        let c = lab.container();
        for (ip, v4) in [(HOST, true), (HOST6, false)] {
            let target = at(ip, 0);
            let answer = c.run(move || {
                use coracle::sys::inet;
                let (domain, protocol) = if v4 { (libc_inet(), 1) } else { (10, 58) };
                let fd = inet::socket(domain, 2, protocol)?;
                inet::connect(&fd, &target)?;
                // Longer than the MTU.
                inet::send(&fd, &[&[if v4 { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 5][..], &[b'h'; 4000]].concat())?;
                let mut buffer = [0; 5000];
                for _ in 0..4000 {
                    match inet::receive(&fd, &mut buffer) {
                        Ok(n) => return Ok(buffer[..n].to_vec()),
                        Err(_) => std::thread::sleep(Duration::from_millis(10)),
                    }
                }
                Err(std::io::Error::from(ErrorKind::TimedOut))
            });
            let answer: std::io::Result<Vec<u8>> = answer;
            assert_eq!(&answer.unwrap()[6..], [&b"\x00\x05"[..], &[b'h'; 4000]].concat(), "{ip}");
        }
    });
}

fn libc_inet() -> i32 {
    2
}

#[test]
fn networks_are_isolated_and_internal_ones_closed() {
    in_lab("net::outbound::networks_are_isolated_and_internal_ones_closed", |lab| {
        lab.call(Call::SetNetwork(network("two", "172.18.0.0/16", None)));
        let mut inner = network("inner", "172.19.0.0/16", None);
        inner.internal = true;
        inner.pools[0].gateway = None;
        lab.call(Call::SetNetwork(inner));
        let a = lab.container();
        let b = lab.container();
        let spec = lab.spec(&["two"]);
        let other = lab.create(spec);
        let spec = lab.spec(&["inner"]);
        let hidden = lab.create(spec);
        let listen = |c: &super::lab::Container| {
            let listener = c.run(|| TcpListener::bind("0.0.0.0:7000").unwrap());
            std::thread::spawn(move || {
                for s in listener.incoming() {
                    drop(s);
                }
            });
            SocketAddr::new(c.ip(), 7000)
        };
        let (at_b, at_other) = (listen(&b), listen(&other));
        assert!(a.run(move || TcpStream::connect_timeout(&at_b, LONG)).is_ok(), "same network");
        let error = a.run(move || TcpStream::connect_timeout(&at_other, SHORT)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "other network");
        let address = echo(HOST);
        assert!(hidden.run(move || TcpStream::connect_timeout(&address, SHORT)).is_err(), "internal network");
        assert!(other.run(move || TcpStream::connect_timeout(&address, LONG)).is_ok());
    });
}

#[test]
fn icc_off_keeps_neighbours_apart() {
    in_lab("net::outbound::icc_off_keeps_neighbours_apart", |lab| {
        let mut apart = network("apart", "172.20.0.0/16", None);
        apart.icc = false;
        lab.call(Call::SetNetwork(apart));
        let (one, two) = (lab.spec(&["apart"]), lab.spec(&["apart"]));
        let (a, b) = (lab.create(one), lab.create(two));
        let listener = b.run(|| TcpListener::bind("0.0.0.0:7000").unwrap());
        let target = SocketAddr::new(b.ip(), 7000);
        assert!(a.run(move || TcpStream::connect_timeout(&target, SHORT)).is_err());
        drop(listener);
        let address = echo(HOST);
        assert!(a.run(move || TcpStream::connect_timeout(&address, LONG)).is_ok(), "the way out stays open");
    });
}

#[test]
fn addresses_are_never_given_twice() {
    in_lab("net::outbound::addresses_are_never_given_twice", |lab: &mut Lab| {
        let mut seen = std::collections::HashSet::<IpAddr>::new();
        let mut held = Vec::new();
        for n in 0..24 {
            let c = lab.container();
            assert!(seen.insert(c.ip()), "{}", c.ip());
            if n % 3 == 0 {
                lab.call(Call::Release { container: c.state.container.clone() });
            }
            held.push(c);
        }
        let mut spec = lab.spec(&["one"]);
        spec.endpoints[0].ipv4 = Some(held[1].ip());
        assert!(lab.control.handle(Call::Create(Box::new(spec)), None).is_err());
    });
}
