//! What `docker build` shows while the daemon works: the classic lines, numbered
//! steps in a pipe, or a live picture on a terminal.

use super::session::Session;
use crate::api::build::{Finding, Message, Step};
use crate::cli::context::{Context, Stream};
use crate::cli::printable::harmless;
use crate::client::http::Reply;
use crate::error::{Error, Kind, Result};
use crate::util::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Quiet,
    Plain,
    Terminal,
    Json,
}

#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// `sha256:…`
    pub(super) id: String,
    pub(super) metadata: BTreeMap<String, serde_json::Value>,
    /// The answer to `--check`, and whether a finding is an error.
    pub(super) findings: Option<(Vec<Finding>, bool)>,
    /// Another `--call`, and the JSON text of its answer.
    pub(super) answer: Option<(&'static str, String)>,
}

/// How often the picture's times move on.
const TICK: Duration = Duration::from_millis(100);

/// Reads the answer to its end.
pub(super) fn show(cx: &mut Context, reply: Reply, mode: Mode, session: &mut Session) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut steps = Steps { started: Instant::now(), shown: 0, all: BTreeMap::new() };
    if mode != Mode::Terminal {
        for line in BufReader::new(reply).lines() {
            take(cx, &line?, mode, session, &mut steps, &mut outcome)?;
        }
        return Ok(outcome);
    }
    // Beside the reader, so that times run while no step says anything.
    let (sender, lines) = sync_channel(64);
    std::thread::spawn(move || BufReader::new(reply).lines().try_for_each(|line| sender.send(line).ok()));
    let mut drawn = Instant::now();
    loop {
        match lines.recv_timeout(TICK) {
            Ok(line) => take(cx, &line?, mode, session, &mut steps, &mut outcome)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if !steps.all.is_empty() && drawn.elapsed() >= TICK / 2 {
            steps.draw(cx, false)?;
            drawn = Instant::now();
        }
    }
    steps.draw(cx, true)?;
    Ok(outcome)
}

/// One line of the answer.
fn take(
    cx: &mut Context,
    line: &str,
    mode: Mode,
    session: &mut Session,
    steps: &mut Steps,
    outcome: &mut Outcome,
) -> Result<()> {
    if line.trim().is_empty() {
        return Ok(());
    }
    if mode == Mode::Json {
        writeln!(cx.err, "{}", line.trim_end())?;
    }
    let message: Message =
        json::from_str(line).map_err(|e| Error::system(format!("unexpected answer of the daemon: {e}")))?;
    if let Some(aux) = &message.aux {
        note(outcome, aux);
        if aux["attach"] == true {
            session.begin();
        }
        let warnings = aux["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !warnings.is_empty() && matches!(mode, Mode::Plain | Mode::Terminal) {
            steps.settle(cx, mode)?;
            let many = if warnings.len() == 1 { "warning" } else { "warnings" };
            writeln!(cx.err, "\n {} {many} found:", warnings.len())?;
            for warning in warnings.iter().filter_map(|w| w.as_str()) {
                writeln!(cx.err, " - {warning}")?;
            }
            writeln!(cx.err)?;
        }
    }
    if let Some(error) = &message.error {
        if mode == Mode::Terminal {
            steps.draw(cx, true)?;
        }
        // The step's own output has been shown above it.
        return Err(Error::new(Kind::System, error.clone()));
    }
    match (mode, message.step, message.stream) {
        (Mode::Quiet | Mode::Json, _, _) => {}
        (Mode::Plain, Some(step), _) => plain(cx, &step)?,
        (Mode::Terminal, Some(step), _) => steps.take(step),
        (_, None, Some(text)) => {
            steps.settle(cx, mode)?;
            coloured(if session.takes_stdout() { &mut cx.err } else { &mut cx.out }, &text)?;
        }
        (_, None, None) => {}
    }
    Ok(())
}

fn note(outcome: &mut Outcome, aux: &serde_json::Value) {
    if let Some(id) = aux["ID"].as_str() {
        outcome.id = id.to_owned();
        outcome.metadata.insert("containerimage.config.digest".into(), id.into());
    }
    if let Some(checked) = aux.get("checked") {
        let all = json::to_vec(checked).ok().and_then(|text| json::from_slice(&text).ok());
        outcome.findings = all.map(|all| (all, aux["strict"] == true));
    }
    for call in ["outline", "targets"] {
        if let Some(text) = aux[call].as_str() {
            outcome.answer = Some((call, text.to_owned()));
        }
    }
    if let Some(more) = aux["metadata"].as_object() {
        outcome.metadata.extend(more.clone());
    }
}

/// `#3 [build 2/4] RUN make`, its output, `#3 DONE 1.2s`.
fn plain(cx: &mut Context, step: &Step) -> Result<()> {
    let n = step.number;
    if !step.name.is_empty() {
        writeln!(cx.err, "#{n} {}", step.name)?;
    }
    if let Some(log) = &step.log {
        for line in log.lines() {
            coloured(&mut cx.err, &format!("#{n} {line}\n"))?;
        }
    }
    if step.cached {
        writeln!(cx.err, "#{n} CACHED\n")?;
    } else if let Some(error) = &step.error {
        writeln!(cx.err, "#{n} ERROR: {error}\n")?;
    } else if let Some(ms) = step.done {
        writeln!(cx.err, "#{n} DONE {:.1}s\n", ms as f64 / 1000.0)?;
    }
    Ok(())
}

/// The live picture: one line per step, the last lines of output under those
/// that run.
struct Steps {
    started: Instant,
    /// Lines on the screen that the next picture replaces.
    shown: usize,
    all: BTreeMap<usize, Progress>,
}

struct Progress {
    name: String,
    began: Instant,
    tail: Vec<String>,
    end: Option<String>,
    failed: bool,
}

const TAIL: usize = 5;

impl Steps {
    fn take(&mut self, step: Step) {
        let progress = self.all.entry(step.number).or_insert_with(|| Progress {
            name: step.name.clone(),
            began: Instant::now(),
            tail: Vec::new(),
            end: None,
            failed: false,
        });
        if let Some(log) = &step.log {
            progress.tail.extend(log.lines().map(|l| l.rsplit('\r').next().unwrap_or(l).to_owned()));
            let surplus = progress.tail.len().saturating_sub(TAIL);
            progress.tail.drain(..surplus);
        }
        if step.cached {
            progress.end = Some("CACHED".into());
        } else if step.error.is_some() {
            progress.failed = true;
            progress.end = Some("ERROR".into());
        } else if let Some(ms) = step.done {
            progress.end = Some(format!("{:.1}s", ms as f64 / 1000.0));
        }
    }

    /// Ends the picture before other text is written under it.
    fn settle(&mut self, cx: &mut Context, mode: Mode) -> Result<()> {
        if mode == Mode::Terminal && !self.all.is_empty() {
            self.draw(cx, true)?;
            self.all.clear();
            self.shown = 0;
        }
        Ok(())
    }

    fn draw(&mut self, cx: &mut Context, last: bool) -> Result<()> {
        let (rows, width) = crate::sys::term::window_size(std::io::stderr().as_fd())
            .map_or((24, 80), |s| (usize::from(s.0), usize::from(s.1)));
        let (rows, width) = (rows.max(5), width.max(20));
        let mut picture = String::new();
        if self.shown > 0 {
            picture.push_str(&format!("\x1b[{}A\x1b[J", self.shown));
        }
        let done = self.all.values().filter(|p| p.end.is_some()).count();
        let head = format!(
            "[+] Building {:.1}s ({done}/{}){}",
            self.started.elapsed().as_secs_f64(),
            self.all.len(),
            if last { " FINISHED" } else { "" }
        );
        let steps = self.all.values().map(|p| (p.end.is_none(), p.lines(width, last))).collect();
        // The last picture stays: it may be longer than the screen.
        let lines = if last { steps_lines(steps) } else { fitting(steps, rows - 2) };
        self.shown = lines.len() + 1;
        for line in [head].iter().chain(&lines) {
            picture.push_str(line);
            picture.push('\n');
        }
        cx.err.raw().write_all(picture.as_bytes())?;
        cx.err.flush()?;
        Ok(())
    }
}

impl Progress {
    fn lines(&self, width: usize, last: bool) -> Vec<String> {
        let time = self.end.clone().unwrap_or_else(|| format!("{:.1}s", self.began.elapsed().as_secs_f64()));
        let room = width.saturating_sub(time.len() + 5);
        let name = printable(&self.name, room);
        let mut lines = vec![format!(" => {name:<room$} {time}")];
        if self.failed || (self.end.is_none() && !last) {
            lines.extend(self.tail.iter().map(|t| format!(" => => {}", printable(t, width - 7))));
        }
        lines
    }
}

/// Of each step whether it runs, and its lines.
type Drawn = Vec<(bool, Vec<String>)>;

fn steps_lines(steps: Drawn) -> Vec<String> {
    steps.into_iter().flat_map(|(_, lines)| lines).collect()
}

/// What fits on the screen, for no cursor goes back to what was scrolled away: the
/// earliest finished steps go first, then what does not fit below.
fn fitting(mut steps: Drawn, room: usize) -> Vec<String> {
    let mut surplus = steps.iter().map(|(_, lines)| lines.len()).sum::<usize>().saturating_sub(room);
    steps.retain(|(runs, lines)| {
        let goes = surplus > 0 && !runs;
        surplus = if goes { surplus.saturating_sub(lines.len()) } else { surplus };
        !goes
    });
    let mut lines = steps_lines(steps);
    lines.truncate(room);
    lines
}

/// A step's own output keeps its colours, and no more than these.
fn coloured(out: &mut Stream, text: &str) -> Result<()> {
    let shown = harmless(text.as_bytes(), true);
    let terminal = out.is_terminal();
    Ok(out.raw().write_all(if terminal { &shown } else { text.as_bytes() })?)
}

/// A build's output must not drive the terminal.
fn printable(text: &str, width: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_on_a_screen() {
        let step = |runs, name: &str, tail: usize| (runs, vec![name.to_owned(); tail + 1]);
        let all = || vec![step(false, "a", 0), step(true, "b", 2), step(false, "c", 0), step(true, "d", 1)];
        assert_eq!(fitting(all(), 7).len(), 7);
        assert_eq!(fitting(all(), 6), ["b", "b", "b", "c", "d", "d"]);
        assert_eq!(fitting(all(), 5), ["b", "b", "b", "d", "d"]);
        assert_eq!(fitting(all(), 4), ["b", "b", "b", "d"]);
    }
}
