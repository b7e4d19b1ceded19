//! The corpus: one case for each row of the Dockerfile's language, with what the
//! real builders made of it (`corpus/record.py` asks them). A case's head says
//! whose answer stands there: `buildkit`, `both` builders, or `ours` where a row is
//! newer than the BuildKit of 28.5.
//!
//!     === NAME: what it shows
//!     flags: of docker build; @x is the context's x
//!     --- Dockerfile · file PATH [mode= mtime= crlf bom] · base64 PATH · link PATH TARGET · dir PATH
//!     --- run       a script in the image, and `--- out` what it prints
//!     --- config    of the image
//!     --- error     the build fails with these words

use crate::harness::{Client, Daemon, Output, probe};
use crate::need;
use base64::Engine as _;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

pub(super) struct Case {
    pub(super) name: String,
    options: BTreeMap<String, String>,
    pub(super) sections: Vec<(String, String)>,
}

pub(super) fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.split_inclusive('\n') {
        if let Some(title) = line.strip_prefix("=== ") {
            // The blank line in front of it is none of the last section.
            if let Some((_, body)) = cases.last_mut().and_then(|c| c.sections.last_mut()) {
                body.pop();
            }
            let name = title.split(':').next().unwrap().to_owned();
            cases.push(Case { name, options: BTreeMap::new(), sections: Vec::new() });
            continue;
        }
        let case = cases.last_mut().expect("a file begins with a case");
        if let Some(section) = line.strip_prefix("--- ") {
            case.sections.push((section.trim_end().to_owned(), String::new()));
        } else if let Some((_, body)) = case.sections.last_mut() {
            body.push_str(line);
        } else if let Some((key, value)) = line.trim_end().split_once(": ") {
            case.options.insert(key.to_owned(), value.to_owned());
        }
    }
    cases
}

impl Case {
    fn section(&self, name: &str) -> Option<&str> {
        self.sections.iter().find(|(n, _)| n == name).map(|(_, body)| body.as_str())
    }

    pub(super) fn lay_out(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        for (head, body) in &self.sections {
            let mut words: Vec<&str> = head.split(' ').collect();
            if words[0] == "Dockerfile" {
                words = vec!["file", "Dockerfile"];
            }
            if !matches!(words[0], "file" | "base64" | "link" | "dir") {
                continue;
            }
            let path = folder.join(words[1].replace("%20", " "));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match words[0] {
                "dir" => fs::create_dir(&path).unwrap(),
                "link" => std::os::unix::fs::symlink(words[2], &path).unwrap(),
                kind => write(&path, kind, body, &words[2..]),
            }
        }
    }
}

fn write(path: &Path, kind: &str, body: &str, options: &[&str]) {
    let mut bytes = body.as_bytes().to_vec();
    if kind == "base64" {
        let text: String = body.split_whitespace().collect();
        bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    }
    if options.contains(&"crlf") {
        bytes = body.replace('\n', "\r\n").into_bytes();
    }
    if options.contains(&"bom") {
        bytes.splice(0..0, *b"\xef\xbb\xbf");
    }
    let option = |key: &str| options.iter().find_map(|o| o.strip_prefix(key)?.strip_prefix('='));
    fs::write(path, bytes).unwrap();
    let mode = u32::from_str_radix(option("mode").unwrap_or("644"), 8).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if let Some(time) = option("mtime") {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time.parse().unwrap());
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
}

fn build(d: &Daemon, case: &Case, folder: &Path) -> Output {
    let shown = folder.display().to_string();
    let flags = case.options.get("flags").map_or("", String::as_str);
    let mut flags: Vec<String> = flags.split(' ').map(|f| f.replace('@', &format!("{shown}/"))).collect();
    flags.retain(|f| !f.is_empty());
    if let Some(at) = flags.iter().position(|f| f == "-f") {
        flags[at + 1] = format!("{shown}/{}", flags[at + 1]);
    }
    let mut args = vec!["build", "--network", "none", "-t", &case.name];
    args.extend(flags.iter().map(String::as_str));
    args.push(&shown);
    d.with(Client::Ours, &args)
}

const KEYS: &[&str] = &[
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck",
    "OnBuild", "Shell",
];

/// One line for each field that says something.
fn config(d: &Daemon, image: &str) -> String {
    let shown: serde_json::Value = serde_json::from_str(&d.inspect(image, "{{json .}}")).unwrap();
    let says = |v: &serde_json::Value| match v {
        serde_json::Value::Null => false,
        serde_json::Value::String(text) => !text.is_empty(),
        serde_json::Value::Array(list) => !list.is_empty(),
        serde_json::Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    let fields = KEYS.iter().map(|key| (*key, &shown["Config"][*key])).chain([("Author", &shown["Author"])]);
    fields.filter(|(_, v)| says(v)).map(|(key, value)| format!("{key}: {value}\n")).collect()
}

/// What is wrong with a case; nothing if it is as recorded.
fn judge(d: &Daemon, case: &Case) -> Option<String> {
    let folder = d.scratch.join(format!("corpus/{}", case.name));
    case.lay_out(&folder);
    if let Some(parent) = case.options.get("before") {
        d.docker(&["build", "--network", "none", "-t", parent, folder.join("parent").to_str().unwrap()]).ok();
    }
    let built = build(d, case, &folder);
    if let Some(words) = case.section("error") {
        let told = built.code != 0 && built.stderr.contains(words.trim_end());
        return (!told).then(|| format!("expected an error with {words:?}\n{built}"));
    }
    if built.code != 0 {
        return Some(built.to_string());
    }
    let mut wrong = String::new();
    let mut compare = |what: &str, wanted: &str, got: &str| {
        if wanted != got {
            wrong.push_str(&format!("--- {what}, recorded\n{wanted}--- {what}, ours\n{got}"));
        }
    };
    if let Some(script) = case.section("run") {
        let args = ["run", "--rm", "--network", "none", "--entrypoint", "sh", &case.name, "-c", script];
        compare("output", case.section("out").unwrap_or("nothing recorded\n"), &d.docker(&args).stdout);
    }
    if let Some(wanted) = case.section("config") {
        compare("configuration", wanted, &config(d, &case.name));
    }
    (!wrong.is_empty()).then_some(wrong)
}

fn all(text: &str) {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let cases = parse(text);
    let wrong: Vec<String> =
        cases.iter().filter_map(|case| Some(format!("=== {}\n{}", case.name, judge(&d, case)?))).collect();
    assert!(wrong.is_empty(), "{} of {} cases\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    d.docker(&["ps", "-aq"]).prints("");
}

#[test]
fn stages() {
    all(include_str!("corpus/from.txt"));
}

#[test]
fn configuration() {
    all(include_str!("corpus/config.txt"));
}

#[test]
fn files() {
    all(include_str!("corpus/files.txt"));
}

#[test]
fn commands() {
    all(include_str!("corpus/run.txt"));
}

#[test]
fn errors() {
    all(include_str!("corpus/errors.txt"));
}

/// No row of the language is without a case that is there.
#[test]
fn every_row_has_its_proof() {
    let texts = ["from", "config", "files", "run", "errors"];
    let source = |path: &str| fs::read_to_string(crate::tidy::root().join("tests/build").join(path)).unwrap();
    let cases: Vec<String> =
        texts.iter().flat_map(|name| parse(&source(&format!("corpus/{name}.txt")))).map(|case| case.name).collect();
    let there = |proof: &str| match proof.split_once("::") {
        Some((file, test)) => source(&format!("{file}.rs")).contains(&format!("fn {test}() {{")),
        None => cases.iter().any(|case| case == proof),
    };
    for row in source("corpus/rows.tsv").lines().filter(|l| !l.starts_with('#')) {
        let proofs: Vec<&str> = row.split('\t').nth(2).unwrap_or_default().split(' ').collect();
        assert!(proofs.iter().all(|p| there(p)), "{row}");
    }
}
