//! Certificates of strangers.

#![no_main]

use coracle::util::der::{self, Reader};
use coracle::util::x509;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = x509::facts(data);
    let _ = x509::Key::load(data);
    let mut reader = Reader(data);
    while let Some((tag, content)) = reader.element() {
        assert!(content.len() <= data.len());
        let mut again = Vec::new();
        again.extend(der::element(tag, content));
        assert_eq!(Reader(&again).expect(tag), Some(content));
        let mut inner = Reader(content);
        while inner.element().is_some() {}
    }
    let _ = x509::pem("X", data);
});
