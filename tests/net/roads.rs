//! Between a container and another machine: iperf3 over wires of two sizes, a
//! wire that loses, delays and reorders, and a host whose addresses change.

use super::lab::{Container, Lab, at, in_lab, network};
use super::machine::{Faults, Link, Machine};
use super::ways::there_and_back;
use crate::harness::eventually;
use coracle::net::netlink::{Netlink, link};
use coracle::net::protocol::Call;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

const LONG: Duration = crate::harness::PATIENCE;

/// An iperf3 client's own account of what arrived, in bytes.
fn iperf(c: &Container, server: &str, args: &'static str) -> u64 {
    let server = server.to_owned();
    // The server takes its time to be free for the next.
    let text = loop {
        let server = server.clone();
        let output = c.run(move || {
            let mut command = Command::new("iperf3");
            command.args(["-J", "-c", &server]).args(args.split(' '));
            command.output().unwrap()
        });
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !text.contains("the server is busy") {
            assert!(output.status.success(), "{args}: {text}");
            break text;
        }
    };
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let received = ["sum_received", "sum"].map(|sum| document["end"][sum]["bytes"].as_u64());
    received.into_iter().flatten().next().unwrap_or_else(|| panic!("{args}: {text}"))
}

#[test]
fn iperf3_in_both_directions_at_both_sizes() {
    in_lab("net::roads::iperf3_in_both_directions_at_both_sizes", |lab: &mut Lab| {
        for (n, mtu) in [1500, 65520].into_iter().enumerate() {
            let id = format!("road{n}");
            let mut spec = network(&id, &format!("172.2{n}.0.0/16"), Some(&format!("fd00:2{n}::/64")));
            spec.mtu = mtu;
            lab.call(Call::SetNetwork(spec));
            let spec = lab.spec(&[&id]);
            let c = lab.create(spec);
            let mut machine = Machine::new(&Link { mtu, ..Link::default() });
            machine.dual_stack();
            let mut server = Command::new("iperf3");
            server.arg("-s").stdout(Stdio::null());
            machine.start(server);
            eventually("iperf3", || machine.run(|| TcpStream::connect("127.0.0.1:5201").is_ok()));
            for server in ["192.0.2.2", "2001:db8:5::2"] {
                for args in ["-n 64M", "-n 64M -R"] {
                    assert!(iperf(&c, server, args) >= 1 << 20, "{mtu} {server} {args}");
                }
                // The server's own count: what is still in eight streams when the client has
                // handed them its last byte is none of its business.
                assert!(iperf(&c, server, "-n 16M -P 8") > 0, "{mtu} {server}");
                // Whole datagrams and datagrams in pieces. A sender that catches up on a busy machine
                // fills any queue (an ordinary user's holds some 180 datagrams): some may be lost.
                for args in ["-u -b 10M -n 1M -l 1300", "-u -b 10M -n 1M -l 1300 -R", "-u -b 10M -n 1M -l 5000"] {
                    assert!(iperf(&c, server, args) >= 1 << 19, "{mtu} {server} {args}");
                }
            }
        }
    });
}

#[test]
fn a_bad_wire_delivers_whole() {
    in_lab("net::roads::a_bad_wire_delivers_whole", |lab| {
        let c = lab.container();
        let faults = Faults { lost: 20, delay: Duration::from_millis(3), late: 50 };
        let machine = Machine::new(&Link { faults: Some(faults), ..Link::default() });
        let listener = machine.run(|| TcpListener::bind("192.0.2.2:0").unwrap());
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut s in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut out = s.try_clone().unwrap();
                    let _ = std::io::copy(&mut s, &mut out);
                    let _ = out.shutdown(std::net::Shutdown::Write);
                });
            }
        });
        for _ in 0..3 {
            assert_eq!(there_and_back(&c, address, 8 << 20), 8 << 20);
        }
        // Refused through the same wire is still refused.
        let closed = at("192.0.2.2", 9);
        let error = c.run(move || TcpStream::connect_timeout(&closed, LONG)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        lab.until("all flows end", |s| s.tcp_flows == 0);
    });
}

/// Tells every client, by UDP and TCP, who it is.
fn mirror(machine: &Machine) -> (SocketAddr, SocketAddr) {
    let (udp, tcp) = machine.run(|| (UdpSocket::bind("0.0.0.0:0").unwrap(), TcpListener::bind("0.0.0.0:0").unwrap()));
    let there = |a: std::io::Result<SocketAddr>| at("192.0.2.2", a.unwrap().port());
    let addresses = (there(udp.local_addr()), there(tcp.local_addr()));
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(from.ip().to_string().as_bytes(), from);
        }
    });
    std::thread::spawn(move || {
        for mut s in tcp.incoming().flatten() {
            let _ = s.write_all(s.peer_addr().unwrap().ip().to_string().as_bytes());
        }
    });
    addresses
}

#[test]
fn the_hosts_addresses_may_change() {
    in_lab("net::roads::the_hosts_addresses_may_change", |lab| {
        let c = lab.container();
        let machine = Machine::new(&Link::default());
        let (udp, tcp) = mirror(&machine);
        let socket = c.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        // One socket of the container all along, as a tunnel or a long game has it.
        let seen = move || {
            let mut buffer = [0; 100];
            socket.send_to(b"who am I", udp).ok()?;
            let n = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
        };
        eventually("the first address", || seen().as_deref() == Some("192.0.2.1"));
        let interface = machine.interface();
        let mut netlink = Netlink::open().unwrap();
        netlink.send(link::delete_address(interface, "192.0.2.1".parse().unwrap(), 24)).unwrap();
        let gone = c.run(move || TcpStream::connect_timeout(&tcp, Duration::from_secs(9))).unwrap_err();
        assert!(matches!(gone.raw_os_error(), Some(101 | 113)), "{gone}");
        netlink.send(link::add_address(interface, "192.0.2.9".parse().unwrap(), 24)).unwrap();
        eventually("the second address", || seen().as_deref() == Some("192.0.2.9"));
        let text = c.run(move || {
            let mut text = String::new();
            TcpStream::connect_timeout(&tcp, LONG).unwrap().read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(text, "192.0.2.9");
    });
}
