//! The one executable: picks the role from the exact file name in argv[0] and
//! hands over to it. The only place, besides the runtime's own processes, that
//! ends a process.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    coracle::run(std::env::args_os().collect())
}
