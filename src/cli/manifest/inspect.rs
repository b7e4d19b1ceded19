//! `docker manifest inspect`.

use crate::cli::context::Context;
use crate::cli::manifest::lists::{self, Remote};
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use crate::util::json;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Show a manifest or a manifest list
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// allow a registry without TLS
    #[argh(switch)]
    pub insecure: bool,
    /// show the manifests themselves too
    #[argh(switch, short = 'v')]
    pub verbose: bool,
    #[argh(positional, greedy)]
    pub references: Vec<String>,
}

impl Verb for Inspect {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let (list, name) = match self.references.as_slice() {
            [list, name] => (Some(lists::parse(list)?), name),
            [name] => (None, name),
            _ => return Err(Error::invalid("one or two names are needed")),
        };
        let reference = lists::parse(name)?;
        let remote = match list {
            Some(list) => {
                let found = lists::entry(cx, &list, &reference)?;
                let missing = || Error::not_found(format!("No such manifest: {reference}"));
                Remote::Image(Box::new(found.ok_or_else(missing)?))
            }
            None if lists::exists(cx, &reference) => Remote::List(lists::entries(cx, &reference)?),
            None => lists::fetch(cx, &reference, self.insecure)?,
        };
        let text = match (&remote, self.verbose) {
            (Remote::Image(entry), false) => lists::indent(entry.document(), "\t"),
            (Remote::Image(entry), true) => lists::indent(&json::to_string(entry)?, "\t"),
            (Remote::List(entries), false) => lists::list_text(entries)?.1,
            (Remote::List(entries), true) => lists::indent(&json::to_string(entries)?, "\t"),
        };
        writeln!(cx.out, "{text}")?;
        Ok(ExitCode::SUCCESS)
    }
}
