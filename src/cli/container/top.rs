//! `docker top`.

use crate::cli::context::Context;
use crate::cli::format::table;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Show the processes of a container
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Top {
    #[argh(positional)]
    pub container: String,
    #[argh(positional, greedy)]
    pub options: Vec<String>,
}

impl Verb for Top {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let top = cx.client()?.container_top(&self.container, &self.options)?;
        let rows: Vec<String> =
            std::iter::once(&top.titles).chain(&top.processes).map(|row| row.join("\t") + "\n").collect();
        cx.out.write_all(table::align(&rows.concat(), (20, 3)).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
