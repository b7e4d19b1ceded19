//! `docker start`.

use crate::cli::attach::{self, Signals};
use crate::cli::container::join::{Joined, joined};
use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::client::container::AttachOptions;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Start stopped containers
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Start {
    /// connect to its output and pass signals on
    #[argh(switch, short = 'a')]
    pub attach: bool,
    /// checkpoint to go on from
    #[argh(option, arg_name = "string")]
    pub checkpoint: Option<String>,
    /// folder of the checkpoints
    #[argh(option, arg_name = "string")]
    pub checkpoint_dir: Option<String>,
    /// key sequence that detaches from a container
    #[argh(option, arg_name = "string")]
    pub detach_keys: Option<String>,
    /// connect its STDIN
    #[argh(switch, short = 'i')]
    pub interactive: bool,
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Start {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        if self.attach || self.interactive {
            return match self.containers.as_slice() {
                [one] => self.attached(cx, one),
                _ => Err(Error::invalid("you cannot start and attach multiple containers at once")),
            };
        }
        if self.checkpoint.as_deref().is_some_and(|c| !c.is_empty()) {
            return Err(Error::not_implemented("starting from a checkpoint is not supported by this engine"));
        }
        let client = cx.client()?;
        let mut failed = Vec::new();
        for name in &self.containers {
            match client.container_start(name, "") {
                Ok(()) => writeln!(cx.out, "{name}")?,
                Err(e) => {
                    writeln!(cx.err, "{e}")?;
                    failed.push(name.as_str());
                }
            }
        }
        if failed.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        Err(Error::system(format!("Error: failed to start containers: {}", failed.join(", "))))
    }
}

impl Start {
    fn attached(&self, cx: &mut Context, name: &str) -> Result<ExitCode> {
        let client = cx.client()?;
        let container = client.container_inspect(name)?;
        let tty = container.config.tty;
        let (keys, detach_keys) = attach::detach_keys(cx, self.detach_keys.as_deref())?;
        let stdin = self.interactive && container.config.open_stdin;
        let signals = Signals::take(!tty, tty)?;
        let options = AttachOptions { stdin, stdout: true, stderr: true, logs: false, detach_keys };
        let id = container.id;
        let hijacked = client.container_attach(&id, &options)?;
        let removed = container.host_config.auto_remove;
        let mut wait = client.container_wait(&id, if removed { "removed" } else { "next-exit" })?;
        if let Err(e) = client.container_start(&id, &options.detach_keys) {
            if removed {
                let _ = wait.whole();
            }
            return Err(e);
        }
        joined(cx, &client, &id, Joined { hijacked, wait, stdin, tty, keys, signals, detach_is_error: false })
    }
}
