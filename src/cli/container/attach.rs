//! `docker attach`.

use crate::api::container::ContainerInspect;
use crate::cli::attach::{self, Signals};
use crate::cli::container::join::{Joined, joined};
use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::client::container::AttachOptions;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Connect this terminal to a running container
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Attach {
    /// key sequence that detaches from a container
    #[argh(option, arg_name = "string")]
    pub detach_keys: Option<String>,
    /// do not attach STDIN
    #[argh(switch)]
    pub no_stdin: bool,
    /// pass signals of this command on to the process (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub sig_proxy: bool,
    #[argh(positional)]
    pub container: String,
}

impl Verb for Attach {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let client = cx.client()?;
        let container = client.container_inspect(&self.container)?;
        check(&container)?;
        let (keys, detach_keys) = attach::detach_keys(cx, self.detach_keys.as_deref())?;
        let tty = container.config.tty;
        let stdin = !self.no_stdin && container.config.open_stdin;
        attach::check_tty(!self.no_stdin, tty)?;
        let wait = client.container_wait(&self.container, "")?;
        let signals = Signals::take(self.sig_proxy && !tty, tty)?;
        let options = AttachOptions { stdin, stdout: true, stderr: true, logs: false, detach_keys };
        let hijacked = client.container_attach(&self.container, &options)?;
        if tty && let Some((rows, cols)) = attach::window_size() {
            // Another size first, so that a program that was left at this very
            // size draws its screen anew.
            let _ = client.container_resize(&self.container, rows + 1, cols + 1);
        }
        let joined_to = Joined { hijacked, wait, stdin, tty, keys, signals, detach_is_error: true };
        joined(cx, &client, &self.container, joined_to)
    }
}

fn check(container: &ContainerInspect) -> Result<()> {
    let state = &container.state;
    let text = match () {
        () if !state.running => "You cannot attach to a stopped container, start it first",
        () if state.paused => "You cannot attach to a paused container, unpause it first",
        () if state.restarting => "You cannot attach to a restarting container, wait until it is running",
        () => return Ok(()),
    };
    Err(Error::conflict(text))
}
