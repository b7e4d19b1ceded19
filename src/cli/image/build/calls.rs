//! What `docker build --check` and `--call` print instead of building: the words and the
//! order of buildx. Runs in the client.

use crate::api::build::{Finding, Outline, Parameter, Targets};
use crate::cli::context::Context;
use crate::cli::manifest::lists::indent;
use crate::error::Result;
use crate::util::json;
use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

/// What `--check` found, each with its place; a finding is an exit code of 1.
pub(super) fn findings(
    cx: &mut Context,
    all: &[Finding],
    strict: bool,
    shown: &dyn Fn(&str) -> String,
) -> Result<ExitCode> {
    match all.len() {
        0 => writeln!(cx.out, "Check complete, no warnings found.")?,
        1 => writeln!(cx.out, "Check complete, 1 warning has been found!")?,
        n => writeln!(cx.out, "Check complete, {n} warnings have been found!")?,
    }
    for finding in all {
        let place = kebab(&finding.rule);
        writeln!(
            cx.out,
            "\nWARNING: {} - https://docs.docker.com/go/dockerfile/rule/{place}/\n{}\n{}:{}\n--------------------",
            finding.rule,
            finding.message,
            shown(&finding.file),
            finding.line
        )?;
        for (n, line) in (finding.first..).zip(&finding.source) {
            let mark = if (finding.line..=finding.end).contains(&n) { ">>>" } else { "   " };
            writeln!(cx.out, " {n:3} | {mark} {line}")?;
        }
        writeln!(cx.out, "--------------------")?;
    }
    if all.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if strict {
        writeln!(cx.out)?;
        cx.out.flush()?;
        let rules: BTreeSet<&str> = all.iter().map(|f| f.rule.as_str()).collect();
        let rules: Vec<&str> = rules.into_iter().collect();
        writeln!(cx.err, "ERROR: lint violation found for rules: {}", rules.join(", "))?;
    }
    Ok(ExitCode::FAILURE)
}

/// The answer to another call, whose JSON is `text`.
pub(super) fn answer(cx: &mut Context, call: &str, text: &str, as_json: bool) -> Result<ExitCode> {
    if as_json {
        writeln!(cx.out, "{}", indent(text, "  "))?;
    } else if call == "targets" {
        targets_table(cx, &json::from_str(text)?)?;
    } else {
        outline_tables(cx, &json::from_str(text)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn targets_table(cx: &mut Context, all: &Targets) -> Result<()> {
    let row = |t: &crate::api::build::Target| {
        let name = match (t.name.as_str(), t.default) {
            ("", true) => "(default)".to_owned(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        vec![name, t.description.clone()]
    };
    let rows = all.targets.iter().map(row).collect();
    table(cx, &["TARGET", "DESCRIPTION"], rows, 1)
}

fn outline_tables(cx: &mut Context, outline: &Outline) -> Result<()> {
    if !outline.name.is_empty() {
        if outline.description.is_empty() {
            writeln!(cx.out, "TARGET: {}\n", outline.name)?;
        } else {
            writeln!(cx.out, "TARGET:      {}\nDESCRIPTION: {}\n", outline.name, outline.description)?;
        }
    }
    let argument = |p: &Parameter| vec![p.name.clone(), p.value.clone(), p.description.clone()];
    let required = |p: &Parameter| vec![p.name.clone(), if p.required { "true" } else { "" }.to_owned()];
    let tables: [(&[&str], Vec<Vec<String>>); 3] = [
        (&["BUILD ARG", "VALUE", "DESCRIPTION"], outline.args.iter().map(argument).collect()),
        (&["SECRET", "REQUIRED"], outline.secrets.iter().map(required).collect()),
        (&["SSH", "REQUIRED"], outline.ssh.iter().map(required).collect()),
    ];
    for (head, rows) in tables {
        if !rows.is_empty() {
            table(cx, head, rows, 3)?;
            writeln!(cx.out)?;
        }
    }
    Ok(())
}

/// Columns as wide as their widest cell and `gap` more; the last one as it is.
fn table(cx: &mut Context, head: &[&str], rows: Vec<Vec<String>>, gap: usize) -> Result<()> {
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(ToString::to_string).collect()).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0) + gap;
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            match column + 1 == row.len() {
                true => writeln!(cx.out, "{cell}")?,
                false => write!(cx.out, "{cell:0$}", width(column))?,
            }
        }
    }
    Ok(())
}

/// `JSONArgsRecommended` as the documentation's address has it.
fn kebab(rule: &str) -> String {
    let letters: Vec<char> = rule.chars().collect();
    let mut out = String::new();
    for (i, letter) in letters.iter().enumerate() {
        let upper = |at: usize| letters.get(at).is_none_or(char::is_ascii_uppercase);
        if i > 0 && letter.is_ascii_uppercase() && (!upper(i - 1) || !upper(i + 1)) {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_rules() {
        for (rule, address) in [
            ("JSONArgsRecommended", "json-args-recommended"),
            ("SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env"),
            ("UndefinedVar", "undefined-var"),
        ] {
            assert_eq!(kebab(rule), address);
        }
    }
}
