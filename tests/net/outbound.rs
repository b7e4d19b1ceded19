//! What leaves a container: TCP, UDP and ping, and how failures look inside.

use super::lab::{HOST, HOST6, Lab, in_lab, network};
use coracle::net::protocol::{Call, HOST_GATEWAY};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(40);

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// A server on the host that answers every connection with `serve`.
fn server(ip: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(at(ip, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = std::sync::Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn echo(ip: &str) -> SocketAddr {
    server(ip, |mut s| {
        let mut buffer = vec![0; 65536];
        while let Ok(n @ 1..) = s.read(&mut buffer) {
            if s.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })
}

fn ask(address: SocketAddr, text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut s = TcpStream::connect_timeout(&address, LONG)?;
    s.set_read_timeout(Some(LONG))?;
    s.write_all(text)?;
    s.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    s.read_to_end(&mut answer)?;
    Ok(answer)
}

#[test]
fn connections_succeed_and_fail_truthfully() {
    in_lab("net::outbound::connections_succeed_and_fail_truthfully", |lab| {
        let c = lab.container();
        for ip in [HOST, HOST6] {
            let address = echo(ip);
            assert_eq!(c.run(move || ask(address, b"hello")).unwrap(), b"hello", "{ip}");
            let closed = at(ip, 9);
            // Refused at once, not at the second SYN; a busy machine may need some tries to show it.
            let quick = (0..20).any(|_| {
                let begun = Instant::now();
                let error = c.run(move || TcpStream::connect_timeout(&closed, LONG)).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{ip}");
                begun.elapsed() < Duration::from_millis(900)
            });
            assert!(quick, "{ip}");
        }
        // The lab's host has no route there.
        let error = c.run(|| TcpStream::connect_timeout(&at("203.0.113.1", 80), LONG)).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(101 | 113)), "{error}");
        let error = c.run(|| TcpStream::connect_timeout(&at("2001:db8:9::1", 80), LONG)).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(101 | 113)), "{error}");
    });
}

#[test]
fn the_server_may_speak_first() {
    in_lab("net::outbound::the_server_may_speak_first", |lab| {
        let c = lab.container();
        let address = server(HOST, |mut s| drop(s.write_all(b"220 ready\r\n")));
        let quick = (0..50).filter(|_| {
            let begun = Instant::now();
            assert_eq!(c.run(move || ask(address, b"")).unwrap(), b"220 ready\r\n");
            begun.elapsed() < Duration::from_millis(190)
        });
        // A lost first segment would cost each of them 200 ms.
        assert!(quick.count() > 5);
    });
}

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

#[test]
fn big_transfers_arrive_whole_both_ways() {
    in_lab("net::outbound::big_transfers_arrive_whole_both_ways", |lab| {
        let c = lab.container();
        let address = echo(HOST);
        let begun = Instant::now();
        let total = 64 << 20;
        let sum = c.run(move || {
            let s = TcpStream::connect(address).unwrap();
            let mut reader = s.try_clone().unwrap();
            let writer = std::thread::spawn(move || {
                let mut s = s;
                let block: Vec<u8> = (0..65521u32).map(|n| (n * 7 + n / 251) as u8).collect();
                let mut left = total;
                while left > 0 {
                    let n = left.min(block.len());
                    s.write_all(&block[..n]).unwrap();
                    left -= n;
                }
                s.shutdown(Shutdown::Write).unwrap();
            });
            let block: Vec<u8> = (0..65521u32).map(|n| (n * 7 + n / 251) as u8).collect();
            let mut buffer = vec![0; 1 << 17];
            let mut got = 0usize;
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                for (i, b) in buffer[..n].iter().enumerate().step_by(97) {
                    assert_eq!(*b, block[(got + i) % block.len()], "at {}", got + i);
                }
                got += n;
            }
            writer.join().unwrap();
            got
        });
        assert_eq!(sum, total);
        println!("measured: 64 MiB there and back in {:?}", begun.elapsed());
        lab.until("the flow ends", |s| s.tcp_flows == 0);
    });
}

#[test]
fn resets_and_half_closes_pass() {
    in_lab("net::outbound::resets_and_half_closes_pass", |lab| {
        let c = lab.container();
        // The server reads to the end, then answers: only a half-close lets it.
        let patient = server(HOST, |mut s| {
            let mut all = Vec::new();
            let _ = s.read_to_end(&mut all);
            let _ = s.write_all(format!("{} bytes", all.len()).as_bytes());
        });
        assert_eq!(c.run(move || ask(patient, &[7; 1000])).unwrap(), b"1000 bytes");
        // Closing with unread data resets.
        let rude = server(HOST, |mut s| {
            let mut one = [0];
            let _ = s.read_exact(&mut one);
        });
        let result = c.run(move || {
            let mut s = TcpStream::connect(rude).unwrap();
            s.set_read_timeout(Some(LONG)).unwrap();
            // The reset may come while there is still something to send.
            s.write_all(&[1; 100_000])?;
            s.read(&mut [0; 10])
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
        // And the other way.
        let (sender, receiver) = std::sync::mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        let watcher = server(HOST, move |mut s| {
            s.write_all(&[1; 10]).unwrap();
            let _ = sender.lock().unwrap().send(s.read(&mut [0; 10]).map_err(|e| e.kind()));
        });
        c.run(move || {
            let s = TcpStream::connect(watcher).unwrap();
            s.peek(&mut [0]).unwrap();
            drop(s);
        });
        assert_eq!(receiver.recv_timeout(LONG).unwrap(), Err(ErrorKind::ConnectionReset));
        lab.until("all flows end", |s| s.tcp_flows == 0);
    });
}

#[test]
fn many_connections_leak_nothing() {
    in_lab("net::outbound::many_connections_leak_nothing", |lab| {
        let c = lab.container();
        let address = echo(HOST);
        c.run(move || ask(address, b"warm")).unwrap();
        lab.until("settled", |s| s.tcp_flows == 0);
        let before = lab.status().open_files;
        let begun = Instant::now();
        c.run(move || {
            (0..3000).for_each(|n: u32| assert_eq!(ask(address, &n.to_be_bytes()).unwrap(), n.to_be_bytes()));
        });
        println!("measured: 3,000 connections one after another in {:?}", begun.elapsed());
        let idle = c.run(move || (0..400).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>());
        assert_eq!(lab.status().tcp_flows, 400);
        c.run(move || drop(idle));
        lab.until("all flows end", |s| s.tcp_flows == 0);
        // Spare pipes and stocked sockets may stay; the lab's own threads come and go.
        lab.until("descriptors are back", move |s| s.open_files <= before + 150);
    });
}

#[test]
fn a_container_that_ends_takes_its_connections_along() {
    in_lab("net::outbound::a_container_that_ends_takes_its_connections_along", |lab| {
        let c = lab.container();
        let (sender, receiver) = std::sync::mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        let address = server(HOST, move |mut s| {
            let _ = sender.lock().unwrap().send(s.read(&mut [0; 10]).map_err(|e| e.kind()));
        });
        let stream = c.run(move || TcpStream::connect(address).unwrap());
        lab.call(Call::Release { container: c.state.container.clone() });
        assert_eq!(receiver.recv_timeout(LONG).unwrap(), Err(ErrorKind::ConnectionReset));
        drop(stream);
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
            // Fragments of IPv6 are not put together for packet sockets.
            let sizes: &[usize] = if ip == HOST { &[0, 1, 1472, 1473, 9000, 60000] } else { &[0, 1, 1452] };
            for &size in sizes {
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
                inet::send(&fd, &[if v4 { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 5, b'h', b'i'])?;
                let mut buffer = [0; 100];
                for _ in 0..4000 {
                    match inet::receive(&fd, &mut buffer) {
                        Ok(n) => return Ok(buffer[..n].to_vec()),
                        Err(_) => std::thread::sleep(Duration::from_millis(10)),
                    }
                }
                Err(std::io::Error::from(ErrorKind::TimedOut))
            });
            let answer: std::io::Result<Vec<u8>> = answer;
            assert_eq!(&answer.unwrap()[6..], b"\x00\x05hi", "{ip}");
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
