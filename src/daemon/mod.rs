//! The daemon's life: flags → configuration → claim root, pid file and sockets →
//! bootstrap → engine → server → signals → ordered end. Main thread.
//!
//! What happens to containers: SIGTERM and SIGINT stop them within the shutdown
//! timeout, as dockerd does, unless `live-restore` is on. A daemon that is killed
//! stops nothing, whatever the configuration says: containers do not need it.

#![forbid(unsafe_code)]

mod activation;
pub mod bootstrap;
pub mod config;
pub mod flags;
mod host;
mod install;
mod life;
mod listen;
pub mod options;
mod ownership;
mod places;
mod settings;
mod signals;
mod threads;
mod tls;
pub mod value;

use crate::api::version::{self, Version};
use crate::error::{Error, Result};
use crate::log::{self, Format, Level};
use crate::util::authority::{self, Authority};
use crate::util::usage;
use argh::ArgsInfo;
use config::Config;
use places::Places;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Entry point of `dockerd`; `args` without argv[0].
pub fn main(args: &[OsString]) -> ExitCode {
    // Threads come and go with connections: without a bound each would keep a heap.
    crate::sys::memory::limit_arenas(2);
    // The windows of decoders.
    crate::sys::memory::return_large(1 << 20);
    let args: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let places = Places::find();
    let line = match config::line(&args, &places.socket()) {
        Ok(line) => line,
        Err(why) => return complain(&format!("{why}\nSee 'dockerd --help'.\n\n{USAGE}")),
    };
    if line.help {
        return say(&help());
    }
    if line.last("--version") == Some("true") {
        return say(&format!("Docker version {}, build {}\n", version::PRODUCT, version::COMMIT));
    }
    if line.last("--tls-init") == Some("true") {
        return tls_init(&places);
    }
    if line.last("--install-service") == Some("true") {
        let (kind, root) = (line.last("--service-kind"), line.last("--service-root"));
        return match install::install(kind, root) {
            Ok(text) => say(&text),
            Err(e) => complain(&sentence(&e)),
        };
    }
    if !line.positionals.is_empty() {
        return complain(&format!("\"dockerd\" accepts no arguments.\nSee 'dockerd --help'.\n\n{USAGE}"));
    }
    let config = match Config::load(&line, places) {
        Ok(config) => config,
        Err(e) => return complain(&sentence(&e)),
    };
    if let Err(e) = tls::load(&config) {
        return complain(&sentence(&e));
    }
    if config.validate {
        return complain_with("configuration OK", ExitCode::SUCCESS);
    }
    set_up_log(&config);
    match life::run(config) {
        Ok(code) => code,
        Err(e) => complain(&sentence(&e)),
    }
}

const USAGE: &str = "Usage:  dockerd [OPTIONS]\n\nA self-sufficient runtime for containers.";

fn help() -> String {
    let info = flags::Flags::get_args_info();
    let mut out = format!("\n{USAGE}\n\nOptions:\n");
    usage::options(&mut out, info.flags.iter().collect(), 80);
    out
}

/// The authority, the daemon's certificate and a first client, in one go.
fn tls_init(places: &Places) -> ExitCode {
    let (dir, names) = (places.authority(), authority::own_names());
    let made = Authority::create(&dir, &names).and_then(|a| a.client("client"));
    match made {
        Err(e) => complain(&sentence(&e)),
        Ok(folder) => {
            let host = names.first().map_or("localhost", String::as_str);
            say(&format!(
                "Certificates for {} are in {}.\nStart the daemon with:\n  dockerd -H unix:// -H tcp://0.0.0.0:2376 --tlsverify\nCopy {} to the other machine's ~/.docker, then type there:\n  export DOCKER_HOST=tcp://{host}:2376 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=$HOME/.docker/client\n  docker version\nMore clients: docker tls client NAME\n",
                names.join(", "),
                dir.display(),
                folder.display()
            ))
        }
    }
}

fn sentence(e: &Error) -> String {
    match e.hint() {
        Some(hint) => format!("{e}\n{hint}"),
        None => e.to_string(),
    }
}

fn say(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn complain(text: &str) -> ExitCode {
    complain_with(text, ExitCode::FAILURE)
}

fn complain_with(text: &str, code: ExitCode) -> ExitCode {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
    code
}

fn set_up_log(config: &Config) {
    log::set_format(if config.text("log-format", "text") == "json" { Format::Json } else { Format::Text });
    set_level(config);
}

fn set_level(config: &Config) {
    log::set_level(if config.bool("debug", false) {
        Level::Debug
    } else {
        match config.text("log-level", "info") {
            "debug" | "trace" => Level::Debug,
            "warn" | "warning" => Level::Warn,
            "error" => Level::Error,
            "fatal" | "panic" => Level::Fatal,
            _ => Level::Info,
        }
    });
}

/// `min-api-version`, within what this engine speaks.
fn minimum_version(text: &str) -> Result<Version> {
    let minor = text.strip_prefix("1.").and_then(|m| m.parse::<u16>().ok()).map(Version);
    match minor {
        None => Err(Error::invalid(format!("API version has an invalid format: {text}"))),
        Some(v) if v < version::MIN => {
            Err(Error::invalid(format!("minimum supported API version is {}: {text} is too low", version::MIN)))
        }
        Some(v) if v > version::MAX => {
            Err(Error::invalid(format!("maximum supported API version is {}: {text} is too high", version::MAX)))
        }
        Some(v) => Ok(v),
    }
}
