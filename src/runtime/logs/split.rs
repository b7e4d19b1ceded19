//! A byte stream cut into lines of at most 16 KiB, as Docker's copier does it:
//! longer lines become parts that share an id and a time. Pure but for the clock.

use crate::util::{id, time::Timestamp};

/// Docker's buffer size; part of the format, since parts end here.
const MAX_LINE: usize = 16 * 1024;

/// Membership of a piece in a line that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub id: String,
    /// From 1.
    pub ordinal: i32,
    pub last: bool,
}

#[derive(Debug)]
pub struct Piece<'a> {
    /// Without the newline.
    pub line: &'a [u8],
    pub time: Timestamp,
    pub part: Option<Part>,
}

impl Piece<'_> {
    /// Whether a newline ended it.
    pub fn complete(&self) -> bool {
        self.part.as_ref().is_none_or(|p| p.last)
    }
}

#[derive(Debug, Default)]
pub struct Splitter {
    carry: Vec<u8>,
    cut: Option<(String, i32, Timestamp)>,
}

impl Splitter {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn feed(&mut self, mut data: &[u8], mut emit: impl FnMut(Piece<'_>)) {
        while !data.is_empty() {
            let room = MAX_LINE - self.carry.len();
            let window = &data[..data.len().min(room)];
            match window.iter().position(|b| *b == b'\n') {
                Some(end) => {
                    let (line, rest) = (&data[..end], &data[end + 1..]);
                    if self.carry.is_empty() {
                        self.complete(line, &mut emit);
                    } else {
                        let mut whole = std::mem::take(&mut self.carry);
                        whole.extend_from_slice(line);
                        self.complete(&whole, &mut emit);
                    }
                    data = rest;
                }
                None => {
                    self.carry.extend_from_slice(window);
                    data = &data[window.len()..];
                    if self.carry.len() == MAX_LINE {
                        self.partial(&mut emit);
                    }
                }
            }
        }
    }

    pub fn finish(&mut self, mut emit: impl FnMut(Piece<'_>)) {
        if !self.carry.is_empty() {
            self.partial(&mut emit);
        }
    }

    fn complete(&mut self, line: &[u8], emit: &mut impl FnMut(Piece<'_>)) {
        let (time, part) = match self.cut.take() {
            Some((id, ordinal, time)) => (time, Some(Part { id, ordinal: ordinal + 1, last: true })),
            None => (super::now(), None),
        };
        emit(Piece { line, time, part });
    }

    fn partial(&mut self, emit: &mut impl FnMut(Piece<'_>)) {
        let line = std::mem::take(&mut self.carry);
        let (id, ordinal, time) = self.cut.take().unwrap_or_else(|| (id::random(), 0, super::now()));
        let part = Some(Part { id: id.clone(), ordinal: ordinal + 1, last: false });
        self.cut = Some((id, ordinal + 1, time));
        emit(Piece { line: &line, time, part });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(chunks: &[&[u8]]) -> Vec<(Vec<u8>, Option<(i32, bool)>)> {
        let mut splitter = Splitter::new();
        let mut out = Vec::new();
        let mut keep = |p: Piece<'_>| out.push((p.line.to_vec(), p.part.map(|p| (p.ordinal, p.last))));
        for chunk in chunks {
            splitter.feed(chunk, &mut keep);
        }
        splitter.finish(&mut keep);
        out
    }

    #[test]
    fn lines_and_leftovers() {
        let out = run(&[b"a\nb", b"c\n\nd"]);
        assert_eq!(
            out,
            [(b"a".to_vec(), None), (b"bc".to_vec(), None), (b"".to_vec(), None), (b"d".to_vec(), Some((1, false)))]
        );
    }

    #[test]
    fn long_lines_become_parts() {
        let long = vec![b'x'; 2 * MAX_LINE + 5];
        let out = run(&[&long[..100], &long[100..], b"\ny\n"]);
        let shape: Vec<_> = out.iter().map(|(l, p)| (l.len(), *p)).collect();
        assert_eq!(
            shape,
            [(MAX_LINE, Some((1, false))), (MAX_LINE, Some((2, false))), (5, Some((3, true))), (1, None)]
        );
    }
}
