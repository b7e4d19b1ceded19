//! `docker load`.

use crate::cli::context::Context;
use crate::cli::image::{open, platform};
use crate::cli::progress;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

/// Load images from a tar archive or STDIN
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Load {
    /// file to read in place of STDIN
    #[argh(option, short = 'i', arg_name = "string")]
    pub input: Option<String>,
    /// platform to load where there are several
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    /// do not show progress
    #[argh(switch, short = 'q')]
    pub quiet: bool,
}

impl Verb for Load {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let platform = platform(self.platform.as_deref())?;
        let mut source: Box<dyn Read + Send> = match self.input.as_deref() {
            Some(path) if !path.is_empty() => Box::new(open(path)?),
            _ if std::io::stdin().is_terminal() => {
                return Err(Error::invalid("requested load from stdin, but stdin is empty"));
            }
            _ => Box::new(std::io::stdin()),
        };
        let quiet = self.quiet || !cx.out.is_terminal();
        let client = cx.client()?;
        let answer = client
            .post("/images/load")
            .query("quiet", if quiet { "1" } else { "0" })
            .query_opt("platform", platform.as_deref())
            .stream_body("application/x-tar", &mut source)
            .send()?;
        if answer.header("Content-Type") == Some("application/json") {
            progress::show(cx, answer)?;
        } else {
            let mut answer = answer;
            std::io::copy(&mut answer, &mut cx.out)?;
            cx.out.flush()?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
