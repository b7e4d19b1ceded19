//! Answers of the kernel, and requests that are read back.

#![no_main]

use coracle::net::netlink::message::{Attributes, Messages, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut seen = 0;
    for message in Messages(data) {
        seen += 16 + message.payload.len();
        let _ = message.error();
        let mut inside = 0;
        for (kind, value) in Attributes(message.payload) {
            inside += 4 + value.len();
            let _ = Attributes(value).find(kind);
        }
        assert!(inside <= message.payload.len() + 4);
    }
    assert!(seen <= data.len());
    if data.len() < 1000 {
        let request = Request::new(16, 0).body(&data[..data.len() / 2]).nest(1, |r| r.attr(2, data)).finish(9);
        let message = Messages(&request).next().unwrap();
        assert_eq!((message.kind, message.sequence), (16, 9));
    }
});
