//! `docker rm`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Kind, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Remove containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// kill it first when it runs
    #[argh(switch, short = 'f')]
    pub force: bool,
    /// remove a link, not a container
    #[argh(switch, short = 'l')]
    pub link: bool,
    /// remove its anonymous volumes too
    #[argh(switch, short = 'v')]
    pub volumes: bool,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Rm {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let names: Vec<&str> = self.containers.iter().map(|n| n.trim_matches('/')).collect();
        let remove = |client: &crate::client::Client, name: &str| {
            if name.is_empty() {
                return Err(Error::invalid("container name cannot be empty"));
            }
            client.container_remove(name, self.volumes, self.link, self.force)
        };
        let results = cx.parallel(&names, remove)?;
        let mut failures = Vec::new();
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(()) => writeln!(cx.out, "{name}")?,
                // What is not there is as removed as it can be.
                Err(e) if self.force && e.kind() == Kind::NotFound => writeln!(cx.err, "{e}")?,
                Err(e) => failures.push(e),
            }
        }
        Error::join(failures).map(|()| ExitCode::SUCCESS)
    }
}
