//! `docker events`.

use crate::api::events::Message;
use crate::cli::context::Context;
use crate::cli::format::object_template;
use crate::cli::format::template::Template;
use crate::cli::format::value::{Fields, Value};
use crate::cli::inspect::BAD_TEMPLATE;
use crate::cli::lists;
use crate::cli::tree::Verb;
use crate::error::Result;
use crate::util::json;
use crate::util::time::{Timestamp, rfc3339_nano_fixed};
use argh::{ArgsInfo, FromArgs};
use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;
use std::rc::Rc;

/// Show what happens in the daemon, live
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Events {
    /// show only what matches
    #[argh(option, short = 'f', arg_name = "filter")]
    pub filter: Vec<String>,
    /// output as "json", or by a Go template
    #[argh(option, arg_name = "string")]
    pub format: Option<String>,
    /// start at this time: a date ("2013-01-02T13:23:37Z") or so long ago ("42m")
    #[argh(option, arg_name = "string")]
    pub since: Option<String>,
    /// end at this time: a date ("2013-01-02T13:23:37Z") or so long ago ("42m")
    #[argh(option, arg_name = "string")]
    pub until: Option<String>,
}

fn plain(message: &Message) -> String {
    let stamp = match message.time_nano {
        0 => rfc3339_nano_fixed(Timestamp::from_parts(message.time, 0)),
        nanos => rfc3339_nano_fixed(Timestamp(i128::from(nanos))),
    };
    let actor = &message.actor;
    let mut text = format!("{stamp} {} {} {}", message.kind, message.action, actor.id);
    if !actor.attributes.is_empty() {
        let pairs: Vec<String> = actor.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        text.push_str(&format!(" ({})", pairs.join(", ")));
    }
    text
}

fn render(template: &Template, message: &Message) -> Result<String, String> {
    let fields = |type_name, fields| Value::Struct(Rc::new(Fields { type_name, fields }));
    let text = |name: &str, value: &str| (Rc::from(name), Value::str(value));
    let attributes = message.actor.attributes.iter().map(|(k, v)| (Rc::from(k.as_str()), Value::str(v))).collect();
    let actor = vec![text("ID", &message.actor.id), (Rc::from("Attributes"), Value::map(attributes))];
    let all = vec![
        text("Status", &message.status),
        text("ID", &message.id),
        text("From", &message.from),
        text("Type", &message.kind),
        text("Action", &message.action),
        (Rc::from("Actor"), fields("events.Actor", actor)),
        text("Scope", &message.scope),
        (Rc::from("Time"), Value::Int(message.time.into())),
        (Rc::from("TimeNano"), Value::Int(message.time_nano.into())),
    ];
    template.render(&fields("*events.Message", all))
}

impl Verb for Events {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let template = match object_template(self.format.as_deref().unwrap_or_default(), "") {
            Ok(template) => template,
            Err(message) => {
                let message = message.trim_start_matches("template parsing error: ");
                writeln!(cx.err, "Error parsing format: {message}")?;
                return Ok(ExitCode::from(BAD_TEMPLATE));
            }
        };
        // A template that fits no event is refused before the first one comes.
        if let Some(Err(e)) = template.as_ref().map(|t| render(t, &Message::default())) {
            writeln!(cx.err, "Error parsing format: {e}")?;
            return Ok(ExitCode::from(BAD_TEMPLATE));
        }
        let raw = self.format.as_deref().is_some_and(|f| matches!(f.trim(), "json" | "{{json .}}" | "{{ json . }}"));
        let filters = lists::filters(&self.filter);
        let since = self.since.as_deref().map(lists::instant).transpose()?;
        let until = self.until.as_deref().map(lists::instant).transpose()?;
        let client = cx.client()?;
        let request = client.get("/events").query_opt("since", since).query_opt("until", until);
        let mut lines = BufReader::new(request.query_filters(&filters).send()?);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            if lines.read_until(b'\n', &mut bytes)? == 0 {
                return Ok(ExitCode::SUCCESS);
            }
            let message: Message = crate::api::decode::from_slice(&bytes)?;
            let text = match &template {
                _ if raw => json::from_slice::<Value>(&bytes)?.to_json(false),
                Some(template) => match render(template, &message) {
                    Ok(text) => text,
                    Err(e) => {
                        writeln!(cx.err, "Error parsing format: {e}")?;
                        return Ok(ExitCode::from(BAD_TEMPLATE));
                    }
                },
                None => plain(&message),
            };
            writeln!(cx.out, "{text}")?;
            cx.out.flush()?;
        }
    }
}
