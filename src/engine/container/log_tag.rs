//! The `tag` option of a log driver: a template over the container's facts, in
//! the part of Go's language that tags use: `{{.Field}}`, a function before it or
//! behind a bar. Pure but for the host's name.

use super::record::Record;
use crate::error::{Error, Result};
use crate::util::id;

/// The text of a tag for one container; refusals in Go's words.
pub fn render(template: &str, record: &Record) -> Result<String> {
    let failed = |text: String| Error::invalid(format!("template: log-tag:1{text}"));
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find("{{") {
        out.push_str(&rest[..open]);
        let inside = &rest[open + 2..];
        let close = inside.find("}}").ok_or_else(|| failed(": unclosed action".into()))?;
        let action = &inside[..close];
        let mut value: Option<String> = None;
        for stage in action.trim_matches(['-', ' ']).split('|') {
            let mut words = stage.split_whitespace();
            let first = words.next().ok_or_else(|| failed(": missing value for command".into()))?;
            let argument = words.next();
            let name = match (argument, &value) {
                (None, None) => first,
                (Some(name), None) => name,
                _ => "",
            };
            if let Some(field) = name.strip_prefix('.') {
                value = Some(self::field(record, field).ok_or_else(|| {
                    // Go counts from the line's begin to the dot.
                    let at = template.len() - inside.len() + action.find(name).unwrap_or_default();
                    failed(format!(
                        ":{at}: executing \"log-tag\" at <{name}>: can't evaluate field {field} in type *logger.Info"
                    ))
                })?);
            }
            if !first.starts_with('.') {
                let text = value.take().ok_or_else(|| failed(format!(": function \"{first}\" not defined")))?;
                value = Some(match first {
                    "upper" => text.to_uppercase(),
                    "lower" => text.to_lowercase(),
                    "json" => crate::util::json::to_string(&text).unwrap_or_default(),
                    "print" => text,
                    _ => return Err(failed(format!(": function \"{first}\" not defined"))),
                });
            }
        }
        out.push_str(&value.unwrap_or_default());
        rest = &inside[close + 2..];
    }
    out.push_str(rest);
    Ok(out)
}

fn field(record: &Record, name: &str) -> Option<String> {
    let start = |text: &str| text.get(..12).unwrap_or(text).to_owned();
    let command = || std::iter::once(&record.path).chain(&record.args).cloned().collect::<Vec<_>>().join(" ");
    Some(match name {
        "ID" => id::short(&record.id).to_owned(),
        "FullID" | "ContainerID" => record.id.clone(),
        "Name" => record.name.clone(),
        "ContainerName" => format!("/{}", record.name),
        // As Docker has it: the algorithm counts among the twelve.
        "ImageID" => start(&record.image_id),
        "ImageFullID" | "ContainerImageID" => record.image_id.clone(),
        "ImageName" | "ContainerImageName" => record.config.image.clone(),
        "Command" => command(),
        "ContainerEntrypoint" => record.path.clone(),
        "DaemonName" => "docker".to_owned(),
        "Hostname" => nix::unistd::gethostname().ok()?.to_string_lossy().into_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_rendered_or_refused() {
        let record =
            Record { name: "web".into(), id: "ab".repeat(32), image_id: "sha256:49793aa".into(), ..Record::default() };
        let text = |t: &str| render(t, &record).map_err(|e| e.message().to_owned());
        assert_eq!(text("{{.Name}}/{{ .ID }}"), Ok("web/abababababab".into()));
        assert_eq!(text("{{upper .Name}}-{{.ImageID}}-{{.Name | upper}}"), Ok("WEB-sha256:49793-WEB".into()));
        assert_eq!(text("plain"), Ok("plain".into()));
        assert_eq!(
            text("{{.Nope}}"),
            Err(
                "template: log-tag:1:2: executing \"log-tag\" at <.Nope>: can't evaluate field Nope in type *logger.Info"
                    .into()
            )
        );
        assert_eq!(text("{{"), Err("template: log-tag:1: unclosed action".into()));
        assert_eq!(text("{{nope .Name}}"), Err("template: log-tag:1: function \"nope\" not defined".into()));
    }
}
