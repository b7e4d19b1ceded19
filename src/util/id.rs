//! Random identifiers: 64 lower-case hex digits, as containers, execs and
//! networks have them. Any thread.

/// 64 hex digits from the kernel's random source. Like Docker's, never made of
/// digits alone in its first twelve: such a short id would read as a number.
pub fn random() -> String {
    loop {
        let mut bytes = [0u8; 32];
        fill(&mut bytes);
        let id = hex(&bytes);
        if !id.as_bytes()[..12].iter().all(u8::is_ascii_digit) {
            return id;
        }
    }
}

/// Fills `bytes` from getrandom(2).
pub fn fill(bytes: &mut [u8]) {
    use ring::rand::SecureRandom;
    // getrandom(2) fails only on kernels before 3.17, which we cannot run on.
    ring::rand::SystemRandom::new().fill(bytes).expect("getrandom(2) works on every kernel with user namespaces");
}

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

/// The twelve digits that people see.
pub fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}
