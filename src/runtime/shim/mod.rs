//! The shim: one process for each container and each exec, forked by the spawner
//! and never executing anything, so that its memory is the spawner's but for a
//! few pages. It starts the process, then owns its stdio, log and exit status.
//!
//! Life: plan → listen → clone → (child sets up, executes) → Started → serve →
//! exit record → Exited. dockerd may come and go at any point behind "listen".
//!
//! Invariant: one thread; ends by `exit_now` alone; never waits for a client, a
//! daemon or a disk further than one write; never dies with dockerd.

mod client;
mod keys;
mod serve;

use crate::error::Context;
use crate::runtime::plan::{self, Plan, Refusal, Table};
use crate::runtime::spec::{LogDriver, LogSpec, Stdio, UserNamespace};
use crate::runtime::wire::{self, AttachMeta, FromShim, Job, Names, Spawn, State, Work};
use crate::runtime::{child, logs, sentence, spawner};
use crate::sys::process::{self, Forked, Who, exit_now};
use crate::sys::{fd, memory, socket};
use crate::util::atomic_file::{self, Durability};
use crate::util::json;
use nix::fcntl::OFlag;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

const TITLE: &CStr = c"coracle-shim";
const WORK_LIMIT: u64 = 64 << 20;
/// Characters, which JSON may make six times as long.
const LONGEST_SENTENCE: usize = 4096;

/// What a started process leaves to be served.
struct Started {
    pid: i32,
    pidfd: OwnedFd,
    /// stdin's writing end, or the terminal.
    sink: Option<OwnedFd>,
    /// One terminal, or stdout and stderr.
    outputs: [Option<OwnedFd>; 2],
}

/// Where the shim keeps what outlives it.
struct Place {
    run_dir: PathBuf,
    names: Names,
}

/// Body of the process that the spawner has just forked.
pub fn main(request: Spawn, fds: Vec<OwnedFd>) -> ! {
    let keep: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let _ = fd::close_all_except(&keep);
    process::set_title(TITLE);
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    let mut fds = fds.into_iter();
    let (Some(control), Some(work)) = (fds.next(), fds.next()) else { exit_now(2) };
    let place = Place { names: Names::of(&request.id, request.exec), run_dir: request.run_dir };
    let status = match run(&place, &control, work, fds.collect()) {
        Ok(ready) => {
            let (started, rest) = *ready;
            memory::trim();
            serve::serve(&place, control, started, rest)
        }
        Err(refusal) => {
            let _ = std::fs::remove_file(place.run_dir.join(&place.names.socket));
            // An image may name a working directory that is longer than a message.
            let message = refusal.message.chars().take(LONGEST_SENTENCE).collect();
            let message = FromShim::Failed { message, invalid: refusal.invalid };
            let _ = wire::send(control.as_fd(), &message, b"", &[], true);
            0
        }
    };
    exit_now(status)
}

/// What serving needs besides the process itself.
struct Rest {
    listener: OwnedFd,
    log: Option<logs::Writer>,
    stdio: Stdio,
    attaches: Vec<(OwnedFd, AttachMeta)>,
    cgroup: Option<OwnedFd>,
}

fn run(place: &Place, control: &OwnedFd, work: OwnedFd, fds: Vec<OwnedFd>) -> Result<Box<(Started, Rest)>, Refusal> {
    let failed = |what: &str, e: &dyn std::fmt::Display| Refusal::new(format!("{what}: {e}"));
    let bytes = fd::read_all(work, WORK_LIMIT).map_err(|e| failed("read the spec", &e))?;
    let work: Work = json::from_slice(&bytes).map_err(|e| failed("read the spec", &e))?;
    drop(bytes);
    let mut fds = fds;
    if fds.len() < work.fds {
        return Err(Refusal::new("the spec's descriptors did not arrive"));
    }
    let mut others = fds.split_off(work.fds).into_iter();
    let table = Table::new(fds);
    let (plan, stdio, log) = match &work.job {
        Job::Container(spec) => (plan::container(spec, &table)?, spec.stdio, spec.log.clone()),
        Job::Exec(spec) => {
            let init = others.next().ok_or_else(|| Refusal::new("the container's process was not sent"))?;
            let pid = pid_of(&init).ok_or_else(|| Refusal::new("container is not running"))?;
            let none = LogSpec { driver: LogDriver::None, ring_bytes: None };
            (plan::exec(spec, init, pid, &table)?, spec.stdio, none)
        }
    };
    drop(table);
    let attaches: Vec<_> = others.zip(work.attaches).collect();
    let log = logs::Writer::open(&log).map_err(|e| failed("open the log", &e))?;
    let dir = File::open(&place.run_dir).map_err(|e| failed("open the run directory", &e))?;
    let listener =
        socket::listen_at(dir.as_fd(), &place.names.socket).map_err(|e| failed("bind the shim's socket", &e))?;
    drop(dir);
    let started = start(&plan, &stdio)?;
    let state =
        State { pid: started.pid, start_time: start_time(started.pid).unwrap_or_default(), nested: plan.nested };
    if let Ok(json) = json::to_vec(&state) {
        let _ = atomic_file::write(&place.run_dir.join(&place.names.state), &json, Durability::Renamed);
    }
    let message = FromShim::Started { pid: started.pid };
    let _ = wire::send(control.as_fd(), &message, b"", &[started.pidfd.as_fd()], true);
    let cgroup = plan.cgroup;
    Ok(Box::new((started, Rest { listener, log, stdio, attaches, cgroup })))
}

/// The pid behind a pidfd, as /proc shows it.
fn pid_of(pidfd: &OwnedFd) -> Option<i32> {
    use std::os::fd::AsRawFd;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    info.lines().find_map(|l| l.strip_prefix("Pid:")?.trim().parse().ok()).filter(|p| *p > 0)
}

/// Field 22 of /proc/PID/stat.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(19)?.parse().ok()
}

/// From outside, in the namespace above: only there may somebody map more than
/// the one id.
fn write_maps(pid: i32, maps: &UserNamespace) -> Result<(), crate::error::Error> {
    for (file, lines) in [("uid_map", &maps.uid_map), ("gid_map", &maps.gid_map)] {
        let text: String = lines.iter().map(|(inside, outside, n)| format!("{inside} {outside} {n}\n")).collect();
        let path = format!("/proc/{pid}/{file}");
        std::fs::write(&path, text).with_context(|| format!("write {path}"))?;
    }
    Ok(())
}

/// Clones the child and waits until it has executed its program or failed.
fn start(plan: &Plan, stdio: &Stdio) -> Result<Started, Refusal> {
    let failed = |what: &str, e: nix::errno::Errno| Refusal::new(format!("{what}: {}", plan::text(e)));
    let (ours, theirs) = socket::pair().map_err(|e| failed("make a socket pair", e))?;
    let streams = if stdio.tty { None } else { Some(Streams::make(stdio.open_stdin)?) };
    if let (Some(ns), None) = (&plan.join_pid, plan.crosses()) {
        // A pidfd names its process's namespaces, any other fd the one it is of.
        let kind = process::CLONE_NEWPID;
        process::enter(ns.as_fd(), kind).map_err(|e| failed("join the pid namespace", e))?;
    }
    let cgroup = plan.cgroup.as_ref().map(AsFd::as_fd);
    let cloned =
        process::clone(plan.clone_flags, cgroup).map_err(|e| failed("create the container's namespaces", e))?;
    let (pid, pidfd) = match cloned {
        Forked::Child => {
            drop(ours);
            let stdio = streams.as_ref().map(|s| s.theirs.each_ref().map(AsFd::as_fd));
            child::run(plan, &child::Ends { sync: theirs.as_fd(), stdio })
        }
        Forked::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    if let Some(maps) = &plan.user_namespace
        && let Err(e) = write_maps(pid, maps).and_then(|()| Ok(socket::send(ours.as_fd(), b"M", &[])?))
    {
        let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(Who::Pidfd(pidfd.as_fd()), true);
        return Err(Refusal::new(format!("{}map the ids of its user namespace: {e}", sentence::prefix(false))));
    }
    let mut started = Started { pid, pidfd, sink: None, outputs: [None, None] };
    if let Some(Streams { theirs, sink, outputs }) = streams {
        drop(theirs);
        started.sink = sink;
        started.outputs = outputs.map(Some);
    }
    begun(plan, &ours, &mut started)?;
    for end in started.outputs.iter().chain([&started.sink]).flatten() {
        let _ = fd::set_nonblocking(end.as_fd(), true);
    }
    Ok(started)
}

/// The two sides of a child's stdio without a terminal.
struct Streams {
    theirs: [OwnedFd; 3],
    sink: Option<OwnedFd>,
    outputs: [OwnedFd; 2],
}

impl Streams {
    fn make(open_stdin: bool) -> Result<Self, Refusal> {
        let pipe = || {
            let made = nix::unistd::pipe2(OFlag::O_CLOEXEC);
            made.map_err(|e| Refusal::new(format!("make a pipe: {}", plan::text(e))))
        };
        let (stdin, sink) = if open_stdin {
            let (read, write) = pipe()?;
            (read, Some(write))
        } else {
            let null = File::open("/dev/null").map_err(|e| Refusal::new(format!("open /dev/null: {e}")))?;
            (null.into(), None)
        };
        let (out, stdout) = pipe()?;
        let (err, stderr) = pipe()?;
        Ok(Self { theirs: [stdin, stdout, stderr], sink, outputs: [out, err] })
    }
}

/// Hears what the child says until it executes its program: of its terminal, of another
/// process that goes on in its place, of its failure.
fn begun(plan: &Plan, ours: &OwnedFd, started: &mut Started) -> Result<(), Refusal> {
    let (mut buffer, mut crossed) = ([0; 16], false);
    loop {
        match socket::receive(ours.as_fd(), &mut buffer, true) {
            Ok((1, mut fds)) if buffer[0] == b'P' && !fds.is_empty() => {
                let master = fds.remove(0);
                started.sink = fd::duplicate(master.as_fd()).ok();
                started.outputs = [Some(master), None];
            }
            Ok((1, mut fds)) if buffer[0] == b'C' && !fds.is_empty() && !crossed => {
                let _ = process::wait(Who::Pidfd(started.pidfd.as_fd()), true);
                // Who is in its namespace may speak in its place: only a child of ours can be it.
                let next = fds.remove(0);
                if let Some(pid) = pid_of(&next).filter(|pid| spawner::is_our_child(*pid)) {
                    (started.pid, started.pidfd, crossed) = (pid, next, true);
                }
            }
            Ok((3, mut fds)) if buffer[0] == b'F' && !fds.is_empty() => {
                let index = u16::from_ne_bytes([buffer[1], buffer[2]]);
                let _ = match plan::finish_proc(plan, index.into(), fds.remove(0)) {
                    Ok(made) => socket::send(ours.as_fd(), b"F", &[made.as_fd()]),
                    Err(e) => socket::send(ours.as_fd(), &(e as i32).to_ne_bytes(), &[]),
                };
            }
            Ok((8, _)) => {
                let _ = process::wait(Who::Pidfd(started.pidfd.as_fd()), true);
                let (message, invalid) = match child::Failure::from_bytes(&buffer[..8]) {
                    Some(failure) => sentence::of(plan, failure),
                    None => ("the container's process failed before it could say why".to_owned(), false),
                };
                return Err(Refusal { message, invalid });
            }
            // The socket closed itself: the program was executed.
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}
