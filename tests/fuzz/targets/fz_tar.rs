//! The tar reader over headers with right sums and whatever else in them, and
//! the record that makes the same bytes again.

#![no_main]

use coracle::storage::tar::read::{Capture, Discard, Reader};
use coracle_fuzz::mend_tar;
use libfuzzer_sys::fuzz_target;
use std::io;

struct Count(u64);

impl Capture for Count {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    if data.len() > 64 << 10 {
        return;
    }
    // As it is, too: what the sums alone refuse.
    let mut raw = Reader::new(data, Discard);
    while let Ok(Some(_)) = raw.entry() {}
    let tar = mend_tar(data);
    let mut reader = Reader::new(tar.as_slice(), Count(0));
    let (mut taken, mut n) = (0u64, 0u32);
    loop {
        match reader.entry() {
            Ok(Some(entry)) => {
                n += 1;
                assert!(entry.name.len() + entry.link.len() <= 2 << 20);
                if let Some(sparse) = &entry.sparse {
                    assert!(
                        sparse.pieces.iter().map(|p| p.1).sum::<u64>() == entry.size
                            && entry.length() <= i64::MAX as u64
                    );
                }
                if n.is_multiple_of(2) {
                    match reader.payload_to_vec(1 << 20) {
                        Ok(bytes) => taken += bytes.len() as u64,
                        Err(_) => return,
                    }
                }
                let _ = coracle::storage::apply::clean(&entry.name, Default::default());
                let _ = coracle::storage::tar::write::header(&entry);
            }
            Ok(None) => break,
            Err(_) => return,
        }
    }
    if reader.finish().is_ok() {
        assert_eq!(reader.capture.0 + taken, tar.len() as u64);
    }
});
