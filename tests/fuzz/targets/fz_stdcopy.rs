//! The client's demultiplexer: the same output in whatever pieces frames come.

#![no_main]

use coracle::util::frames::Demux;
use coracle_fuzz::Dice;
use libfuzzer_sys::fuzz_target;

fn run(data: &[u8], mut size: impl FnMut() -> usize) -> (Vec<(u8, u8)>, Option<String>) {
    let (mut demux, mut out, mut rest) = (Demux::default(), Vec::new(), data);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(size().clamp(1, rest.len()));
        rest = after;
        let result = demux.feed(piece, &mut |stream, bytes| {
            out.extend(bytes.iter().map(|b| (stream, *b)));
            Ok(())
        });
        if let Err(e) = result {
            return (out, Some(e.to_string()));
        }
    }
    (out, None)
}

fuzz_target!(|data: &[u8]| {
    let mut dice = Dice::new(data);
    let (whole, trouble) = run(data, || data.len());
    let (pieces, other) = run(data, || 1 + dice.roll(40));
    assert_eq!(whole, pieces);
    assert_eq!(trouble.is_some(), other.is_some());
});
