//! The house rules (ARCHITECTURE.md, "Layers") as assertions over the source text.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Left may use right and itself, nothing else. `error` is open to all but `sys`,
/// `log` likewise.
const EDGES: &[(&str, &[&str])] = &[
    // `docker manifest` speaks with registries itself, and both ends read references.
    (
        "cli",
        &["client", "api", "util", "sys", "image::digest", "image::manifest", "image::reference", "image::registry"],
    ),
    ("client", &["api", "util", "sys"]),
    ("daemon", &["server", "engine", "runtime", "net", "storage", "image", "api", "util", "sys"]),
    ("server", &["engine", "api", "util", "sys"]),
    ("engine", &["runtime", "storage", "image", "net", "api", "util", "sys"]),
    ("image", &["storage", "util", "sys"]),
    ("runtime", &["util", "sys"]),
    ("storage", &["util", "sys"]),
    ("net", &["util", "sys"]),
    ("api", &["util"]),
    ("util", &[]),
    ("sys", &[]),
    ("error", &[]),
    ("log", &["util"]),
];

const MAX_LINES: usize = 800;

/// The tree under test: `make test` runs a copy that its unprivileged user can read.
pub(crate) fn root() -> PathBuf {
    std::env::var_os("CORACLE_SOURCE").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let root = root();
    let mut paths = Vec::new();
    walk(&root.join("src"), &mut paths);
    paths.sort();
    paths.into_iter().map(|p| (p.strip_prefix(&root).unwrap().to_owned(), fs::read_to_string(&p).unwrap())).collect()
}

fn layer(path: &Path) -> String {
    let first = path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The code without comment lines and without the unit tests at the foot.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end].lines().enumerate().map(|(n, l)| (n + 1, l)).filter(|(_, l)| !l.trim_start().starts_with("//"))
}

fn report(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn layers_keep_to_their_edges() {
    let edges: BTreeMap<_, _> = EDGES.iter().copied().collect();
    let mut found = Vec::new();
    for (path, text) in sources() {
        let from = layer(&path);
        if matches!(from.as_str(), "main" | "lib") {
            continue;
        }
        let allowed = edges.get(from.as_str()).unwrap_or_else(|| panic!("{} belongs to no layer", path.display()));
        for (n, line) in code(&text) {
            for used in line.split("crate::").skip(1) {
                let to: String =
                    used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == ':').collect();
                let head = to.split("::").next().unwrap_or("");
                let common = matches!(head, "error" | "log" | "debug" | "info" | "warn" | "fatal") && from != "sys";
                let ok = head.is_empty()
                    || head == from
                    || common
                    || allowed.iter().any(|a| to == *a || to.starts_with(&format!("{a}::")) || head == *a);
                if !ok {
                    found.push(format!("{}:{n}: {from} may not use {to}", path.display()));
                }
            }
        }
    }
    report("edges that do not exist", found);
}

/// Each further deserializer or serializer is another copy of every type's code.
#[test]
fn types_and_json_meet_in_one_place() {
    let mut found = Vec::new();
    for (path, text) in sources().into_iter().filter(|(p, _)| p != Path::new("src/util/json.rs")) {
        for (n, line) in code(&text) {
            if line.contains("serde_json::from_") || line.contains("serde_json::to_") {
                found.push(format!("{}:{n}: {}", path.display(), line.trim()));
            }
        }
    }
    report("JSON not by way of util::json", found);
}

#[test]
fn every_file_says_what_it_is() {
    let found =
        sources().into_iter().filter(|(_, t)| !t.starts_with("//!")).map(|(p, _)| p.display().to_string()).collect();
    report("files that do not open with //!", found);
}

#[test]
fn no_file_is_too_long() {
    let found = sources()
        .into_iter()
        .map(|(p, t)| (p, t.lines().count()))
        .filter(|(_, n)| *n > MAX_LINES)
        .map(|(p, n)| format!("{} has {n} lines", p.display()))
        .collect();
    report("files that want a seam", found);
}

#[test]
fn unsafe_stays_in_sys_and_argues() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let in_sys = layer(&path) == "sys";
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            if trimmed.starts_with("//")
                || !(line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl"))
            {
                continue;
            }
            if !in_sys {
                found.push(format!("{}:{}: unsafe outside src/sys", path.display(), i + 1));
            } else if !lines[i.saturating_sub(8)..=i].iter().any(|l| l.contains("SAFETY") || l.contains("# Safety")) {
                found.push(format!("{}:{}: unsafe without a SAFETY argument", path.display(), i + 1));
            }
        }
    }
    report("unsafe", found);
}

#[test]
fn nothing_is_left_undone() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (n, line) in code(&text) {
            if ["todo!(", "unimplemented!(", "FIXME", "XXX", "dbg!("].iter().any(|w| line.contains(w)) {
                found.push(format!("{}:{n}: {}", path.display(), line.trim()));
            }
        }
    }
    report("unfinished", found);
}

/// `println!` and friends panic on a closed pipe; `exit` skips destructors.
#[test]
fn nobody_prints_or_exits_on_the_side() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (n, line) in code(&text) {
            for word in ["println!(", "eprintln!(", "print!(", "eprint!(", "process::exit("] {
                if line.contains(word) {
                    found.push(format!("{}:{n}: {}", path.display(), line.trim()));
                    break;
                }
            }
        }
    }
    report("printing or exiting", found);
}
