//! `docker wait`.

use crate::api::container::WaitResponse;
use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Wait until containers stop and print their exit codes
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Wait {
    #[argh(positional, greedy)]
    pub containers: Vec<String>,
}

impl Verb for Wait {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let client = cx.client()?;
        let mut failures = Vec::new();
        for name in &self.containers {
            let answer = client.container_wait(name, "").and_then(|mut reply| reply.whole());
            match answer.and_then(|bytes| crate::api::decode::from_slice::<WaitResponse>(&bytes)) {
                Ok(answer) => writeln!(cx.out, "{}", answer.status_code)?,
                Err(e) => failures.push(e),
            }
        }
        Error::join(failures).map(|()| ExitCode::SUCCESS)
    }
}
