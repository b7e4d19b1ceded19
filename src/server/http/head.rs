//! Request heads: bytes → method, target, headers, body framing. Pure.

use super::{MAX_HEAD, MAX_HEADERS};

/// How the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub method: String,
    /// Path and query as sent, absolute form stripped.
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub framing: Framing,
    pub keep_alive: bool,
    pub expect_continue: bool,
    /// HTTP/1.0 gets no chunks.
    pub http10: bool,
}

/// Why a head was refused: the status line and text that Go's server gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub text: &'static str,
}

const fn refuse<T>(status: u16, text: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, text })
}

pub(super) const BAD: Refusal = Refusal { status: 400, text: "400 Bad Request" };

/// `None` while the head is incomplete; else the head and its length in bytes.
pub fn parse(buffer: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    // A line feed alone ends a line for some parsers and not for others: that
    // disagreement is what smuggling lives on.
    let mut end = None;
    for (i, _) in buffer.iter().enumerate().filter(|(_, b)| **b == b'\n').take(MAX_HEADERS + 8) {
        if i == 0 || buffer[i - 1] != b'\r' {
            return Err(BAD);
        }
        if i >= 3 && buffer[i - 2] == b'\n' {
            end = Some(i + 1);
            break;
        }
    }
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut slots);
    let length = match request.parse(&buffer[..end.unwrap_or(buffer.len())]) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) if buffer.len() >= MAX_HEAD => {
            return refuse(431, "431 Request Header Fields Too Large");
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return refuse(431, "431 Request Header Fields Too Large"),
        Err(httparse::Error::Version) => {
            return refuse(505, "505 HTTP Version Not Supported: unsupported protocol version");
        }
        Err(_) => return Err(BAD),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(BAD);
    };
    let http10 = minor == 0;
    let headers: Vec<(String, Vec<u8>)> =
        request.headers.iter().map(|h| (h.name.to_owned(), h.value.to_vec())).collect();
    let all = |name: &str| -> Vec<&[u8]> {
        headers.iter().filter(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_slice()).collect()
    };
    match all("host").len() {
        0 if !http10 => return refuse(400, "400 Bad Request: missing required Host header"),
        0 | 1 => {}
        _ => return refuse(400, "400 Bad Request: too many Host headers"),
    }
    let framing = framing(&all("transfer-encoding"), &all("content-length"), http10)?;
    let expect_continue = match all("expect").as_slice() {
        [] => false,
        [v] if v.eq_ignore_ascii_case(b"100-continue") => !http10,
        _ => return refuse(417, "417 Expectation Failed"),
    };
    let tokens = all("connection");
    let has = |token: &str| {
        tokens.iter().any(|v| v.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes())))
    };
    let keep_alive = if http10 { has("keep-alive") } else { !has("close") };
    let target = origin_form(target).to_owned();
    let method = method.to_owned();
    Ok(Some((Head { method, target, headers, framing, keep_alive, expect_continue, http10 }, length)))
}

fn framing(encodings: &[&[u8]], lengths: &[&[u8]], http10: bool) -> Result<Framing, Refusal> {
    match (encodings, lengths) {
        ([], []) => Ok(Framing::None),
        ([], [length]) => {
            if length.is_empty() || length.len() > 18 || !length.iter().all(u8::is_ascii_digit) {
                return Err(BAD);
            }
            Ok(Framing::Length(length.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'))))
        }
        ([], _) => Err(BAD),
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") && !http10 => Ok(Framing::Chunked),
        ([_], []) if !http10 => refuse(501, "Unsupported transfer encoding"),
        _ => Err(BAD),
    }
}

/// Clients behind proxies send `http://host/path`.
fn origin_form(target: &str) -> &str {
    let Some(rest) = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) else {
        return target;
    };
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

/// `%41` → `A`; with `plus`, `+` → space as in queries. Broken escapes are `None`.
pub fn percent_decode(text: &str, plus: bool) -> Option<String> {
    let plain = |c: char| c != '%' && !(plus && c == '+');
    if text.chars().all(plain) {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'%' => {
                let digits = text.get(i + 1..i + 3)?;
                if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                out.push(u8::from_str_radix(digits, 16).ok()?);
                i += 3;
                continue;
            }
            b'+' if plus => out.push(b' '),
            b => out.push(b),
        }
        i += 1;
    }
    String::from_utf8(out).ok()
}

/// The pairs of a query; pairs that do not decode are dropped, as Go drops them.
pub fn query(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((percent_decode(key, true)?, percent_decode(value, true)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Option<(Head, usize)>, Refusal> {
        parse(text.as_bytes())
    }
    fn status(text: &str) -> u16 {
        one(text).unwrap_err().status
    }

    #[test]
    fn a_head_is_taken_apart() {
        let text =
            "POST /v1.51/x?a=b HTTP/1.1\r\nHost: docker\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\nabcGET";
        let (head, length) = one(text).unwrap().unwrap();
        assert_eq!(&text[length..], "abcGET");
        assert_eq!((head.method.as_str(), head.target.as_str()), ("POST", "/v1.51/x?a=b"));
        assert_eq!((head.framing, head.keep_alive, head.expect_continue), (Framing::Length(3), true, true));
        let (head, _) = one("GET http://h/x HTTP/1.1\r\nHost: h\r\nConnection: a, Close\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.target.as_str(), head.keep_alive), ("/x", false));
        let (head, _) = one("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert!(head.http10 && !head.keep_alive);
    }

    #[test]
    fn every_prefix_is_incomplete_and_never_refused() {
        let text = "GET /_ping HTTP/1.1\r\nHost: docker\r\nTransfer-Encoding: chunked\r\n\r\n";
        for n in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..n]), Ok(None), "{n}");
        }
    }

    #[test]
    fn smuggling_shapes_are_refused() {
        let with = |headers: &str| status(&format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n"));
        for bad in [
            "Content-Length: 3\r\nContent-Length: 3",
            "Content-Length: 3, 3",
            "Content-Length: +3",
            "Content-Length: -1",
            "Content-Length: 0x3",
            "Content-Length:",
            "Content-Length: 9223372036854775808",
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Content-Length : 3",
            "X: a\r\n folded",
            "X: a\nContent-Length: 3",
            "X: a\0b",
            ": empty",
            "Host: y",
        ] {
            assert_eq!(with(bad), 400, "{bad:?}");
        }
        for coding in ["gzip", "chunked, gzip", "gzip, chunked", "identity", "\x0bchunked"] {
            assert!(matches!(with(&format!("Transfer-Encoding: {coding}")), 400 | 501), "{coding}");
        }
        assert_eq!(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/2.0\r\nHost: x\r\n\r\n"), 505);
        assert_eq!(status("\x16\x03\x01\x02\0\x01\0\x01\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n"), 417);
    }

    #[test]
    fn endless_heads_are_refused() {
        let line = format!("GET /{} HTTP/1.1\r\n", "a".repeat(MAX_HEAD));
        assert_eq!(status(&line), 431);
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(status(&many), 431);
    }

    /// No input may panic: cheap stand-in for the fuzzers, run on every build.
    #[test]
    fn garbage_never_panics() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let seed =
            b"POST /v1.51/containers/create?name=a%20b HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{\"Image\":1}";
        for _ in 0..20_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..4 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 20) as u8;
            }
            if let Ok(Some((head, n))) = parse(&bytes) {
                assert!(n <= bytes.len());
                query(&head.target);
                percent_decode(&head.target, false);
            }
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(percent_decode("a%2Fb+c", true).as_deref(), Some("a/b c"));
        assert_eq!(percent_decode("a+b", false).as_deref(), Some("a+b"));
        for bad in ["%", "%2", "%zz", "%+1", "%ff", "%é1"] {
            assert_eq!(percent_decode(bad, true), None, "{bad}");
        }
        assert_eq!(query("a=1&b&&c=%zz&a=2").len(), 3);
    }
}
