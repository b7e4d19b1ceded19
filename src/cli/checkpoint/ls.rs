//! `docker checkpoint ls`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// List the checkpoints of a container
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Ls {
    /// folder of the checkpoints
    #[argh(option, arg_name = "string")]
    pub checkpoint_dir: Option<String>,
    #[argh(positional)]
    pub container: String,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Checkpoint {
    name: String,
}

impl Verb for Ls {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let path = format!("/containers/{}/checkpoints", segment(&self.container));
        let request = cx.client()?;
        let found: Vec<Checkpoint> = request.get(path).query_opt("dir", self.checkpoint_dir).json()?;
        writeln!(cx.out, "CHECKPOINT NAME")?;
        for checkpoint in found {
            writeln!(cx.out, "{}", checkpoint.name)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
