//! `--change`: Dockerfile instructions on an image's configuration, for `commit`
//! and `import`. Pure.

use crate::engine::build::language::instruction::{Instruction, interpret};
use crate::engine::build::language::parser;
use crate::engine::build::state::{Scope, State};
use crate::error::{Error, Result};
use crate::image::config::ImageConfig;
use std::collections::BTreeMap;

const ALLOWED: [&str; 11] = [
    "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
];

/// The configuration with every change made, in order.
pub fn apply(config: ImageConfig, changes: &[String]) -> Result<ImageConfig> {
    let text = changes.join("\n");
    if text.trim().is_empty() {
        return Ok(config);
    }
    let file = parser::parse(&text).map_err(|e| Error::invalid(e.to_string()))?;
    let raw = config.raw.clone();
    let mut state = State::begin(config, Vec::new(), None, '\\');
    let (build_args, globals) = (BTreeMap::new(), BTreeMap::new());
    let scope = Scope { build_args: &build_args, globals: &globals };
    for node in &file.nodes {
        if !ALLOWED.contains(&node.keyword.as_str()) {
            return Err(Error::invalid(format!("{} is not a valid change command", as_written(&text, &node.keyword))));
        }
        let instruction = interpret(node, '\\').map_err(|e| Error::invalid(e.to_string()))?;
        match &instruction {
            Instruction::Workdir(path) => {
                state.workdir(path).map_err(|e| Error::invalid(e.to_string()))?;
            }
            other => {
                state.configure(other, &scope).map_err(|e| Error::invalid(e.to_string()))?;
            }
        }
    }
    state.config.raw = raw;
    Ok(state.config)
}

/// The parser keeps instructions in upper case; people want to see their own.
fn as_written<'a>(text: &'a str, keyword: &'a str) -> &'a str {
    let first = |line: &'a str| line.split_whitespace().next().filter(|w| w.eq_ignore_ascii_case(keyword));
    text.lines().find_map(first).unwrap_or(keyword)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_and_strangers_refused() {
        let change = |c: &[&str]| apply(ImageConfig::default(), &c.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let config = change(&["CMD [\"x\"]", "ENV A=1 B=2", "WORKDIR /a", "WORKDIR b", "EXPOSE 80"]).unwrap();
        assert_eq!(config.run.cmd, Some(vec!["x".into()]));
        assert_eq!(config.run.env, Some(vec!["A=1".into(), "B=2".into()]));
        assert_eq!(config.run.working_dir, "/a/b");
        assert_eq!(change(&["RUN x"]).unwrap_err().message(), "RUN is not a valid change command");
        assert!(change(&["nonsense x"]).is_err());
    }
}
