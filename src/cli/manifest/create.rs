//! `docker manifest create`.

use crate::cli::context::Context;
use crate::cli::manifest::lists::{self, Remote};
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Create a local manifest list
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// add to a list that exists
    #[argh(switch, short = 'a')]
    pub amend: bool,
    /// allow a registry without TLS
    #[argh(switch)]
    pub insecure: bool,
    #[argh(positional)]
    pub list: String,
    #[argh(positional, greedy)]
    pub manifests: Vec<String>,
}

impl Verb for Create {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let list = lists::parse(&self.list)?;
        if lists::exists(cx, &list) && !self.amend {
            return Err(Error::conflict("refusing to amend an existing manifest list with no --amend flag"));
        }
        for name in &self.manifests {
            let manifest = lists::parse(name)?;
            if lists::entry(cx, &list, &manifest)?.is_some() {
                continue;
            }
            match lists::fetch(cx, &manifest, self.insecure)? {
                Remote::Image(entry) => lists::save(cx, &list, &manifest, &entry)?,
                Remote::List(_) => return Err(Error::invalid(format!("{} is a manifest list", manifest.familiar()))),
            }
        }
        writeln!(cx.out, "Created manifest list {list}")?;
        Ok(ExitCode::SUCCESS)
    }
}
