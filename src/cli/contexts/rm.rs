//! `docker context rm`.

use crate::cli::context::Context;
use crate::cli::context_store::DEFAULT;
use crate::cli::contexts;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Remove contexts
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// remove it also while it is in use
    #[argh(switch, short = 'f')]
    pub force: bool,
    #[argh(positional, greedy)]
    pub names: Vec<String>,
}

impl Verb for Rm {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let store = contexts::store(cx);
        let current = crate::cli::host::context_name(cx)?;
        cx.for_each(&self.names, |cx, name| {
            if name == DEFAULT {
                return Err(Error::invalid("context \"default\" cannot be removed"));
            }
            if !self.force && !store.exists(name) {
                return Err(Error::not_found(format!("context {name:?} does not exist")));
            }
            if name == current {
                if !self.force {
                    return Err(Error::conflict(format!("context {name:?} is in use, set -f flag to force remove")));
                }
                contexts::set_current(cx, DEFAULT)?;
            }
            store.remove(name)
        })
    }
}
