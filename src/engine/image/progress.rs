//! Docker's JSON progress lines (pull, push), byte for byte as 28.5 writes
//! them. Runs on the request's thread, which alone writes to the client.

use crate::error::{Error, Result};
use crate::util::units::human_size;
use serde_json::{Value, json};
use std::io::Write;

/// One JSON object per line, flushed; a client that is gone ends the work.
pub struct Lines<'a> {
    out: &'a mut dyn Write,
    /// Something went out: errors must follow in-band.
    started: bool,
}

impl<'a> Lines<'a> {
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, started: false }
    }

    pub fn started(&self) -> bool {
        self.started
    }

    fn raw(&mut self, body: &str) -> Result<()> {
        self.started = true;
        // Go escapes these for HTML; outside of strings JSON has none of them.
        let line = body.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026") + "\r\n";
        self.out.write_all(line.as_bytes()).and_then(|()| self.out.flush()).map_err(|_| Error::cancelled())
    }

    /// Text for the terminal as it is.
    pub fn stream(&mut self, text: &str) -> Result<()> {
        self.raw(&format!("{{\"stream\":{}}}", json!(text)))
    }

    pub fn status(&mut self, text: &str) -> Result<()> {
        self.raw(&format!("{{\"status\":{}}}", json!(text)))
    }

    pub fn status_of(&mut self, id: &str, text: &str) -> Result<()> {
        self.raw(&format!("{{\"status\":{},\"id\":{}}}", json!(text), json!(id)))
    }

    /// A step of a layer without numbers.
    pub fn step(&mut self, id: &str, action: &str) -> Result<()> {
        self.raw(&format!("{{\"status\":{},\"progressDetail\":{{}},\"id\":{}}}", json!(action), json!(id)))
    }

    /// A step with bytes; `total` 0 is unknown.
    pub fn bytes(&mut self, id: &str, action: &str, current: u64, total: u64) -> Result<()> {
        let detail = if total > 0 {
            format!("{{\"current\":{current},\"total\":{total}}}")
        } else {
            format!("{{\"current\":{current}}}")
        };
        let (action, id, bar) = (json!(action), json!(id), json!(bar(current, total)));
        self.raw(&format!("{{\"status\":{action},\"progressDetail\":{detail},\"progress\":{bar},\"id\":{id}}}"))
    }

    pub fn aux(&mut self, value: &Value) -> Result<()> {
        self.raw(&format!("{{\"progressDetail\":{{}},\"aux\":{value}}}"))
    }

    pub fn error(&mut self, message: &str) -> Result<()> {
        let message = json!(message);
        self.raw(&format!("{{\"errorDetail\":{{\"message\":{message}}},\"error\":{message}}}"))
    }
}

/// `[=====>      ]  65.12kB/3.394MB`
fn bar(current: u64, total: u64) -> String {
    let done = human_size(current);
    if total == 0 || current > total {
        let full = if total == 0 { String::new() } else { format!("[{}>] ", "=".repeat(50)) };
        return format!("{full}{done:>8}");
    }
    let filled = (current as f64 / total as f64 * 100.0) as usize / 2;
    format!("[{}>{}] {done:>8}/{}", "=".repeat(filled), " ".repeat(50 - filled), human_size(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(f: impl FnOnce(&mut Lines<'_>)) -> String {
        let mut out = Vec::new();
        f(&mut Lines::new(&mut out));
        String::from_utf8(out).unwrap()
    }

    /// Recorded from 28.5.2.
    #[test]
    fn as_the_original() {
        let got = lines(|l| {
            l.status_of("latest", "Pulling from big").unwrap();
            l.step("7e3b8812588a", "Pulling fs layer").unwrap();
            l.bytes("3a6e4bfbc910", "Downloading", 65_117, 3_394_318).unwrap();
            l.bytes("f794a1c60e7e", "Downloading", 8_716_288, 43_030_097).unwrap();
            l.bytes("7e3b8812588a", "Downloading", 4_259_840, 31_163_691).unwrap();
            l.bytes("70166358a6e3", "Pushing", 2_027_520, 1_982_715).unwrap();
            l.error("no basic auth credentials").unwrap();
        });
        let want = [
            r#"{"status":"Pulling from big","id":"latest"}"#,
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"7e3b8812588a"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":65117,"total":3394318},"progress":"[\u003e                                                  ]  65.12kB/3.394MB","id":"3a6e4bfbc910"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":8716288,"total":43030097},"progress":"[==========\u003e                                        ]  8.716MB/43.03MB","id":"f794a1c60e7e"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":4259840,"total":31163691},"progress":"[======\u003e                                            ]   4.26MB/31.16MB","id":"7e3b8812588a"}"#,
            r#"{"status":"Pushing","progressDetail":{"current":2027520,"total":1982715},"progress":"[==================================================\u003e]  2.028MB","id":"70166358a6e3"}"#,
            r#"{"errorDetail":{"message":"no basic auth credentials"},"error":"no basic auth credentials"}"#,
        ];
        assert_eq!(got, want.map(|l| format!("{l}\r\n")).concat());
    }
}
