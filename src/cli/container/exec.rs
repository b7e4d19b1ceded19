//! `docker exec`.

use crate::api::exec::{ExecCreate, ExecStart};
use crate::cli::attach::{self, End, Happening, Session, Signals};
use crate::cli::container::join::resize;
use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::cli::{exit, flags};
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Run a command in a running container
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Exec {
    /// run it in the background
    #[argh(switch, short = 'd')]
    pub detach: bool,
    /// key sequence that detaches from a container
    #[argh(option, arg_name = "string")]
    pub detach_keys: Option<String>,
    /// environment variables
    #[argh(option, short = 'e', arg_name = "list")]
    pub env: Vec<String>,
    /// file with environment variables, one per line
    #[argh(option, arg_name = "list")]
    pub env_file: Vec<String>,
    /// keep STDIN open also when not attached
    #[argh(switch, short = 'i')]
    pub interactive: bool,
    /// give the command all capabilities
    #[argh(switch)]
    pub privileged: bool,
    /// give it a terminal
    #[argh(switch, short = 't')]
    pub tty: bool,
    /// user name or UID, and group (name|uid[:group|gid])
    #[argh(option, short = 'u', arg_name = "string")]
    pub user: Option<String>,
    /// working directory
    #[argh(option, short = 'w', arg_name = "string")]
    pub workdir: Option<String>,
    #[argh(positional)]
    pub container: String,
    #[argh(positional, greedy)]
    pub command: Vec<String>,
}

impl Verb for Exec {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let keys_flag = self.detach_keys.as_deref();
        let (keys, keys_text) = attach::detach_keys(cx, keys_flag)?;
        let stdin = self.interactive && !self.detach;
        if !self.detach {
            attach::check_tty(stdin, self.tty)?;
        }
        let env = flags::environment(&self.env_file, &self.env)?;
        let console_size = attach::window_size().filter(|_| self.tty).map(|(r, c)| [r.into(), c.into()]);
        let client = cx.client()?;
        let create = ExecCreate {
            user: self.user.clone().unwrap_or_default(),
            privileged: self.privileged,
            tty: self.tty,
            console_size,
            attach_stdin: stdin,
            attach_stderr: !self.detach,
            attach_stdout: !self.detach,
            detach: self.detach,
            detach_keys: keys_text,
            env: (!env.is_empty()).then_some(env),
            working_dir: self.workdir.clone().unwrap_or_default(),
            cmd: Some(self.command.clone()),
        };
        let id = client.exec_create(&self.container, &create)?;
        let start = ExecStart { detach: self.detach, tty: self.tty, console_size };
        if self.detach {
            client.exec_start(&id, &start)?;
            return Ok(ExitCode::SUCCESS);
        }
        let signals = Signals::take(false, self.tty)?;
        let hijacked = client.exec_attach(&id, &start)?;
        let size = |rows, cols| client.exec_resize(&id, rows, cols);
        if self.tty {
            resize(size, 5);
        }
        let mut on_signal = |happening| {
            if happening == Happening::Resized {
                resize(size, 1);
            }
        };
        let session = Session {
            hijacked,
            stdin,
            tty: self.tty,
            detach_keys: keys,
            wait: None,
            on_signal: &mut on_signal,
            signals,
        };
        match session.run(cx)? {
            End::Ended(_) => Ok(exit::of_container(client.exec_inspect(&id)?.exit_code.unwrap_or(0))),
            End::Detached => Err(attach::escaped()),
            End::Killed(signal) => Ok(exit::of_signal(signal)),
            End::Forced => Ok(ExitCode::FAILURE),
        }
    }
}
