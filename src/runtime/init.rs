//! The pid-1 reaper and signal forwarder of `--init`, run inside the container
//! as `/sbin/docker-init -- CMD`. One thread.
//!
//! Invariant: forwards every signal it can catch to the command, reaps whatever
//! becomes its child, ends with the command's status. It was executed from a
//! read-only mount (CVE-2019-5736): /proc/1/exe leads to nothing writable.

use crate::sys::process::{self, ExecArray, Forked, Who};
use crate::sys::{fd, signal};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// argv[0], and where the program is to be seen.
pub const PATH: &CStr = c"/sbin/docker-init";

/// Entry point under the name `docker-init`.
pub fn main(args: &[OsString]) -> ExitCode {
    let command = match args.first() {
        Some(first) if first == "--" => &args[1..],
        _ => args,
    };
    if command.is_empty() {
        return ExitCode::from(125);
    }
    match run(command) {
        Ok(code) => ExitCode::from(code as u8),
        Err(_) => ExitCode::from(125),
    }
}

fn run(command: &[OsString]) -> nix::Result<i32> {
    // Executed by descriptor, it would be known by the file's name.
    let _ = nix::sys::prctl::set_name(c"docker-init");
    let mask = SigSet::all();
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC)?;
    let pid = match process::clone(0, None)? {
        Forked::Child => execute(command),
        Forked::Parent { pid, .. } => pid,
    };
    loop {
        let Some(info) = signals.read_signal()? else { continue };
        let number = info.ssi_signo as i32;
        if number != libc::SIGCHLD {
            // To the whole group where the command leads one, as tini's -g does
            // not: the plain default is the command alone.
            let _ = signal::kill(pid, number);
            continue;
        }
        while let Ok(Some(ended)) = process::wait(Who::Any, false) {
            if ended.pid == pid {
                return Ok(ended.status.code());
            }
        }
    }
}

/// A session leader that can hold the terminal, with default signals.
fn execute(command: &[OsString]) -> ! {
    signal::reset_all();
    // Its own process group in the foreground, so that ctrl-c reaches it and not
    // the reaper alone.
    let own = nix::unistd::getpid();
    let _ = nix::unistd::setpgid(own, own);
    let _ = nix::unistd::tcsetpgrp(fd::standard(0), own);
    let args: Vec<CString> = command.iter().filter_map(|a| CString::new(a.as_bytes()).ok()).collect();
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(k, v)| CString::new([k.as_bytes(), b"=", v.as_bytes()].concat()).ok())
        .collect();
    let arguments = ExecArray::new(args.iter().map(CString::as_c_str));
    let environment = ExecArray::new(env.iter().map(CString::as_c_str));
    let mut errno = nix::errno::Errno::ENOENT;
    for candidate in candidates(&command[0]) {
        errno = process::execve(&candidate, &arguments, &environment);
        if !matches!(errno, nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR | nix::errno::Errno::EACCES) {
            break;
        }
    }
    let words = format!("exec {}: {}\n", command[0].display(), errno.desc().to_lowercase());
    let _ = nix::unistd::write(fd::standard(2), words.as_bytes());
    process::exit_now(if errno == nix::errno::Errno::ENOENT { 127 } else { 126 })
}

fn candidates(command: &OsString) -> Vec<CString> {
    if command.as_bytes().contains(&b'/') {
        return CString::new(command.as_bytes()).into_iter().collect();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter_map(|dir| CString::new(dir.join(command).into_os_string().as_bytes()).ok())
        .collect()
}
