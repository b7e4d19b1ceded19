//! `docker tls ls`.

use super::open;
use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::Result;
use crate::util::time;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// List the clients that have certificates
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct List {
    /// folder of the authority
    #[argh(option, arg_name = "string")]
    pub dir: Option<String>,
}

impl Verb for List {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        writeln!(cx.out, "{:<24}{:<12}VALID UNTIL", "CLIENT", "STATE")?;
        for client in open(self.dir.as_deref())?.clients()? {
            let state = if client.revoked {
                "revoked"
            } else if client.facts.until < time::now() {
                "expired"
            } else {
                "valid"
            };
            writeln!(cx.out, "{:<24}{state:<12}{}", client.name, time::rfc3339_nano(client.facts.until))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
