//! `-v`: binds with a source go to the host's part, a lone path is an anonymous volume.

use crate::api::Empty;
use crate::error::{Error, Result};
use crate::util::order;
use crate::util::path;
use std::collections::BTreeMap;

/// The values that have a source, each once; a source that starts with a dot is
/// taken from the current folder.
pub fn binds(values: &[String]) -> Result<Vec<String>> {
    let mut out: Vec<String> = Vec::new();
    for value in values {
        if value.is_empty() {
            return Err(Error::invalid("invalid empty volume spec"));
        }
        let Some((source, rest)) = value.split_once(':').filter(|_| has_source(value)) else { continue };
        let bind = if source.starts_with('.') { format!("{}:{rest}", absolute(source)) } else { value.clone() };
        if !out.contains(&bind) {
            out.push(bind);
        }
    }
    Ok(out)
}

/// The values that are a path in the container and nothing else.
pub fn anonymous(values: &[String]) -> Result<BTreeMap<String, Empty>> {
    if values.iter().any(String::is_empty) {
        return Err(Error::invalid("invalid empty volume spec"));
    }
    Ok(order::map(values.iter().filter(|v| !has_source(v)).map(|v| (v.clone(), Empty {}))))
}

fn has_source(value: &str) -> bool {
    value.split_once(':').is_some_and(|(source, _)| !source.is_empty())
}

/// The path from the current folder, cleaned as Go's filepath.Abs does.
pub fn absolute(path: &str) -> String {
    let base = std::env::current_dir().map(|d| d.to_string_lossy().into_owned()).unwrap_or_default();
    path::absolute(&format!("{base}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let values = own(&["/a:/b:ro", "/a:/b:ro", "v:/c", "/d"]);
        assert_eq!(binds(&values).unwrap(), ["/a:/b:ro", "v:/c"]);
        assert_eq!(anonymous(&values).unwrap().keys().collect::<Vec<_>>(), ["/d"]);
    }
}
