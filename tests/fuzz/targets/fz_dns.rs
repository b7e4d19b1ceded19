//! DNS as netd's server and as the resolver of the registry client see it.

#![no_main]

use coracle::net::dns::message::{Question, response, with_id};
use coracle::util::dns;
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fuzz_target!(|data: &[u8]| {
    let many: Vec<IpAddr> = (0..60u8).map(|n| Ipv4Addr::new(10, 0, 0, n).into()).collect();
    let six = [IpAddr::from(Ipv6Addr::LOCALHOST)];
    if let Some(question) = Question::parse(data) {
        for room in [question.room, 512, 65_535] {
            for answer in [
                question.addresses(data, &many, room),
                question.addresses(data, &six, room),
                question.pointer(data, &question.name, room),
                question.failure(data, 3),
            ] {
                assert!(response(&answer, question.id).is_some());
                // A question of its own and no more than what was asked for.
                assert!(answer.len() <= room.max(12 + data.len() + 11));
            }
        }
        let _ = question.reverse();
    }
    let id = data.first_chunk::<2>().map_or(0, |b| u16::from_be_bytes(*b));
    let _ = response(data, id);
    let _ = with_id(data, id);
    for name in ["a", "registry.example.com."] {
        let question = dns::question(id, name, dns::Type::A).unwrap();
        if let Some(answer) = dns::decode(data, &question) {
            assert!(answer.addresses.len() <= data.len());
        }
    }
    if let Some(name) = coracle_fuzz::text(data)
        && let Some(question) = dns::question(7, name, dns::Type::Aaaa)
    {
        assert!(question.len() <= 512);
    }
});
