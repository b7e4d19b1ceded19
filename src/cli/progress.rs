//! The stream of messages that pull, push, load, import and build answer with:
//! one line per layer that is redrawn on a terminal, plain lines else.

use crate::util::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

use serde::Deserialize;

use crate::cli::context::{Context, Stream};
use crate::cli::format::human;
use crate::cli::printable::plain;
use crate::error::{Error, Kind, Result};
use crate::util::time;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Message {
    pub stream: String,
    pub status: String,
    pub id: String,
    pub from: String,
    pub error: String,
    #[serde(rename = "errorDetail")]
    pub error_detail: Option<Detail>,
    #[serde(rename = "progressDetail")]
    pub progress: Option<Progress>,
    /// The daemon's own drawing, from old ones.
    #[serde(rename = "progress")]
    pub drawn: String,
    pub aux: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Detail {
    pub code: i64,
    pub message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Progress {
    pub current: i64,
    pub total: i64,
    /// Unix seconds.
    pub start: i64,
    #[serde(rename = "hidecounts")]
    pub hide_counts: bool,
    pub units: String,
}

/// Shows the stream to its end. An error in it ends the command with its text.
pub fn show(cx: &mut Context, answer: impl Read) -> Result<()> {
    each(cx, answer, |_, _| Ok(()))
}

/// The same, and `aux` gets the messages that are meant for programs.
pub fn each(
    cx: &mut Context,
    answer: impl Read,
    mut aux: impl FnMut(&mut Context, &serde_json::Value) -> Result<()>,
) -> Result<()> {
    let mut screen = Screen { terminal: cx.out.is_terminal(), width: width(&cx.out), ids: Vec::new() };
    for message in messages(answer) {
        let message = message?;
        if let Some(value) = &message.aux {
            aux(cx, value)?;
            continue;
        }
        if let Some(text) = failure(&message) {
            return Err(text);
        }
        screen.draw(&mut cx.out, &message)?;
    }
    Ok(())
}

/// The same on another stream: the pull inside of `docker run` goes to stderr.
pub fn show_on(out: &mut Stream, answer: impl Read) -> Result<()> {
    let mut screen = Screen { terminal: out.is_terminal(), width: width(out), ids: Vec::new() };
    for message in messages(answer) {
        let message = message?;
        if let Some(error) = failure(&message) {
            return Err(error);
        }
        if message.aux.is_none() {
            screen.draw(out, &message)?;
        }
    }
    Ok(())
}

/// Reads the stream for its error alone.
pub fn discard(answer: impl Read) -> Result<()> {
    for message in messages(answer) {
        if let Some(error) = failure(&message?) {
            return Err(error);
        }
    }
    Ok(())
}

/// The messages one by one, as they arrive.
pub fn messages(answer: impl Read) -> impl Iterator<Item = Result<Message>> {
    let mut lines = BufReader::with_capacity(16 * 1024, answer);
    std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            return match lines.read_until(b'\n', &mut line) {
                Ok(0) => None,
                Ok(_) if line.trim_ascii().is_empty() => continue,
                Ok(_) => Some(
                    json::from_slice(&line).map_err(|e| Error::system(format!("unexpected answer of the daemon: {e}"))),
                ),
                Err(e) => Some(Err(e.into())),
            };
        }
    })
}

/// What the daemon says went wrong.
pub fn failure(message: &Message) -> Option<Error> {
    let text = match &message.error_detail {
        Some(detail) if detail.code == 401 => "authentication is required",
        Some(detail) => detail.message.as_str(),
        None if message.error.is_empty() => return None,
        None => message.error.as_str(),
    };
    Some(Error::new(Kind::System, text))
}

/// Columns of the terminal behind a stream.
pub fn width(stream: &Stream) -> usize {
    crate::cli::context::columns(stream).unwrap_or(200)
}

struct Screen {
    terminal: bool,
    width: usize,
    /// Who has the lines that are redrawn, from the top.
    ids: Vec<String>,
}

impl Screen {
    fn draw(&mut self, out: &mut Stream, message: &Message) -> Result<()> {
        // It goes past the stream's own sieve.
        let clean = |text: &str| if self.terminal { plain(text) } else { text.to_owned() };
        let drawn = match &message.progress {
            Some(progress) => progress.draw(self.width, time::now().secs()),
            None => String::new(),
        };
        if !self.terminal && !drawn.is_empty() {
            return Ok(());
        }
        let moving =
            self.terminal && !message.id.is_empty() && (message.progress.is_some() || !message.drawn.is_empty());
        let mut up = 0;
        let mut text = String::new();
        if moving {
            match self.ids.iter().position(|id| *id == message.id) {
                Some(line) => up = self.ids.len() - line,
                None => {
                    self.ids.push(message.id.clone());
                    text.push('\n');
                    up = 1;
                }
            }
            text.push_str(&format!("\x1b[{up}A\x1b[2K\r"));
        } else if self.terminal && message.stream.is_empty() && drawn.is_empty() {
            // A line of its own: what comes later is drawn below it.
            self.ids.clear();
        }
        if !message.id.is_empty() {
            text.push_str(&format!("{}: ", clean(&message.id)));
        }
        if !message.from.is_empty() {
            text.push_str(&format!("(from {}) ", clean(&message.from)));
        }
        let end = if moving { "\r" } else { "\n" };
        if !drawn.is_empty() {
            text.push_str(&format!("{} {drawn}\r", clean(&message.status)));
        } else if !message.stream.is_empty() {
            text.push_str(&clean(&message.stream));
            if moving {
                text.push('\r');
            }
        } else {
            text.push_str(&clean(&message.status));
            text.push_str(end);
        }
        if moving {
            text.push_str(&format!("\x1b[{up}B"));
        }
        out.raw().write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }
}

impl Progress {
    /// `[====>    ]  1.2MB/3MB 4s`, nothing when nothing is known.
    fn draw(&self, width: usize, now: i64) -> String {
        if self.current <= 0 && self.total <= 0 {
            return String::new();
        }
        let counted = |n: i64| match self.units.as_str() {
            "" => human::size(n as f64),
            units => format!("{n} {units}"),
        };
        let current = counted(self.current);
        if self.total <= 0 {
            return format!("{current:>8}");
        }
        let half = ((self.current as f64 / self.total as f64 * 100.0) as usize / 2).min(50);
        let mut text = String::new();
        if width > 110 {
            text = format!("[{}>{}] ", "=".repeat(half), " ".repeat(50 - half));
        }
        if !self.hide_counts {
            text.push_str(&format!("{current:>8}"));
            if self.current <= self.total {
                text.push_str(&format!("/{}", counted(self.total)));
            }
        }
        let elapsed = now - self.start;
        if self.current > 0 && self.start > 0 && half < 50 && width > 50 && elapsed > 0 {
            let left = elapsed as f64 / self.current as f64 * (self.total - self.current).max(0) as f64;
            text.push_str(&format!(" {}", crate::util::units::duration(Duration::from_secs(left as u64))));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        let p = Progress { current: 50, total: 100, ..Progress::default() };
        assert_eq!(p.draw(200, 0), format!("[{}>{}]      50B/100B", "=".repeat(25), " ".repeat(25)));
        assert_eq!(p.draw(80, 0), "     50B/100B");
        let p = Progress { current: 20, total: 40, start: 100, units: "x".into(), ..Progress::default() };
        assert_eq!(p.draw(80, 110), "    20 x/40 x 10s");
        assert_eq!(Progress::default().draw(80, 0), "");
    }

    #[test]
    fn stream_of_messages() {
        let text = b"{\"stream\":\"a\\n\"}\n\n{\"errorDetail\":{\"message\":\"m\"},\"error\":\"m\"}\n";
        let all: Vec<Message> = messages(&text[..]).map(|m| m.unwrap()).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(failure(&all[1]).unwrap().message(), "m");
        assert!(failure(&all[0]).is_none());
    }
}
