//! A connection's bytes: heads, bodies by length and in chunks, pipelining; the same
//! requests whether the bytes come at once or drip in.

#![no_main]

use coracle::server::http::MAX_HEAD;
use coracle::server::http::head;
use coracle::server::http::inbound::Inbound;
use coracle::server::http::socket::Socket;
use coracle_fuzz::Dice;
use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Method, target and body, and whether the body came to its end.
type Seen = Vec<(String, String, Vec<u8>, bool)>;

const SOON: Duration = Duration::from_secs(1);

fn connection() -> (UnixStream, Inbound) {
    let (client, server) = UnixStream::pair().unwrap();
    client.set_nonblocking(true).unwrap();
    (client, Inbound::new(Socket::new(server.into()), Some(SOON)))
}

/// Reads a request's body in pieces; false if nothing can follow it.
fn request(inbound: &mut Inbound, head: head::Head, dice: &mut Dice, seen: &mut Seen) -> bool {
    if let Some((_, query)) = head.target.split_once('?') {
        let query = head::query(query);
        let _ = coracle::api::build::Options::decode(|key| {
            query.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect()
        });
    }
    let _ = head::percent_decode(&head.target, false);
    let (mut body, mut piece) = (Vec::new(), [0; 3000]);
    loop {
        let room = 1 + dice.roll(piece.len());
        match inbound.read(&mut piece[..room]) {
            Ok(0) | Err(_) => break,
            Ok(n) => body.extend_from_slice(&piece[..n]),
        }
    }
    seen.push((head.method, head.target, body, inbound.finished()));
    inbound.finished()
}

/// All bytes are there at once.
fn whole(data: &[u8], dice: &mut Dice) -> Option<Seen> {
    let (mut client, mut inbound) = connection();
    if client.write(data).unwrap_or(0) < data.len() {
        return None;
    }
    client.shutdown(Shutdown::Write).unwrap();
    let mut seen = Seen::new();
    while let Ok(head) = inbound.head(SOON, SOON) {
        if !request(&mut inbound, head, dice, &mut seen) {
            break;
        }
    }
    assert!(inbound.take_leftover().len() <= data.len());
    Some(seen)
}

/// Heads come in pieces, and the connection is looked at after each, as it is while it
/// has no thread.
fn parked(mut data: &[u8], dice: &mut Dice) -> Seen {
    let (mut client, mut inbound) = connection();
    let mut seen = Seen::new();
    loop {
        match inbound.step() {
            Ok(Some(head)) => {
                if !inbound.finished() {
                    let _ = client.write(std::mem::take(&mut data));
                    let _ = client.shutdown(Shutdown::Write);
                }
                if !request(&mut inbound, head, dice, &mut seen) {
                    return seen;
                }
            }
            Ok(None) if data.is_empty() => client.shutdown(Shutdown::Write).unwrap(),
            Ok(None) => {
                let piece = (1 + dice.roll(60)).min(data.len());
                assert_eq!(client.write(&data[..piece]).unwrap(), piece);
                data = &data[piece..];
            }
            Err(_) => return seen,
        }
        assert!(inbound.held() <= 2 * MAX_HEAD);
    }
}

fuzz_target!(|data: &[u8]| {
    if data.len() > 100_000 {
        return;
    }
    heads(data);
    let mut dice = Dice::new(data);
    if let Some(seen) = whole(data, &mut dice) {
        assert_eq!(parked(data, &mut dice), seen);
    }
});

/// A head is the same one whatever follows it, and no beginning of it is one.
fn heads(data: &[u8]) {
    let Ok(Some((whole, length))) = head::parse(data) else { return };
    assert!(length <= data.len());
    assert_eq!(head::parse(&data[..length]), Ok(Some((whole, length))));
    for cut in [1, length / 2, length - 1] {
        assert!(!matches!(head::parse(&data[..cut]), Ok(Some(_))), "a head at {cut} of {length}");
    }
}
