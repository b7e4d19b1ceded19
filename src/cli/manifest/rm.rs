//! `docker manifest rm`.

use crate::cli::context::Context;
use crate::cli::manifest::lists;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove local manifest lists
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    #[argh(positional, greedy)]
    pub lists: Vec<String>,
}

impl Verb for Rm {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut failures = Vec::new();
        for list in &self.lists {
            if let Err(e) = lists::parse(list).and_then(|list| lists::remove(cx, &list)) {
                failures.push(e.message().to_owned());
            }
        }
        if failures.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Error::system(failures.join("\n"))) }
    }
}
