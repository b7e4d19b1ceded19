//! `docker system dial-stdio`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::ExitCode;

/// Connect STDIN and STDOUT to the daemon
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct DialStdio {}

impl Verb for DialStdio {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut upstream = cx.client()?.dial()?;
        let mut answers = upstream.try_clone()?;
        // Ends with the daemon's side: the reader of stdin may hang for ever and
        // goes down with the process.
        std::thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            let mut buffer = [0u8; 32 * 1024];
            while let Ok(n @ 1..) = stdin.read(&mut buffer) {
                if upstream.write_all(&buffer[..n]).is_err() {
                    return;
                }
            }
            let _ = upstream.shutdown(Shutdown::Write);
        });
        let mut buffer = [0u8; 32 * 1024];
        loop {
            match answers.read(&mut buffer) {
                Ok(0) => return Ok(ExitCode::SUCCESS),
                Ok(n) => {
                    cx.out.raw().write_all(&buffer[..n])?;
                    cx.out.flush()?;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}
