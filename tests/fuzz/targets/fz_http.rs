//! A connection's bytes: heads, bodies by length and in chunks, pipelining.

#![no_main]

use coracle::server::http::head;
use coracle::server::http::inbound::Inbound;
use coracle::server::http::socket::Socket;
use coracle_fuzz::Dice;
use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

fuzz_target!(|data: &[u8]| {
    if data.len() > 100_000 {
        return;
    }
    heads(data);
    let (mut client, server) = UnixStream::pair().unwrap();
    client.set_nonblocking(true).unwrap();
    if client.write(data).unwrap_or(0) < data.len() {
        return;
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut inbound = Inbound::new(Socket::new(server.into()), Some(Duration::from_secs(1)));
    let mut dice = Dice::new(data);
    let (mut taken, mut piece) = (0, vec![0; 3000]);
    while let Ok(head) = inbound.head(Duration::from_secs(1), Duration::from_secs(1)) {
        if let Some((_, query)) = head.target.split_once('?') {
            let query = head::query(query);
            let _ = coracle::api::build::Options::decode(|key| {
                query.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect()
            });
        }
        let _ = head::percent_decode(&head.target, false);
        loop {
            let room = 1 + dice.roll(piece.len());
            match inbound.read(&mut piece[..room]) {
                Ok(0) => break,
                Ok(n) => taken += n,
                Err(_) => break,
            }
        }
        assert!(taken <= data.len());
        if !inbound.finished() {
            break;
        }
    }
    assert!(inbound.take_leftover().len() <= data.len());
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
