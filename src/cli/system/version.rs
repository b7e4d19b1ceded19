//! `docker version`.

use crate::api::system::VersionInfo;
use crate::api::version as api_version;
use crate::cli::context::Context;
use crate::cli::format::value::Value;
use crate::cli::format::{object_template, print_object, shape, table};
use crate::cli::inspect::BAD_TEMPLATE;
use crate::cli::tree::Verb;
use crate::error::Result;
use crate::util::time;
use argh::{ArgsInfo, FromArgs};
use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

/// Show the versions of client and daemon
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Version {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
}

/// What we are, as `docker version` and `docker info` tell it.
pub struct About {
    pub version: &'static str,
    pub commit: &'static str,
    pub toolchain: &'static str,
    pub os: &'static str,
    pub arch: &'static str,
    pub built: String,
}

pub fn about() -> About {
    About {
        version: api_version::PRODUCT,
        commit: api_version::COMMIT,
        toolchain: "none",
        os: "linux",
        arch: crate::cli::image::host_arch(),
        built: date(api_version::BUILD_TIME),
    }
}

/// RFC 3339 as C's asctime has it: `Fri May 30 12:07:14 2025`.
fn date(stamp: &str) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let Some(t) = time::parse_rfc3339(stamp) else { return stamp.to_owned() };
    let days = t.secs().div_euclid(86_400);
    let (year, month, day) = time::civil_from_days(days);
    let seconds = t.secs().rem_euclid(86_400);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let weekday = DAYS[usize::try_from(days.rem_euclid(7)).unwrap_or(0)];
    let month = MONTHS[month as usize - 1];
    format!("{weekday} {month} {day:>2} {hour:02}:{minute:02}:{second:02} {year}")
}

fn client_value(api: &str, context: &str) -> Value {
    let a = about();
    let fields = [
        ("Version", a.version),
        ("ApiVersion", api),
        ("DefaultAPIVersion", &api_version::MAX.to_string()),
        ("GitCommit", a.commit),
        ("GoVersion", a.toolchain),
        ("Os", a.os),
        ("Arch", a.arch),
        ("BuildTime", &a.built),
        ("Context", context),
    ];
    Value::map(fields.into_iter().map(|(k, v)| (Rc::from(k), Value::str(v))).collect())
}

fn both(client: Value, server: Option<&[u8]>) -> Result<Value> {
    let server = match server {
        Some(bytes) => {
            // The original shows the engine's own date in the client's form.
            let mut info: VersionInfo = crate::api::decode::from_slice(bytes)?;
            for component in info.components.iter_mut().filter(|c| c.name == "Engine") {
                if let Some(built) = component.details.as_mut().and_then(|d| d.get_mut("BuildTime")) {
                    *built = date(built);
                }
            }
            Value::from_serialize(&info)?
        }
        None => Value::Nil,
    };
    let both = Value::map(vec![(Rc::from("Client"), client), (Rc::from("Server"), server)]);
    Ok(shape::object(both).into_struct("system.versionInfo"))
}

fn plain(api: &str, context: &str, server: Option<&[u8]>) -> Result<String> {
    let a = about();
    let mut text = String::from("Client:\n");
    let mut line = |name: &str, value: &str| writeln!(text, " {name}:\t{value}");
    let default = api_version::MAX.to_string();
    let shown = if api == default { api.to_owned() } else { format!("{api} (downgraded from {default})") };
    let written = [
        ("Version", a.version),
        ("API version", &shown),
        ("Go version", a.toolchain),
        ("Git commit", a.commit),
        ("Built", &a.built),
        ("OS/Arch", &format!("{}/{}", a.os, a.arch)),
        ("Context", context),
    ];
    for (name, value) in written {
        let _ = line(name, value);
    }
    if let Some(bytes) = server {
        server_text(&mut text, &crate::api::decode::from_slice(bytes)?);
    }
    Ok(table::align(&text, (20, 1)))
}

fn server_text(text: &mut String, server: &VersionInfo) {
    let platform = if server.platform.name.is_empty() { String::new() } else { format!(" {}", server.platform.name) };
    let _ = write!(text, "\nServer:{platform}\n");
    for component in &server.components {
        let details = component.details.clone().unwrap_or_default();
        let detail = |name: &str| details.get(name).map_or("", String::as_str);
        let _ = write!(text, " {}:\n  Version:\t{}\n", component.name, component.version);
        if component.name != "Engine" {
            for (name, value) in &details {
                let _ = writeln!(text, "  {name}:\t{value}");
            }
            continue;
        }
        let (api, least) = (detail("ApiVersion"), detail("MinAPIVersion"));
        let least = if least.is_empty() { String::new() } else { format!(" (minimum version {least})") };
        let _ = writeln!(text, "  API version:\t{api}{least}");
        let _ = writeln!(text, "  Go version:\t{}", detail("GoVersion"));
        let _ = writeln!(text, "  Git commit:\t{}", detail("GitCommit"));
        let _ = writeln!(text, "  Built:\t{}", date(detail("BuildTime")));
        let _ = writeln!(text, "  OS/Arch:\t{}/{}", detail("Os"), detail("Arch"));
        let _ = writeln!(text, "  Experimental:\t{}", detail("Experimental"));
    }
}

impl Verb for Version {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let template = match object_template(self.format.as_deref().unwrap_or_default(), "version") {
            Ok(template) => template,
            Err(message) => {
                writeln!(cx.err, "{message}")?;
                return Ok(ExitCode::from(BAD_TEMPLATE));
            }
        };
        let context = crate::cli::host::context_name(cx)?;
        let client = cx.client()?;
        let (server, failure) = match client.get("/version").bytes() {
            Ok(bytes) => (Some(bytes), None),
            Err(e) => (None, Some(e)),
        };
        let api = client.settled().unwrap_or_else(|| api_version::MAX.to_string());
        let printed = match &template {
            Some(template) => both(client_value(&api, &context), server.as_deref())
                .and_then(|both| print_object(&mut cx.out, template, &both)),
            None => plain(&api, &context, server.as_deref()).and_then(|text| Ok(cx.out.write_all(text.as_bytes())?)),
        };
        // That nobody answered explains why a template found no server.
        match failure {
            Some(e) => Err(e),
            None => printed.map(|()| ExitCode::SUCCESS),
        }
    }
}
