//! `docker logs`.

use crate::cli::context::Context;
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::error::Error;
use crate::error::Result;
use crate::util::frames;
use argh::{ArgsInfo, FromArgs};
use std::io::{Read, Write};
use std::process::ExitCode;

/// Show what a container wrote
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Logs {
    /// show the details that were given to the log driver
    #[argh(switch)]
    pub details: bool,
    /// go on as new output comes
    #[argh(switch, short = 'f')]
    pub follow: bool,
    /// start at this time: a date ("2013-01-02T13:23:37Z") or so long ago ("42m")
    #[argh(option, arg_name = "string")]
    pub since: Option<String>,
    /// lines to show, counted from the end (default "all")
    #[argh(option, short = 'n', arg_name = "string")]
    pub tail: Option<String>,
    /// show the time of each line
    #[argh(switch, short = 't')]
    pub timestamps: bool,
    /// end at this time: a date ("2013-01-02T13:23:37Z") or so long ago ("42m")
    #[argh(option, arg_name = "string")]
    pub until: Option<String>,
    #[argh(positional)]
    pub container: String,
}

impl Verb for Logs {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let client = cx.client()?;
        // Whether there is a terminal decides about frames.
        let tty = client.container_inspect(&self.container)?.config.tty;
        let since = time("since", self.since.as_deref())?;
        let until = time("until", self.until.as_deref())?;
        let mut reply = client
            .get(format!("/containers/{}/logs", crate::client::segment(&self.container)))
            .query("stdout", "1")
            .query("stderr", "1")
            .query_opt("since", since)
            .query_opt("until", until)
            .query_if("timestamps", self.timestamps)
            .query_if("details", self.details)
            .query_if("follow", self.follow)
            .query("tail", self.tail.as_deref().unwrap_or("all"))
            .send()?;
        if !tty {
            frames::demultiplex(&mut reply, &mut |stream, bytes| {
                let to = if stream == 2 { &mut cx.err } else { &mut cx.out };
                to.raw().write_all(bytes)?;
                Ok(to.flush()?)
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            let n = reply.read(&mut buffer)?;
            if n == 0 {
                return Ok(ExitCode::SUCCESS);
            }
            cx.out.raw().write_all(&buffer[..n])?;
            cx.out.flush()?;
        }
    }
}

fn time(name: &str, value: Option<&str>) -> Result<Option<String>> {
    let Some(value) = value.filter(|v| !v.is_empty()) else { return Ok(None) };
    let wrong = |e: Error| Error::invalid(format!("invalid value for \"{name}\": {}", e.message()));
    lists::instant(value).map(Some).map_err(wrong)
}
