//! Finding the detach keys in what a terminal's user types. Pure.

/// Holds back what may be the beginning of the sequence until it is decided.
#[derive(Debug, Default)]
pub struct Scanner {
    keys: Vec<u8>,
    matched: usize,
}

impl Scanner {
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Appends to `out` what is input; true when the sequence is complete (what
    /// follows it is dropped).
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            out.extend_from_slice(input);
            return false;
        }
        for b in input {
            if self.keys[self.matched] == *b {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return true;
                }
                continue;
            }
            // Not it: what was held back is input; the byte may begin anew.
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if self.keys[0] == *b {
                self.matched = 1;
            } else {
                out.push(*b);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        let run = |chunks: &[&[u8]]| {
            let mut scanner = Scanner::new(vec![16, 17]);
            let mut out = Vec::new();
            let found = chunks.iter().any(|c| scanner.feed(c, &mut out));
            (out, found)
        };
        assert_eq!(run(&[b"ab\x10\x11c"]), (b"ab".to_vec(), true));
        assert_eq!(run(&[b"\x10", b"\x11"]), (b"".to_vec(), true));
        assert_eq!(run(&[b"\x10", b"x"]), (b"\x10x".to_vec(), false));
        assert_eq!(run(&[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(run(&[b"\x11\x10"]), (b"\x11".to_vec(), false));
    }
}
