//! SIGUSR1: what every thread is doing, for a bug report. Main thread.

use crate::util::order;
use crate::util::time;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Writes the states of our threads below `exec_root` and says where.
pub fn dump(exec_root: &Path) {
    let stamp = time::rfc3339_nano(time::now()).replace([':', '.'], "");
    let path = exec_root.join(format!("thread-dump-{stamp}.log"));
    match fs::write(&path, text()) {
        Ok(()) => crate::info!(format!("thread states written to {}", path.display())),
        Err(e) => crate::error!("cannot write the thread states", "error" = e),
    }
}

fn text() -> String {
    let mut out = String::new();
    let mut tasks: Vec<_> = fs::read_dir("/proc/self/task").into_iter().flatten().flatten().collect();
    order::sort_by_key(&mut tasks, fs::DirEntry::file_name);
    for task in tasks {
        let read = |name: &str| {
            fs::read_to_string(task.path().join(name)).map_or_else(|e| format!("({e})"), |s| s.trim().to_owned())
        };
        let state = read("status");
        let field = |name: &str| state.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("").trim().to_owned();
        let _ = writeln!(
            out,
            "thread {} {:?} state {} wchan {} syscall {} switches {}",
            task.file_name().to_string_lossy(),
            read("comm"),
            field("State:"),
            read("wchan"),
            read("syscall"),
            field("voluntary_ctxt_switches:")
        );
    }
    let fds = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let _ = writeln!(out, "descriptors {fds}");
    out.push_str(&fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default());
    out
}
