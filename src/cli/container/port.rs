//! `docker port`.

use crate::api::network::PortBinding;
use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use crate::util::order;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Show where a container's ports are published
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Port {
    #[argh(positional)]
    pub container: String,
    #[argh(positional)]
    pub port: Option<String>,
}

impl Verb for Port {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let ports = cx.client()?.container_inspect(&self.container)?.network_settings.ports;
        let mut out = Vec::new();
        if let Some(wanted) = &self.port {
            let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
            if let Err(why) = crate::util::units::parse_uint(number, 16) {
                return Err(Error::invalid(format!("Error: invalid port ({number}): {why}")));
            }
            let Some(Some(bindings)) = ports.get(&format!("{number}/{protocol}")) else {
                let name = &self.container;
                return Err(Error::not_found(format!("Error: No public port '{wanted}' published for {name}")));
            };
            out.extend(bindings.iter().map(address));
        } else {
            for (port, bindings) in &ports {
                out.extend(bindings.iter().flatten().map(|b| format!("{port} -> {}", address(b))));
            }
        }
        order::sort_by(&mut out, |a, b| crate::cli::context_store::natural(a, b));
        for line in out {
            writeln!(cx.out, "{line}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `0.0.0.0:80`, `[::]:80`.
fn address(binding: &PortBinding) -> String {
    let PortBinding { host_ip, host_port } = binding;
    if host_ip.contains(':') { format!("[{host_ip}]:{host_port}") } else { format!("{host_ip}:{host_port}") }
}
