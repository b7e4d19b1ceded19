//! `docker network disconnect`.

use crate::api::network::NetworkDisconnectRequest;
use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Disconnect a container from a network
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Disconnect {
    /// take the container away also when it does not answer
    #[argh(switch, short = 'f')]
    pub force: bool,
    #[argh(positional)]
    pub network: String,
    #[argh(positional)]
    pub container: String,
}

impl Verb for Disconnect {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let body = NetworkDisconnectRequest { container: self.container, force: self.force };
        cx.client()?.post(format!("/networks/{}/disconnect", segment(&self.network))).json_body(&body)?.done()?;
        Ok(ExitCode::SUCCESS)
    }
}
