//! What all `inspect` commands share: an array of objects, or a template over
//! each; failures are told after the rest.

use crate::util::json;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

use crate::cli::context::Context;
use crate::cli::format::gotypes;
use crate::cli::format::template::Template;
use crate::cli::format::value::Value;
use crate::error::{Error, Result};

/// Docker's status for a template that cannot be read.
pub const BAD_TEMPLATE: u8 = 64;

/// What each kind of object is to Go; the others are raw JSON.
fn type_of(kind: &str) -> &'static str {
    match kind {
        "container" => "container.InspectResponse",
        "image" => "image.InspectResponse",
        "network" => "network.Inspect",
        "volume" => "volume.Volume",
        _ => gotypes::RAW,
    }
}

/// Prints the object behind each name. `get` gives its kind and its JSON as the
/// daemon sent it.
pub fn run(
    cx: &mut Context,
    format: Option<&str>,
    names: &[String],
    mut get: impl FnMut(&mut Context, &str) -> Result<(&'static str, Vec<u8>)>,
) -> Result<ExitCode> {
    let parse = |(kind, bytes): (&str, Vec<u8>)| -> Result<Value> {
        let raw =
            json::from_slice(&bytes).map_err(|e| Error::system(format!("unexpected answer of the daemon: {e}")))?;
        Ok(Value::Go(type_of(kind), Rc::new(raw)))
    };
    print(cx, format, names, true, |cx, name| get(cx, name).and_then(parse))
}

/// What Go's types refuse, the raw JSON may allow: `index` by a member's name.
fn render(template: &Template, value: &Value) -> Result<String, String> {
    template.render(value).or_else(|first| match value {
        Value::Go(_, raw) => template.render(&Value::Go(gotypes::RAW, raw.clone())).map_err(|_| first),
        _ => Err(first),
    })
}

/// The same for values that are made here. `raw` objects have the daemon's JSON,
/// whose characters are not escaped; others are marshalled by the client.
pub fn print(
    cx: &mut Context,
    format: Option<&str>,
    names: &[String],
    raw: bool,
    mut get: impl FnMut(&mut Context, &str) -> Result<Value>,
) -> Result<ExitCode> {
    let format = format.unwrap_or("");
    let template = match format {
        "" | "json" => None,
        source => match Template::parse(source) {
            Ok(template) => Some(template),
            Err(e) => {
                writeln!(cx.err, "template parsing error: {e}")?;
                return Ok(ExitCode::from(BAD_TEMPLATE));
            }
        },
    };
    let mut failures = Vec::new();
    let mut values = Vec::new();
    let mut text = String::new();
    for name in names {
        match get(cx, name) {
            Err(e) => failures.push(e.message().to_owned()),
            Ok(value) => match &template {
                None => values.push(value),
                Some(template) => match render(template, &value) {
                    Ok(line) => text.extend([line.as_str(), "\n"]),
                    Err(e) => failures.push(format!("template parsing error: {e}")),
                },
            },
        }
    }
    match &template {
        Some(_) if text.is_empty() => text.push('\n'),
        Some(_) => {}
        None => {
            let all = Value::list(values);
            text = if format == "json" { all.to_json(!raw) } else { all.to_json_indented(!raw, "    ") };
            text.push('\n');
        }
    }
    cx.out.write_all(text.as_bytes())?;
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Error::system(failures.join("\n")))
}
