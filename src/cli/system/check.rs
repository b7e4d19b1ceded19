//! `docker system check`: what this host lacks, and what mends it. Needs no daemon.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::Result;
use crate::util::doctor::{Finding, Host, Verdict, examine};
use argh::{ArgsInfo, FromArgs};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

/// The hidden word under which our own program tries a user namespace and ends.
pub const TRIAL: &str = "__userns";

/// Show what this host lacks for containers without root, and what mends it
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Check {
    /// output as "json"
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// show only what is missing
    #[argh(switch, short = 'q')]
    pub quiet: bool,
}

impl Verb for Check {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut host = Host::current();
        if host.uid != 0 {
            host.userns = tried(&host);
        }
        let found = examine(&host);
        if self.format.as_deref() == Some("json") {
            for finding in found.iter().filter(|f| !self.quiet || f.verdict != Verdict::Ok) {
                writeln!(cx.out, "{}", json(finding))?;
            }
        } else {
            self.show(cx, &found)?;
        }
        let bad = found.iter().any(|f| f.verdict == Verdict::Bad);
        Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

impl Check {
    fn show(&self, cx: &mut Context, found: &[Finding]) -> Result<()> {
        let width = found.iter().map(|f| f.name.len()).max().unwrap_or(0);
        let colour = cx.out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        for finding in found.iter().filter(|f| !self.quiet || f.verdict != Verdict::Ok) {
            let (word, code) = match finding.verdict {
                Verdict::Ok => ("ok  ", "32"),
                Verdict::Note => ("note", "33"),
                Verdict::Bad => ("BAD ", "31"),
            };
            let word = if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
            writeln!(cx.out, "{word}  {:width$}  {}", finding.name, finding.text)?;
            for line in &finding.remedy {
                writeln!(cx.out, "        $ {line}")?;
            }
        }
        let count = |v: Verdict| found.iter().filter(|f| f.verdict == v).count();
        let (bad, notes) = (count(Verdict::Bad), count(Verdict::Note));
        if !self.quiet {
            let text = match (bad, notes) {
                (0, 0) => "This host has all that containers need.".to_owned(),
                (0, 1) => "Containers run here; one thing could be better.".to_owned(),
                (0, n) => format!("Containers run here; {n} things could be better."),
                (1, _) => "Containers do not run here until the line marked BAD is mended.".to_owned(),
                (n, _) => format!("Containers do not run here until the {n} lines marked BAD are mended."),
            };
            writeln!(cx.out, "\n{text}")?;
        }
        Ok(())
    }
}

fn json(finding: &Finding) -> serde_json::Value {
    let verdict = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Note => "note",
        Verdict::Bad => "bad",
    };
    serde_json::json!({
        "Name": finding.name, "Verdict": verdict, "Text": finding.text, "Remedy": finding.remedy,
    })
}

/// A process of its own tries, for the namespace would be entered for good.
fn tried(host: &Host) -> Option<std::result::Result<(), Errno>> {
    let status = Command::new(&host.program)
        .arg(TRIAL)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    match status.code()? {
        0 => Some(Ok(())),
        code => Some(Err(Errno::from_raw(code))),
    }
}

/// The trial itself; the status is the errno.
pub fn trial() -> ExitCode {
    match nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => ExitCode::from(u8::try_from(e as i32).unwrap_or(u8::MAX)),
    }
}
