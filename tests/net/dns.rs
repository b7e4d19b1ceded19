//! 127.0.0.11: names of neighbours, forwarding, TCP, and rubbish.

use super::lab::{Container, HOST, Lab, in_lab};
use crate::harness::eventually;
use coracle::net::protocol::Call;
use coracle::util::dns::{self, Type};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const LONG: Duration = crate::harness::PATIENCE;

fn named(lab: &mut Lab, names: &[&str]) -> Container {
    let mut spec = lab.spec(&["one"]);
    spec.dns.embedded = true;
    spec.dns.servers = vec![HOST.parse().unwrap()];
    spec.endpoints[0].names.extend(names.iter().map(|n| (*n).to_owned()));
    lab.create(spec)
}

/// (code, addresses)
fn ask(c: &Container, name: &str, kind: Type, tcp: bool) -> (u8, Vec<IpAddr>) {
    let question = dns::question(7, name, kind).unwrap();
    c.run(move || {
        let answer = if tcp {
            let mut s = TcpStream::connect("127.0.0.11:53").unwrap();
            s.set_read_timeout(Some(LONG)).unwrap();
            s.write_all(&(question.len() as u16).to_be_bytes()).unwrap();
            s.write_all(&question).unwrap();
            let mut length = [0; 2];
            s.read_exact(&mut length).unwrap();
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            s.read_exact(&mut answer).unwrap();
            answer
        } else {
            let s = UdpSocket::bind("127.0.0.1:0").unwrap();
            s.set_read_timeout(Some(LONG / 8)).unwrap();
            let mut buffer = vec![0; 65536];
            // As every resolver does: a datagram may be lost in a full queue.
            let n = (0..8).find_map(|_| {
                s.send_to(&question, "127.0.0.11:53").unwrap();
                s.recv(&mut buffer).ok()
            });
            let n = n.expect("an answer by UDP");
            buffer[..n].to_vec()
        };
        let answer = dns::decode(&answer, &question).unwrap();
        (answer.code, answer.addresses)
    })
}

/// Answers every question with 192.0.2.1, by UDP truncated if its name begins with "big".
fn upstream() {
    let udp = UdpSocket::bind((HOST, 53)).unwrap();
    let tcp = TcpListener::bind((HOST, 53)).unwrap();
    let answer = |question: &[u8], cut: bool| {
        let mut out = question.to_vec();
        out[2] = 0x81 | if cut { 2 } else { 0 };
        if !cut {
            out[7] = 1;
            out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        }
        out
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((n, from)) = udp.recv_from(&mut buffer) {
            let big = buffer[13..].starts_with(b"big");
            let _ = udp.send_to(&answer(&buffer[..n], big), from);
        }
    });
    std::thread::spawn(move || {
        for mut s in tcp.incoming().flatten() {
            let mut length = [0; 2];
            s.read_exact(&mut length).unwrap();
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            s.read_exact(&mut question).unwrap();
            let out = answer(&question, false);
            s.write_all(&(out.len() as u16).to_be_bytes()).unwrap();
            s.write_all(&out).unwrap();
        }
    });
}

#[test]
fn neighbours_have_names() {
    in_lab("net::dns::neighbours_have_names", |lab| {
        let a = named(lab, &["db", "Shared"]);
        let b = named(lab, &["shared"]);
        eventually("the new neighbour", || ask(&a, "shared", Type::A, false).1.len() == 2);
        for tcp in [false, true] {
            assert_eq!(ask(&b, "c1", Type::A, tcp), (0, vec![a.ip()]));
            assert_eq!(ask(&b, "DB.net-one", Type::A, tcp), (0, vec![a.ip()]));
            assert_eq!(ask(&b, "db", Type::Aaaa, tcp), (0, vec![a.state.endpoints[0].ipv6.unwrap()]));
            let (code, mut both) = ask(&a, "shared", Type::A, tcp);
            both.sort();
            assert_eq!((code, both), (0, vec![a.ip(), b.ip()]));
        }
        let firsts: std::collections::HashSet<IpAddr> =
            (0..8).map(|_| ask(&a, "shared", Type::A, false).1[0]).collect();
        assert_eq!(firsts.len(), 2, "several answers take turns to be first");
        lab.call(Call::Release { container: b.state.container.clone() });
        // The resolver's thread hears of it a moment later.
        eventually("its names to vanish", || ask(&a, "shared", Type::A, false) == (0, vec![a.ip()]));
    });
}

#[test]
fn other_names_are_asked_upstream() {
    in_lab("net::dns::other_names_are_asked_upstream", |lab| {
        upstream();
        let a = named(lab, &[]);
        let there: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap()];
        assert_eq!(ask(&a, "example.org", Type::A, false), (0, there.clone()));
        assert_eq!(ask(&a, "big.example.org", Type::A, true), (0, there.clone()));
        // A server that is silent is skipped, and asked last from then on.
        let mut spec = lab.spec(&["one"]);
        spec.dns.embedded = true;
        let silent = UdpSocket::bind(("198.51.100.7", 53)).unwrap();
        spec.dns.servers = vec!["198.51.100.7".parse().unwrap(), HOST.parse().unwrap()];
        let c = lab.create(spec);
        assert_eq!(ask(&c, "example.org", Type::A, false), (0, there.clone()));
        let quick = (0..10).any(|_| {
            let begun = Instant::now();
            assert_eq!(ask(&c, "example.org", Type::A, false), (0, there.clone()));
            begun.elapsed() < Duration::from_secs(1)
        });
        assert!(quick, "the silent server is asked first each time");
        drop(silent);
    });
}

#[test]
fn rubbish_harms_nothing() {
    in_lab("net::dns::rubbish_harms_nothing", |lab| {
        let a = named(lab, &["me"]);
        a.run(|| {
            let s = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut state = 5u32;
            for n in 0..3000usize {
                let junk: Vec<u8> = (0..n % 700)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        (state >> 24) as u8
                    })
                    .collect();
                let _ = s.send_to(&junk, "127.0.0.11:53");
            }
            for junk in [&[0u8, 0][..], &[255; 70], &[0, 3, 1, 2, 3]] {
                let mut s = TcpStream::connect("127.0.0.11:53").unwrap();
                let _ = s.write_all(junk);
            }
        });
        assert_eq!(ask(&a, "me", Type::A, false), (0, vec![a.ip()]));
    });
}
