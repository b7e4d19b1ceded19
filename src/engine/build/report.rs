//! What a build tells its client: the classic lines, or what happened to which
//! step. Stages report from their own threads; the request's thread writes.

use super::language::check::Warning;
use super::language::parser::Node;
use crate::api::build::{Finding, Message, Step};
use crate::error::{Error, Result};
use crate::util::json;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

pub struct Report {
    sender: Sender<Message>,
    structured: bool,
    quiet: bool,
    numbers: AtomicUsize,
}

/// A step that has begun.
pub struct Progress<'a> {
    report: &'a Report,
    number: usize,
    began: Instant,
    /// The classic client hears nothing of it.
    silent: bool,
    was_cached: Cell<bool>,
}

impl Report {
    pub fn new(sender: Sender<Message>, structured: bool, quiet: bool) -> Self {
        Self { sender, structured, quiet, numbers: AtomicUsize::new(0) }
    }

    pub fn structured(&self) -> bool {
        self.structured
    }

    /// Nobody hears the rest of a build whose client is gone.
    fn send(&self, message: Message) {
        let _ = self.sender.send(message);
    }

    /// A line for both kinds of clients.
    pub fn say(&self, text: impl Into<String>) {
        if !self.quiet {
            self.send(Message { stream: Some(text.into()), ..Message::default() });
        }
    }

    /// A line that only the classic client is used to.
    pub fn classic(&self, text: impl Into<String>) {
        if !self.structured {
            self.say(text);
        }
    }

    pub fn metadata(&self, metadata: &serde_json::Value) {
        if self.structured {
            self.send(Message { aux: Some(serde_json::json!({ "metadata": metadata })), ..Message::default() });
        }
    }

    /// The classic client has no place for them.
    pub fn warnings(&self, warnings: &BTreeSet<Warning>) {
        if self.structured && !self.quiet {
            let all: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            self.send(Message { aux: Some(serde_json::json!({ "warnings": all })), ..Message::default() });
        }
    }

    /// The answer to `--check`; `strict`: a finding is an error.
    pub fn findings(&self, all: Vec<Finding>, strict: bool) {
        self.send(Message { aux: Some(serde_json::json!({ "checked": all, "strict": strict })), ..Message::default() });
    }

    /// The answer to another `--call`.
    pub fn answer(&self, call: &str, answer: &impl serde::Serialize) -> Result<()> {
        // As text: a JSON value would put its fields in another order.
        let aux = Some(serde_json::json!({ call: json::to_string(answer)? }));
        self.send(Message { aux, ..Message::default() });
        Ok(())
    }

    /// The image's id goes out even when nothing else does.
    pub fn result(&self, id: &str) {
        self.send(Message { aux: Some(serde_json::json!({ "ID": id })), ..Message::default() });
        if self.quiet {
            self.send(Message { stream: Some(format!("{id}\n")), ..Message::default() });
        }
    }

    /// A step that no line of the Dockerfile stands for.
    pub fn phase(&self, text: &str) -> Progress<'_> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let progress =
            Progress { report: self, number, began: Instant::now(), silent: true, was_cached: Cell::new(false) };
        progress.step(Step { name: text.to_owned(), ..Step::default() });
        progress
    }

    /// `place` is what stands in brackets: `build 2/5`.
    pub fn begin(&self, place: &str, position: (usize, usize), text: &str) -> Progress<'_> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        self.classic(format!("Step {}/{} : {text}", position.0, position.1));
        // A message of its own, as the original's: who compares lines has them so.
        self.classic("\n");
        let progress =
            Progress { report: self, number, began: Instant::now(), silent: false, was_cached: Cell::new(false) };
        progress.step(Step { name: format!("[{place}] {text}"), ..Step::default() });
        progress
    }
}

impl Progress<'_> {
    fn step(&self, step: Step) {
        if self.report.structured && !self.report.quiet {
            let step = Step { number: self.number, ..step };
            self.report.send(Message { step: Some(step), ..Message::default() });
        }
    }

    /// Output of the step.
    pub fn log(&self, text: String) {
        if self.report.structured {
            self.step(Step { log: Some(text), ..Step::default() });
        } else {
            self.report.classic(text);
        }
    }

    /// What the step's command printed; errors are red to the classic client, which
    /// gets both in one stream.
    pub fn output(&self, bytes: Vec<u8>, errors: bool) {
        let text = String::from_utf8_lossy(&bytes);
        match errors && !self.report.structured {
            _ if text.is_empty() => {}
            true => self.log(format!("\x1b[91m{text}\x1b[0m")),
            false => self.log(text.into_owned()),
        }
    }

    pub fn classic(&self, text: impl Into<String>) {
        self.report.classic(text);
    }

    pub fn cached(&self) {
        self.report.classic(" ---> Using cache\n");
        self.was_cached.set(true);
        self.step(Step { cached: true, ..Step::default() });
    }

    pub fn done(&self, id: &str) {
        if !self.silent {
            self.report.classic(format!(" ---> {id}\n"));
        }
        if self.was_cached.get() {
            return;
        }
        let took = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.step(Step { done: Some(took), ..Step::default() });
    }

    pub fn failed(&self, error: &Error) {
        self.step(Step { error: Some(error.message().to_owned()), ..Step::default() });
    }
}

/// An instruction as it is shown: one line, without the bodies of heredocs.
pub fn shown(node: &Node) -> String {
    let words = std::iter::once(&node.keyword).chain(&node.flags).chain(std::iter::once(&node.args));
    let words: Vec<&str> = words.map(String::as_str).filter(|w| !w.is_empty()).collect();
    words.join(" ").replace('\n', " ")
}
