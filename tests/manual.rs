//! The committed man pages and completions are what `coracle docs` writes.

use argh::ArgsInfo;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn generated_files_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = coracle::cli::manual::files(&coracle::daemon::flags::Flags::get_args_info());
    let mut wrong = Vec::new();
    for (name, text) in &files {
        if fs::read_to_string(root.join(name)).ok().as_deref() != Some(text) {
            wrong.push(name.clone());
        }
    }
    let known: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    for folder in ["man", "completions"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let name = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
            if !known.contains(name.as_str()) {
                wrong.push(format!("{name} (nobody writes it)"));
            }
        }
    }
    assert!(wrong.is_empty(), "run `make generated` and commit; not current:\n  {}", wrong.join("\n  "));
}
