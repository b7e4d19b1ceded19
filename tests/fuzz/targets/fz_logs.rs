//! Log files in both formats, and what the shim writes into them.

#![no_main]

use coracle::engine::logs::decode::{Next, next};
use coracle::engine::logs::{Format, Stream};
use coracle::runtime::logs::split::Splitter;
use coracle::runtime::logs::{json_file, local};
use libfuzzer_sys::fuzz_target;

fn read(format: Format, mut data: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    loop {
        match next(format, data) {
            Next::Entry(entry, used) => {
                assert!(used > 0 && used <= data.len());
                text.extend(entry.line);
                data = &data[used..];
            }
            Next::Skip(used) => {
                assert!(used > 0 && used <= data.len());
                data = &data[used..];
            }
            Next::Incomplete => return text,
        }
    }
}

fuzz_target!(|data: &[u8]| {
    read(Format::JsonFile, data);
    read(Format::Local, data);
    // What a container says comes back as it was said.
    let (mut splitter, mut file, mut binary) = (Splitter::new(), Vec::new(), Vec::new());
    let mut emit = |piece: coracle::runtime::logs::split::Piece<'_>| {
        json_file::encode(&mut file, Stream::Stdout, &piece, "");
        local::encode(&mut binary, Stream::Stderr, &piece);
    };
    splitter.feed(data, &mut emit);
    splitter.finish(&mut emit);
    assert_eq!(read(Format::Local, &binary), data);
    if std::str::from_utf8(data).is_ok() && data.len() < 16 << 10 {
        assert_eq!(read(Format::JsonFile, &file), data);
    }
});
