//! A client's WebSocket frames: the same in whatever pieces they come.

#![no_main]

use coracle::server::websocket::{Reader, Told};
use coracle_fuzz::Dice;
use libfuzzer_sys::fuzz_target;

fn run(data: &[u8], mut size: impl FnMut() -> usize) -> (Vec<u8>, Vec<Told>, bool) {
    let (mut reader, mut out, mut told, mut rest) = (Reader::default(), Vec::new(), Vec::new(), data);
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(size().clamp(1, rest.len()));
        rest = after;
        while !piece.is_empty() {
            match reader.feed(piece, &mut out) {
                Ok((used, what)) => {
                    assert!(used > 0 && used <= piece.len());
                    told.extend(what);
                    piece = &piece[used..];
                }
                Err(_) => return (out, told, false),
            }
        }
    }
    (out, told, true)
}

fuzz_target!(|data: &[u8]| {
    let mut dice = Dice::new(data);
    let whole = run(data, || data.len());
    assert!(whole.0.len() <= data.len());
    assert_eq!(whole, run(data, || 1 + dice.roll(40)));
});
