//! Outbound TCP: one conformance function for every way of opening the
//! container's half, and how a way is chosen.

use super::lab::{Container, HOST, HOST6, Lab, at, echo, in_lab_after, server};
use super::machine::{Link, Machine};
use coracle::net::protocol::Call;
use coracle::sys::inet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = crate::harness::PATIENCE;

#[test]
fn repaired_sockets_conform() {
    let env = [("CORACLE_OUTBOUND", "repair")];
    in_lab_after("net::ways::repaired_sockets_conform", &env, || {}, |lab| conforms(lab, "repair"));
}

#[test]
fn listeners_conform() {
    let env = [("CORACLE_OUTBOUND", "listen")];
    in_lab_after("net::ways::listeners_conform", &env, || {}, |lab| conforms(lab, "listen"));
}

/// As under the seccomp filter of an outer engine.
#[test]
fn listeners_take_over_where_repair_is_refused() {
    let name = "net::ways::listeners_take_over_where_repair_is_refused";
    in_lab_after(name, &[], refuse_repair, |lab| {
        assert_eq!(lab.status().outbound, "listen");
        let c = lab.container();
        opens_and_refuses(&c);
    });
}

#[test]
fn with_no_way_a_container_is_told() {
    let env = [("CORACLE_OUTBOUND", "none")];
    in_lab_after(
        "net::ways::with_no_way_a_container_is_told",
        &env,
        || {},
        |lab| {
            assert!(lab.status().outbound.starts_with("none: "), "{}", lab.status().outbound);
            let c = lab.container();
            for ip in [HOST, HOST6] {
                let address = echo(ip);
                let error = c.run(move || TcpStream::connect_timeout(&address, LONG)).unwrap_err();
                assert!(matches!(error.raw_os_error(), Some(13 | 113)), "{error}");
            }
        },
    );
}

/// setsockopt(IPPROTO_TCP, TCP_REPAIR) is EPERM from here on.
fn refuse_repair() {
    use coracle::sys::seccomp::{Instruction, load};
    let number = if cfg!(target_arch = "x86_64") { 54 } else { 208 };
    let op = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let argument = |n: u32| 16 + 8 * n;
    load(&[
        op(0x20, 0, 0, 0),
        op(0x15, 0, 5, number),
        op(0x20, 0, 0, argument(1)),
        op(0x15, 0, 3, 6),
        op(0x20, 0, 0, argument(2)),
        op(0x15, 0, 1, 19),
        op(0x06, 0, 0, 0x0005_0000 | 1),
        op(0x06, 0, 0, 0x7fff_0000),
    ])
    .unwrap();
}

/// What every way has to do.
fn conforms(lab: &mut Lab, way: &str) {
    assert_eq!(lab.status().outbound, way);
    let c = lab.container();
    opens_and_refuses(&c);
    the_server_speaks_first(&c);
    unreachable_and_silent(lab, &c);
    nobody_is_accepted_before_upstream(lab);
    half_closes(&c);
    resets(&c);
    keep_alive_and_urgent_data(&c);
    for ip in [HOST, HOST6] {
        let address = echo(ip);
        assert_eq!(there_and_back(&c, address, 48 << 20), 48 << 20);
    }
    lab.until("all flows end", |s| s.tcp_flows == 0);
    many_at_once(lab);
    many_in_a_row_and_many_idle(lab, &c);
    the_container_ends(lab);
}

pub fn ask(address: SocketAddr, text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut s = TcpStream::connect_timeout(&address, LONG)?;
    s.set_read_timeout(Some(LONG))?;
    s.write_all(text)?;
    s.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    s.read_to_end(&mut answer)?;
    Ok(answer)
}

fn opens_and_refuses(c: &Container) {
    for ip in [HOST, HOST6] {
        let address = echo(ip);
        assert_eq!(c.run(move || ask(address, b"hello")).unwrap(), b"hello", "{ip}");
        let closed = at(ip, 9);
        let error = c.run(move || TcpStream::connect_timeout(&closed, LONG)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{ip}");
    }
}

fn the_server_speaks_first(c: &Container) {
    for ip in [HOST, HOST6] {
        let address = server(ip, |mut s| drop(s.write_all(b"220 ready\r\n")));
        for _ in 0..20 {
            assert_eq!(c.run(move || ask(address, b"")).unwrap(), b"220 ready\r\n");
        }
    }
}

fn unreachable_and_silent(lab: &mut Lab, c: &Container) {
    // The lab's host has no route there.
    for ip in ["203.0.113.1", "2001:db8:9::1"] {
        let error = c.run(move || TcpStream::connect_timeout(&at(ip, 80), LONG)).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(101 | 113)), "{ip}: {error}");
    }
    // On the wire with the host, but nobody has the address.
    let link = Link { host: "192.0.2.1/24", machine: "192.0.2.2/24", ..Link::default() };
    let machine = Machine::new(&link);
    let error = c.run(|| TcpStream::connect_timeout(&at("192.0.2.77", 80), LONG)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(113), "{error}");
    // A router that swallows everything.
    machine.route("198.18.0.0/15");
    let error = c.run(|| TcpStream::connect_timeout(&at("198.18.0.1", 80), SHORT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    // The host gives up sooner than usual, and nobody is told.
    let retries = "/proc/sys/net/ipv4/tcp_syn_retries";
    std::fs::write(retries, "1").unwrap();
    let error = c.run(|| TcpStream::connect_timeout(&at("198.18.0.1", 81), Duration::from_secs(5))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    lab.until("attempts end", |s| s.tcp_flows == 0);
    std::fs::write(retries, "6").unwrap();
}

/// A server with room for one: the next waits, and so does its container. The
/// two come from different containers and to one destination.
fn nobody_is_accepted_before_upstream(lab: &mut Lab) {
    let listener = inet::socket(2, 1, 0).unwrap();
    inet::bind(&listener, &at(HOST, 0)).unwrap();
    inet::listen(&listener, 0).unwrap();
    let address = inet::local_address(&listener).unwrap();
    let (a, b) = (lab.container(), lab.container());
    let first = a.run(move || TcpStream::connect_timeout(&address, LONG)).unwrap();
    let error = b.run(move || TcpStream::connect_timeout(&address, SHORT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let waiting = b.run(move || std::thread::spawn(move || TcpStream::connect_timeout(&address, LONG)));
    // The one that gave up is in the row too.
    let listener = std::net::TcpListener::from(listener);
    listener.set_nonblocking(false).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    waiting.join().unwrap().unwrap();
    drop(first);
    for c in [a, b] {
        lab.call(Call::Release { container: c.state.container.clone() });
    }
}

fn half_closes(c: &Container) {
    // The server reads to the end, then answers: only a half-close lets it.
    let patient = server(HOST, |mut s| {
        let mut all = Vec::new();
        let _ = s.read_to_end(&mut all);
        let _ = s.write_all(format!("{} bytes", all.len()).as_bytes());
    });
    assert_eq!(c.run(move || ask(patient, &[7; 1000])).unwrap(), b"1000 bytes");
    // And the other way: the server's stream ends first, ours goes on.
    let (sender, receiver) = shared();
    let brief = server(HOST, move |mut s| {
        s.write_all(b"that is all").unwrap();
        s.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        let _ = s.read_to_end(&mut all);
        let _ = sender.lock().unwrap().send(all.len());
    });
    c.run(move || {
        let mut s = TcpStream::connect(brief).unwrap();
        let mut all = String::new();
        s.read_to_string(&mut all).unwrap();
        assert_eq!(all, "that is all");
        s.write_all(&[1; 300_000]).unwrap();
    });
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), 300_000);
}

fn shared<T>() -> (Mutex<std::sync::mpsc::Sender<T>>, Receiver<T>) {
    let (sender, receiver) = channel();
    (Mutex::new(sender), receiver)
}

fn resets(c: &Container) {
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
    let (sender, receiver) = shared();
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
}

fn keep_alive_and_urgent_data(c: &Container) {
    // Silent for longer than the probes of the client would bear without an answer.
    let silent = server(HOST, |mut s| {
        let mut text = [0; 5];
        s.read_exact(&mut text).unwrap();
        std::thread::sleep(Duration::from_secs(4));
        let _ = s.write_all(&text);
    });
    c.run(move || {
        let mut s = TcpStream::connect(silent).unwrap();
        inet::set_int(&s, 1, 9, 1).unwrap();
        s.set_read_timeout(Some(LONG)).unwrap();
        for (name, value) in [(4, 1), (5, 1), (6, 1)] {
            inet::set_int(&s, 6, name, value).unwrap();
        }
        // One urgent byte in the middle stays in its place.
        use nix::sys::socket::{MsgFlags, send};
        s.write_all(b"ab").unwrap();
        assert_eq!(send(s.as_raw_fd(), b"!", MsgFlags::MSG_OOB), Ok(1));
        s.write_all(b"cd").unwrap();
        let mut answer = String::new();
        s.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "ab!cd");
    });
}

fn block() -> Vec<u8> {
    (0..65521u32).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// Sends `total` bytes to an echo server while reading them; what came back right.
pub fn there_and_back(c: &Container, address: SocketAddr, total: usize) -> usize {
    c.run(move || {
        let mut reader = TcpStream::connect_timeout(&address, LONG).unwrap();
        let mut s = reader.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            let (block, mut left) = (block(), total);
            while left > 0 {
                let n = left.min(block.len());
                s.write_all(&block[..n]).unwrap();
                left -= n;
            }
            s.shutdown(Shutdown::Write).unwrap();
        });
        let block = block();
        let mut buffer = vec![0; 1 << 17];
        let mut got = 0usize;
        while let Ok(n @ 1..) = reader.read(&mut buffer) {
            let mut rest = &buffer[..n];
            while !rest.is_empty() {
                let at = got % block.len();
                let piece = rest.len().min(block.len() - at);
                assert!(rest[..piece] == block[at..at + piece], "other bytes near {got}");
                rest = &rest[piece..];
                got += piece;
            }
        }
        writer.join().unwrap();
        got
    })
}

/// Several containers to one destination in the same moment, some of them refused elsewhere.
fn many_at_once(lab: &mut Lab) {
    let containers: Vec<Container> = (0..4).map(|_| lab.container()).collect();
    for ip in [HOST, HOST6] {
        let (open, closed) = (echo(ip), at(ip, 9));
        let start = Arc::new(Barrier::new(4 * 24));
        let threads: Vec<_> = containers
            .iter()
            .flat_map(|c| (0..24).map(move |n| (c, n)))
            .map(|(c, n)| {
                let start = start.clone();
                // A thread begins in the namespace of the one that starts it.
                c.run(move || {
                    std::thread::spawn(move || {
                        start.wait();
                        if n % 4 == 3 {
                            return TcpStream::connect(closed).unwrap_err().kind() == ErrorKind::ConnectionRefused;
                        }
                        ask(open, &[n; 1000]).unwrap() == [n; 1000]
                    })
                })
            })
            .collect();
        assert!(threads.into_iter().all(|t| t.join().unwrap()));
    }
    for c in containers {
        lab.call(Call::Release { container: c.state.container.clone() });
    }
    lab.until("all flows end", |s| s.tcp_flows == 0);
}

fn many_in_a_row_and_many_idle(lab: &mut Lab, c: &Container) {
    // One thread for all, so that descriptors of the lab's own do not blur the count.
    let listener = std::net::TcpListener::bind(at(HOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut s in listener.incoming().flatten() {
            let mut text = [0; 4];
            if s.read_exact(&mut text).is_ok() {
                let _ = s.write_all(&text);
            }
        }
    });
    let row = |count: u32| {
        c.run(move || {
            (0..count).for_each(|n| assert_eq!(ask(address, &n.to_be_bytes()).unwrap(), n.to_be_bytes()));
        });
    };
    row(100);
    lab.until("settled", |s| s.tcp_flows == 0);
    let before = lab.status().open_files;
    row(10_000);
    lab.until("all flows end", |s| s.tcp_flows == 0);
    // Spare pipes and stocked sockets: nothing that grows with what was carried.
    lab.until("descriptors are back", move |s| s.open_files <= before + 100);
    let holder = inet::socket(2, 1, 0).unwrap();
    inet::bind(&holder, &at(HOST, 0)).unwrap();
    inet::listen(&holder, 1024).unwrap();
    let address = inet::local_address(&holder).unwrap();
    let idle = c.run(move || (0..1000).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>());
    lab.until("a thousand are open", |s| s.tcp_flows == 1000);
    let held: Vec<OwnedFd> = (0..1000).map(|_| inet::accept(&holder).unwrap().0).collect();
    drop((held, idle));
    lab.until("all flows end", |s| s.tcp_flows == 0);
    lab.until("descriptors are back", move |s| s.open_files <= before + 100);
}

/// Also one whose half has only just been asked for.
fn the_container_ends(lab: &mut Lab) {
    for _ in 0..20 {
        let c = lab.container();
        let (sender, receiver) = shared();
        let address = server(HOST, move |mut s| {
            let _ = sender.lock().unwrap().send(s.read(&mut [0; 10]).map_err(|e| e.kind()));
        });
        let stream = c.run(move || TcpStream::connect(address).unwrap());
        lab.call(Call::Release { container: c.state.container.clone() });
        assert_eq!(receiver.recv_timeout(LONG).unwrap(), Err(ErrorKind::ConnectionReset));
        drop(stream);
    }
}
