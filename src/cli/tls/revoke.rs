//! `docker tls revoke`.

use super::{open, tell_daemon};
use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Shut a client out
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Revoke {
    /// folder of the authority
    #[argh(option, arg_name = "string")]
    pub dir: Option<String>,
    #[argh(positional)]
    pub client: String,
}

impl Verb for Revoke {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        open(self.dir.as_deref())?.revoke(&self.client)?;
        if self.dir.is_none() && tell_daemon() {
            writeln!(cx.out, "{} is shut out.", self.client)?;
        } else {
            writeln!(
                cx.out,
                "{} is shut out once the daemon reads its files again: kill -HUP its process.",
                self.client
            )?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
