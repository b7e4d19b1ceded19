//! `docker tls init`.

use super::chosen;
use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::Result;
use crate::util::authority::{self, Authority};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Make a certificate authority and the daemon's certificate
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Init {
    /// folder of the authority
    #[argh(option, arg_name = "string")]
    pub dir: Option<String>,
    /// further name or address by which the daemon is reached
    #[argh(option, arg_name = "list")]
    pub name: Vec<String>,
}

impl Verb for Init {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut names = authority::own_names();
        names.extend(self.name);
        let dir = chosen(self.dir.as_deref());
        Authority::create(&dir, &names)?;
        writeln!(
            cx.out,
            "Certificates for {} are in {}.\nStart the daemon with:\n  dockerd -H unix:// -H tcp://0.0.0.0:2376 --tlsverify\nAdd a client with:\n  docker tls client NAME",
            names.join(", "),
            dir.display()
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
