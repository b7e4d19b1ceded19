//! `docker tls client`.

use super::open;
use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Make a certificate for another machine or person
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Client {
    /// folder of the authority
    #[argh(option, arg_name = "string")]
    pub dir: Option<String>,
    #[argh(positional)]
    pub client: String,
}

impl Verb for Client {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let folder = open(self.dir.as_deref())?.client(&self.client)?;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let (name, host, folder) = (&self.client, host.trim(), folder.display());
        writeln!(
            cx.out,
            "Copy {folder} to the other machine's ~/.docker/{name}, then type there:\n  \
             docker context create {host} --docker host=tcp://{host}:2376,ca=$HOME/.docker/{name}/ca.pem,cert=$HOME/.docker/{name}/cert.pem,key=$HOME/.docker/{name}/key.pem\n  \
             docker context use {host}"
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
