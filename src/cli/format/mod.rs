//! How lists and objects become text: Go templates, aligned tables, human units.
//!
//! A list command has a table of columns (`List`) and rows of its own type; what
//! `--format` says is decided here, once for all of them. Pure.

pub mod gotypes;
pub mod human;
pub mod shape;
pub mod table;
pub mod template;
pub mod value;

use std::rc::Rc;

use crate::error::{Error, Result};
use template::{Header, Template};
use value::{Object, Value};

/// One column: the name in templates, the word above it, how a row gives it.
pub struct Column<T: 'static> {
    pub name: &'static str,
    pub header: &'static str,
    pub get: fn(&T) -> Value,
    /// Not a part of `{{json .}}`, like ps's Label.
    pub hidden: bool,
}

impl<T> Column<T> {
    pub const fn new(name: &'static str, header: &'static str, get: fn(&T) -> Value) -> Self {
        Self { name, header, get, hidden: false }
    }
}

/// What a list command can print.
pub struct List<T: 'static> {
    /// As Go's error names it: `*formatter.imageContext`.
    pub type_name: &'static str,
    pub columns: &'static [Column<T>],
    pub label: Option<fn(&T, &str) -> String>,
    /// The template of the plain table.
    pub table: &'static str,
    /// What `-q` prints of a row.
    pub quiet: &'static str,
    /// What `--format raw` prints of a row; empty where Docker has no such form.
    pub raw: &'static str,
}

struct Row<T: 'static> {
    item: T,
    list: &'static List<T>,
}

impl<T> Object for Row<T> {
    fn type_name(&self) -> &'static str {
        self.list.type_name
    }
    fn names(&self) -> Vec<&'static str> {
        self.list.columns.iter().filter(|c| !c.hidden).map(|c| c.name).collect()
    }
    fn field(&self, name: &str) -> Option<Value> {
        self.list.columns.iter().find(|c| c.name == name).map(|c| (c.get)(&self.item))
    }
    fn label(&self, key: &str) -> Option<Value> {
        self.list.label.map(|label| Value::from(label(&self.item, key)))
    }
}

impl<T> List<T> {
    pub fn row(&'static self, item: T) -> Value {
        Value::Object(Rc::new(Row { item, list: self }))
    }

    /// The text of `rows` in `format`; an empty one is the plain table.
    pub fn render(&'static self, format: &str, quiet: bool, rows: impl IntoIterator<Item = T>) -> Result<String> {
        let (source, is_table) = self.resolve(format, quiet);
        let template = Template::parse(&source).map_err(|e| Error::invalid(format!("template parsing error: {e}")))?;
        let mut text = String::new();
        for item in rows {
            let line =
                template.render(&self.row(item)).map_err(|e| Error::invalid(format!("template parsing error: {e}")))?;
            text.push_str(&line);
            text.push('\n');
        }
        if !is_table {
            return Ok(text);
        }
        let header = Header(self.columns.iter().map(|c| (c.name, c.header)).collect());
        // Docker ignores a header that fails: what came before it stays.
        let header = template.render_header(header).unwrap_or_default();
        Ok(table::align(&format!("{header}\n{text}"), table::LIST))
    }

    /// What `ps` does before it asks the daemon: parse, and run over an empty
    /// row, so that a wrong field is told even when the list is empty.
    pub fn check(&'static self, format: &str, quiet: bool, empty: T) -> Result<()> {
        let (source, _) = self.resolve(format, quiet);
        let template =
            Template::parse(&source).map_err(|e| Error::invalid(format!("failed to parse template: {e}")))?;
        template
            .render(&self.row(empty))
            .map(drop)
            .map_err(|e| Error::invalid(format!("failed to execute template: {e}")))
    }

    /// The template behind a `--format` word, and whether columns are aligned. Only
    /// the plain forms have a quiet one.
    fn resolve(&self, format: &str, quiet: bool) -> (String, bool) {
        let (source, table) = match format {
            "" | "table" if quiet => (self.quiet, false),
            "" | "table" => (self.table, true),
            "json" => ("{{json .}}", false),
            "raw" if !self.raw.is_empty() => (if quiet { self.quiet } else { self.raw }, false),
            _ => match format.strip_prefix("table") {
                Some(rest) => (rest, true),
                None => (format, false),
            },
        };
        (source.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n"), table)
    }
}

/// The template of `--format` for a single object (info, version, events); `None`
/// for no format. `name` is what Docker calls the template in errors.
pub fn object_template(format: &str, name: &str) -> Result<Option<Template>, String> {
    let source = match format {
        "" => return Ok(None),
        "json" => "{{json .}}",
        other => other,
    };
    let unescaped = source.replace("\\t", "\t").replace("\\n", "\n");
    Template::parse_named(name, &unescaped).map(Some).map_err(|e| format!("template parsing error: {e}"))
}

/// Prints a single object. What a failing template has written so far stays.
pub fn print_object(out: &mut impl std::io::Write, template: &Template, value: &Value) -> Result<()> {
    let (text, failure) = match template.render_partly(value) {
        Ok(text) => (text, None),
        Err((text, message)) => (text, Some(message)),
    };
    writeln!(out, "{text}")?;
    match failure {
        Some(message) => Err(Error::invalid(message)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static LIST: List<(&str, &str)> = List {
        type_name: "*x.rowContext",
        columns: &[
            Column::new("Name", "NAME", |r: &(&str, &str)| r.0.into()),
            Column::new("Size", "SIZE", |r| r.1.into()),
        ],
        label: Some(|_, key| key.to_uppercase()),
        table: "{{.Name}}\t{{.Size}}",
        quiet: "{{.Name}}",
        raw: "",
    };

    #[test]
    fn formats() {
        let rows = || vec![("a", "1B"), ("b<", "22B")];
        let show = |f: &str| LIST.render(f, false, rows()).map_err(|e| e.message().to_owned());
        assert_eq!(show("").unwrap(), "NAME      SIZE\na         1B\nb<        22B\n");
        assert_eq!(
            show("json").unwrap(),
            "{\"Name\":\"a\",\"Size\":\"1B\"}\n{\"Name\":\"b\\u003c\",\"Size\":\"22B\"}\n"
        );
        assert_eq!(show("{{.Name}}\\n").unwrap(), "a\n\nb<\n\n");
        assert_eq!(
            show("table {{.Nope}}").unwrap_err(),
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *x.rowContext"
        );
        assert_eq!(
            show("table {{upper .Name}}\\t{{.Label \"x.y-z\"}}").unwrap(),
            "NAME      y z\nA         X.Y-Z\nB<        X.Y-Z\n"
        );
        assert_eq!(
            show("{{.Label}}").unwrap_err(),
            "template parsing error: template: :1:2: executing \"\" at <.Label>: wrong number of args for Label: want 1 got 0"
        );
    }
}
