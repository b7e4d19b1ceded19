//! Published ports: who the container sees, what happens on conflicts, and how
//! connections end.

use super::lab::{HOST, HOST6, Lab, OTHER, in_lab};
use coracle::net::protocol::{Call, PortSpec, Protocol};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const LONG: Duration = crate::harness::PATIENCE;

fn port(host_ip: IpAddr, host: u16, container_port: u16, protocol: Protocol) -> PortSpec {
    PortSpec { container_port, protocol, host_ip, host_ports: (host, host), with_previous: false }
}

/// In the container: tells every client its own address.
fn mirror(c: &super::lab::Container, at: &'static str) {
    let listener = c.run(move || TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        for mut s in listener.incoming().flatten() {
            let _ = s.write_all(s.peer_addr().unwrap().to_string().as_bytes());
        }
    });
}

fn read(mut s: TcpStream) -> String {
    s.set_read_timeout(Some(LONG)).unwrap();
    let mut text = String::new();
    s.read_to_string(&mut text).unwrap();
    text
}

/// Connects from a chosen address of the lab's host.
fn from(source: &str, target: SocketAddr) -> (String, TcpStream) {
    use coracle::sys::inet;
    let fd = inet::socket(2, 1, 0).unwrap();
    inet::bind(&fd, &SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    let _ = inet::connect(&fd, &target);
    let s = TcpStream::from(fd);
    crate::harness::eventually("the connection", || s.peer_addr().is_ok());
    s.set_nonblocking(false).unwrap();
    (s.local_addr().unwrap().to_string(), s)
}

#[test]
fn the_container_sees_the_clients_address() {
    in_lab("net::publish::the_container_sees_the_clients_address", |lab: &mut Lab| {
        let any = Ipv4Addr::UNSPECIFIED.into();
        let twin = PortSpec { with_previous: true, ..port(Ipv6Addr::UNSPECIFIED.into(), 18080, 80, Protocol::Tcp) };
        let c = lab.publishing(vec![port(any, 18080, 80, Protocol::Tcp), twin]);
        assert_eq!(c.state.ports.len(), 2);
        mirror(&c, "[::]:80");
        let (me, s) = from(OTHER, format!("{HOST}:18080").parse().unwrap());
        assert_eq!(read(s), format!("[::ffff:{}", me.replace(':', "]:")));
        let seen = read(TcpStream::connect("127.0.0.1:18080").unwrap());
        assert!(seen.starts_with("[::ffff:172.17.0.1]:"), "loopback becomes the gateway: {seen}");
        let seen = read(TcpStream::connect("[::1]:18080").unwrap());
        assert!(seen.starts_with("[fd00:1::1]:"), "{seen}");
    });
}

#[test]
fn datagrams_keep_their_source_and_answers_come_back() {
    in_lab("net::publish::datagrams_keep_their_source_and_answers_come_back", |lab: &mut Lab| {
        let v4 = port(Ipv4Addr::UNSPECIFIED.into(), 19053, 53, Protocol::Udp);
        let v6 = port(Ipv6Addr::UNSPECIFIED.into(), 19053, 53, Protocol::Udp);
        let c = lab.publishing(vec![v4, v6]);
        let socket = c.run(|| UdpSocket::bind("[::]:53").unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 9000];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                // Its length is the question's, so that it may come in pieces too.
                let text = format!("{:<n$}", format!("{} {n}", SocketAddr::new(from.ip().to_canonical(), from.port())));
                let _ = socket.send_to(text.as_bytes(), from);
            }
        });
        for (source, size) in [(OTHER, 5), (OTHER, 4000), ("127.0.0.1", 5), (HOST6, 5), (HOST6, 4000), (HOST6, 8999)] {
            let s = UdpSocket::bind((source, 0)).unwrap();
            s.set_read_timeout(Some(LONG)).unwrap();
            let target = if source == OTHER { HOST } else { source };
            s.connect((target, 19053)).unwrap();
            let mut buffer = [0; 9000];
            // Once: the first datagram to or from a new address is not lost.
            s.send(&vec![1; size]).unwrap();
            let n = s.recv(&mut buffer).unwrap_or_else(|e| panic!("{source} {size}: {e}"));
            let me = match source {
                "127.0.0.1" => format!("169.254.1.2:{}", s.local_addr().unwrap().port()).parse().unwrap(),
                _ => s.local_addr().unwrap(),
            };
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            assert_eq!((text.trim_end(), n >= size), (format!("{me} {size}").as_str(), true));
        }
    });
}

#[test]
fn conflicts_are_told_before_anything_starts() {
    in_lab("net::publish::conflicts_are_told_before_anything_starts", |lab: &mut Lab| {
        let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
        let first = lab.publishing(vec![port(any, 18080, 80, Protocol::Tcp)]);
        let mut refused = |ports| {
            let mut spec = lab.spec(&["one"]);
            spec.ports = ports;
            lab.control.handle(Call::Create(Box::new(spec)), None).map(drop).unwrap_err().to_string()
        };
        let text = refused(vec![port(any, 18080, 80, Protocol::Tcp)]);
        assert!(text.starts_with("driver failed programming external connectivity on endpoint c2 ("), "{text}");
        assert!(text.ends_with("Bind for 0.0.0.0:18080 failed: port is already allocated"), "{text}");
        let text = refused(vec![port(Ipv4Addr::LOCALHOST.into(), 18080, 80, Protocol::Tcp)]);
        assert!(text.ends_with("Bind for 127.0.0.1:18080 failed: port is already allocated"), "{text}");
        let foreign = TcpListener::bind("127.0.0.1:18081").unwrap();
        let text = refused(vec![port(any, 18081, 80, Protocol::Tcp)]);
        assert!(text.ends_with("listen tcp4 0.0.0.0:18081: bind: address already in use"), "{text}");
        drop(foreign);
        // Of one and the same container, too.
        let twice = [80, 81].map(|inner| port(any, 18082, inner, Protocol::Tcp));
        let text = refused(twice.to_vec());
        assert!(text.ends_with("Bind for 0.0.0.0:18082 failed: port is already allocated"), "{text}");
        lab.call(Call::Release { container: first.state.container.clone() });
        let again = lab.publishing(vec![port(any, 18080, 80, Protocol::Tcp), port(any, 0, 81, Protocol::Tcp)]);
        assert!(again.state.ports[1].host_port >= 1024);
    });
}

#[test]
fn resets_half_closes_and_dead_ports() {
    in_lab("net::publish::resets_half_closes_and_dead_ports", |lab: &mut Lab| {
        let c = lab.publishing(vec![port(Ipv4Addr::UNSPECIFIED.into(), 18080, 80, Protocol::Tcp)]);
        // Nobody listens inside: the client is reset, not left waiting.
        let mut s = TcpStream::connect("127.0.0.1:18080").unwrap();
        s.set_read_timeout(Some(LONG)).unwrap();
        assert!(s.read(&mut [0; 1]).is_err());
        let listener = c.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
        let counter = std::thread::spawn(move || {
            let (mut s, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            s.read_to_end(&mut all).unwrap();
            s.write_all(all.len().to_string().as_bytes()).unwrap();
        });
        let mut s = TcpStream::connect("127.0.0.1:18080").unwrap();
        s.write_all(&[3; 300_000]).unwrap();
        s.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read(s), "300000");
        counter.join().unwrap();
    });
}

#[test]
fn large_datagrams_of_both_families() {
    in_lab("net::publish::large_datagrams_of_both_families", |lab: &mut Lab| {
        let any6 = Ipv6Addr::UNSPECIFIED.into();
        let c = lab.publishing(vec![
            port(Ipv4Addr::UNSPECIFIED.into(), 19053, 53, Protocol::Udp),
            port(any6, 19053, 53, Protocol::Udp),
        ]);
        let pattern = |size: usize| (0..size).map(|n| (n % 251) as u8).collect::<Vec<u8>>();
        // Fragments of IPv6 are not put together on the way out: short answers there.
        let answer = |size: usize, v4: bool| if v4 { size } else { size.min(1000) };
        let socket = c.run(|| UdpSocket::bind("[::]:53").unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                if buffer[..n] == pattern(n) {
                    let _ = socket.send_to(&buffer[..answer(n, from.ip().to_canonical().is_ipv4())], from);
                }
            }
        });
        for (source, target) in [(OTHER, HOST), (HOST6, HOST6)] {
            for size in [1400, 1473, 4000, 30_000, 60_000] {
                let s = UdpSocket::bind((source, 0)).unwrap();
                s.set_read_timeout(Some(LONG)).unwrap();
                s.connect((target, 19053)).unwrap();
                let mut buffer = vec![0; 65536];
                s.send(&pattern(size)).unwrap();
                let n = s.recv(&mut buffer).unwrap_or_else(|e| panic!("{size} bytes from {source}: {e}"));
                assert!(buffer[..n] == pattern(answer(size, target == HOST)), "{size} bytes from {source}");
            }
        }
    });
}

/// A connection through a published port: the client's end, the container's end.
fn joined(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect("127.0.0.1:18080").unwrap();
    let (server, _) = listener.accept().unwrap();
    for s in [&client, &server] {
        s.set_read_timeout(Some(LONG)).unwrap();
    }
    (client, server)
}

fn reset(s: TcpStream) {
    coracle::net::relay::abort_on_close(&s.into()).unwrap();
}

#[test]
fn each_side_sees_what_the_other_does() {
    in_lab("net::publish::each_side_sees_what_the_other_does", |lab: &mut Lab| {
        let c = lab.publishing(vec![port(Ipv4Addr::UNSPECIFIED.into(), 18080, 80, Protocol::Tcp)]);
        let listener = c.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
        let is_reset = |mut s: TcpStream| {
            let e = s.read(&mut [0; 1]).unwrap_err();
            assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}");
        };
        let (client, server) = joined(&listener);
        reset(client);
        is_reset(server);
        let (client, server) = joined(&listener);
        reset(server);
        is_reset(client);
        // The container has said all it has to say, and still listens.
        let (mut client, mut server) = joined(&listener);
        server.write_all(b"bye").unwrap();
        server.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        client.write_all(b"one thing more").unwrap();
        drop(client);
        let mut rest = String::new();
        server.read_to_string(&mut rest).unwrap();
        assert_eq!((text.as_str(), rest.as_str()), ("bye", "one thing more"));
        // A reader that does not read holds up nobody else and loses nothing.
        let (mut slow, mut server) = joined(&listener);
        const ALL: usize = 40 << 20;
        let sender = std::thread::spawn(move || server.write_all(&vec![7; ALL]).unwrap());
        let (mut quick, mut server) = joined(&listener);
        for _ in 0..1000 {
            quick.write_all(b"x").unwrap();
            server.read_exact(&mut [0]).unwrap();
        }
        assert!(!sender.is_finished(), "all of it was taken by buffers");
        let mut got = Vec::new();
        slow.read_to_end(&mut got).unwrap();
        sender.join().unwrap();
        assert!(got.len() == ALL && got.iter().all(|b| *b == 7));
    });
}

#[test]
fn sockets_that_others_bound() {
    in_lab("net::publish::sockets_that_others_bound", |lab: &mut Lab| {
        let tcp = TcpListener::bind("[::]:80").unwrap();
        let udp = UdpSocket::bind("0.0.0.0:53").unwrap();
        for fd in [tcp.try_clone().unwrap().into(), udp.try_clone().unwrap().into()] {
            lab.control.handle(Call::Keep, Some(fd)).unwrap();
        }
        let both = UdpSocket::bind("[::]:54").unwrap();
        let words = lab.control.handle(Call::Keep, Some(both.into())).map(drop).unwrap_err();
        assert_eq!(words.message(), "the UDP socket [::]:54 takes IPv4 as well");
        // Who came before anybody published waits.
        let early = TcpStream::connect("127.0.0.1:80").unwrap();
        let any = Ipv4Addr::UNSPECIFIED.into();
        let twin = PortSpec { with_previous: true, ..port(Ipv6Addr::UNSPECIFIED.into(), 80, 8080, Protocol::Tcp) };
        for _ in 0..2 {
            let mut spec = lab.spec(&["one"]);
            spec.ports = vec![port(any, 53, 5353, Protocol::Udp)];
            let c = lab.create(spec.clone());
            let socket = c.run(|| UdpSocket::bind("0.0.0.0:5353").unwrap());
            std::thread::spawn(move || {
                let mut buffer = [0; 100];
                while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..n], from);
                }
            });
            let s = UdpSocket::bind((OTHER, 0)).unwrap();
            s.set_read_timeout(Some(LONG)).unwrap();
            s.connect((HOST, 53)).unwrap();
            s.send(b"hi").unwrap();
            assert_eq!(s.recv(&mut [0; 8]).unwrap(), 2);
            lab.call(Call::Release { container: spec.container });
        }
        let c = lab.publishing(vec![port(any, 80, 8080, Protocol::Tcp), twin]);
        assert_eq!(c.state.ports.len(), 2);
        // It found nobody listening inside.
        let mut early = early;
        assert!(early.read(&mut [0; 1]).is_err());
        mirror(&c, "[::]:8080");
        let (me, s) = from(OTHER, format!("{HOST}:80").parse().unwrap());
        assert_eq!(read(s), format!("[::ffff:{}", me.replace(':', "]:")));
        let seen = read(TcpStream::connect("[::1]:80").unwrap());
        assert!(seen.starts_with("[fd00:1::1]:"), "{seen}");
    });
}
