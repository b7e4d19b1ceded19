//! Coracle: Docker in one small static binary, with no root.
//!
//! Data flows one way: argv → `api` types → HTTP → `engine` call → `runtime::Spec`
//! → plan → child. The modules stand here in reading order; which layer may use
//! which is written in ARCHITECTURE.md and checked by `tests/tidy.rs`.

pub mod api;
pub mod cli;
pub mod client;
pub mod daemon;
pub mod engine;
pub mod error;
pub mod image;
pub mod log;
pub mod net;
pub mod runtime;
pub mod server;
pub mod storage;
pub mod sys;
pub mod util;

use argh::ArgsInfo;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Runs the role that argv asks for and returns its exit status.
///
/// `docker` is the client, `dockerd` the daemon; under any other name the first
/// word decides (`daemon`), and what is no role of its own is a client command,
/// so `coracle ps` is `docker ps`.
pub fn run(argv: Vec<OsString>) -> ExitCode {
    let name = argv.first().map(|a| Path::new(a).file_name().unwrap_or_default().to_owned());
    let role = name.as_deref().and_then(|n| n.to_str()).unwrap_or("");
    let args = argv.get(1..).unwrap_or_default();
    match role {
        "dockerd" => daemon::main(args),
        "docker-init" => runtime::init::main(args),
        "coracle-spawner" => runtime::spawner::main(args),
        "coracle-netd" => net::netd::main(args),
        _ => match args.first().and_then(|a| a.to_str()) {
            Some("daemon" | "-d") => daemon::main(&args[1..]),
            // The generator of man/ and completions/, for those who build.
            Some("docs") => cli::manual::main(&args[1..], &daemon::flags::Flags::get_args_info()),
            _ => cli::main(args),
        },
    }
}
