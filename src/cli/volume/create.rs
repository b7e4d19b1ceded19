//! `docker volume create`.

use crate::api::volume::{Volume, VolumeCreate};
use crate::cli::context::Context;
use crate::cli::lists::pairs;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Create a volume
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Create {
    /// driver to use (default "local")
    #[argh(option, short = 'd', arg_name = "string")]
    pub driver: Option<String>,
    /// metadata for the volume
    #[argh(option, arg_name = "list")]
    pub label: Vec<String>,
    /// options of the driver (default map[])
    #[argh(option, short = 'o', arg_name = "map")]
    pub opt: Vec<String>,
    /// name of the volume, the old way
    #[argh(option, long = "name", arg_name = "string", hidden_help)]
    pub named: Option<String>,
    #[argh(positional)]
    pub name: Option<String>,
}

impl Verb for Create {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let named = self.named.filter(|n| !n.is_empty());
        if named.is_some() && self.name.is_some() {
            return Err(Error::invalid(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        let body = VolumeCreate {
            driver: self.driver.unwrap_or_else(|| "local".into()),
            driver_opts: Some(pairs(&self.opt)),
            labels: Some(pairs(&self.label)),
            name: self.name.or(named).unwrap_or_default(),
            ..VolumeCreate::default()
        };
        let volume: Volume = cx.client()?.post("/volumes/create").json_body(&body)?.json()?;
        writeln!(cx.out, "{}", volume.name)?;
        Ok(ExitCode::SUCCESS)
    }
}
