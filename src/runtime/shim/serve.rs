//! The shim's event loop: output to log and clients, input from clients, the
//! daemon's requests, the end.
//!
//! States: running → (process gone) draining, at most two seconds for output
//! that a grandchild may hold open for ever → reported → (the daemon has taken
//! it in, and closes the control socket) flushing to clients that are still
//! reading → gone. A client sees its stream end only when the daemon can tell
//! the exit status: `docker exec` asks for it at once.

use super::client::{Client, Input};
use super::{Place, Rest, Started};
use crate::runtime::cgroup;
use crate::runtime::handle::ExitRecord;
use crate::runtime::logs::{self, Stream};
use crate::runtime::spec::Stdio;
use crate::runtime::wire::{self, AttachMeta, FromShim, ToShim};
use crate::sys::process::{self, Who};
use crate::sys::{socket, term};
use crate::util::atomic_file::{self, Durability};
use crate::util::json;
use crate::util::time;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// As long as Docker waits for output after the process is gone.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a client that reads nothing at all keeps the shim after the end.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the daemon may take to close the control socket after `Exited`.
const ACKNOWLEDGE: Duration = Duration::from_secs(2);
/// On the stack, whose touched pages count for every shim.
const READ_SIZE: usize = 16 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Process,
    Listener,
    Control,
    Memory,
    Log,
    Output(usize),
    Sink,
    Client(usize),
}

struct Server<'a> {
    place: &'a Place,
    pid: i32,
    pidfd: OwnedFd,
    listener: OwnedFd,
    control: Option<OwnedFd>,
    log: Option<logs::Writer>,
    stdio: Stdio,
    sink: Option<OwnedFd>,
    /// stdin that the container has not taken yet.
    input: Vec<u8>,
    /// Close stdin when `input` is written.
    input_ends: bool,
    outputs: [Option<OwnedFd>; 2],
    /// A terminal that nobody holds open; it comes back only by an end.
    hung_up: bool,
    clients: Vec<Client>,
    cgroup: Option<OwnedFd>,
    /// Its memory.events, which poll tells of.
    memory_events: Option<OwnedFd>,
    oom_kills: u64,
    exited: Option<(ExitRecord, Instant)>,
    reported: Option<Instant>,
}

/// Serves until everything is told; the exit status of the shim itself.
pub fn serve(place: &Place, control: OwnedFd, started: Started, rest: Rest) -> i32 {
    let mut server = Server {
        place,
        pid: started.pid,
        pidfd: started.pidfd,
        listener: rest.listener,
        control: Some(control),
        log: rest.log,
        stdio: rest.stdio,
        sink: started.sink,
        input: Vec::new(),
        input_ends: false,
        outputs: started.outputs,
        hung_up: false,
        clients: Vec::new(),
        oom_kills: rest.cgroup.as_ref().map_or(0, |c| cgroup::oom_kills(c.as_fd())),
        memory_events: rest.cgroup.as_ref().and_then(|c| cgroup::memory_events(c.as_fd())),
        cgroup: rest.cgroup,
        exited: None,
        reported: None,
    };
    for (socket, meta) in rest.attaches {
        let leftover = meta.leftover.clone();
        server.attach(socket, &meta, &leftover);
    }
    while !server.done() {
        server.turn();
    }
    for client in &server.clients {
        client.close();
    }
    // The socket stays: a restart may already have put its own there.
    0
}

impl Server<'_> {
    fn done(&self) -> bool {
        self.acknowledged()
            && self.outputs.iter().all(Option::is_none)
            && (self.clients.iter().all(|c| c.dead || c.pending() == 0)
                || self.exited.is_some_and(|(_, at)| at.elapsed() > PATIENCE))
    }

    fn acknowledged(&self) -> bool {
        self.reported.is_some_and(|at| self.control.is_none() || at.elapsed() >= ACKNOWLEDGE)
    }

    fn turn(&mut self) {
        let sources = self.wait();
        // Output first, so that what was written before an exit or a detach is
        // seen before it.
        for (source, flags) in &sources {
            match source {
                Source::Output(i) => self.read_output(*i),
                Source::Client(i) => self.serve_client(*i, *flags),
                Source::Sink => self.write_input(),
                Source::Log => self.log.iter_mut().for_each(logs::Writer::pump),
                _ => {}
            }
        }
        for (source, _) in &sources {
            match source {
                Source::Memory => self.look_for_oom(),
                Source::Process => self.reap(),
                Source::Control => self.serve_control(),
                Source::Listener => self.accept(),
                _ => {}
            }
        }
        self.sweep();
        self.settle();
    }

    /// Polls everything that is of interest now.
    fn wait(&self) -> Vec<(Source, PollFlags)> {
        let (read, write) = (PollFlags::POLLIN, PollFlags::POLLOUT);
        let mut fds: Vec<(Source, PollFd<'_>)> = Vec::with_capacity(6 + self.clients.len());
        if self.exited.is_none() {
            fds.push((Source::Process, PollFd::new(self.pidfd.as_fd(), read)));
        }
        fds.push((Source::Listener, PollFd::new(self.listener.as_fd(), read)));
        if let Some(control) = &self.control {
            fds.push((Source::Control, PollFd::new(control.as_fd(), read)));
        }
        if let Some(events) = self.memory_events.as_ref().filter(|_| self.exited.is_none()) {
            fds.push((Source::Memory, PollFd::new(events.as_fd(), PollFlags::POLLPRI)));
        }
        let congested = self.clients.iter().any(Client::congested);
        if !congested && !self.hung_up {
            for (i, output) in self.outputs.iter().enumerate() {
                if let Some(fd) = output {
                    fds.push((Source::Output(i), PollFd::new(fd.as_fd(), read)));
                }
            }
        }
        if let Some(log) = self.log.as_ref().and_then(logs::Writer::wants) {
            fds.push((Source::Log, PollFd::new(log, write)));
        }
        if let Some(sink) = self.sink.as_ref().filter(|_| !self.input.is_empty()) {
            fds.push((Source::Sink, PollFd::new(sink.as_fd(), write)));
        }
        for (i, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(read, client.stdin && self.input.is_empty());
            flags.set(write, client.pending() > 0);
            fds.push((Source::Client(i), PollFd::new(client.socket.as_fd(), flags)));
        }
        let mut raw: Vec<PollFd<'_>> = fds.iter().map(|(_, f)| f.clone()).collect();
        if crate::sys::retry(|| poll(&mut raw, self.timeout())).is_err() {
            return Vec::new();
        }
        fds.iter().zip(&raw).filter_map(|((s, _), f)| Some((*s, f.revents().filter(|r| !r.is_empty())?))).collect()
    }

    fn timeout(&self) -> PollTimeout {
        match &self.exited {
            None => PollTimeout::NONE,
            Some((_, exited)) => {
                let left = match self.reported {
                    None => DRAIN.saturating_sub(exited.elapsed()),
                    Some(at) if !self.acknowledged() => ACKNOWLEDGE.saturating_sub(at.elapsed()),
                    Some(_) => PATIENCE.saturating_sub(exited.elapsed()),
                };
                let left = left.as_millis().min(60_000) as u16;
                PollTimeout::from(left.saturating_add(1))
            }
        }
    }

    fn read_output(&mut self, index: usize) {
        let Some(fd) = &self.outputs[index] else { return };
        let stream = if index == 0 { Stream::Stdout } else { Stream::Stderr };
        let mut buffer = [0; READ_SIZE];
        match crate::sys::retry(|| nix::unistd::read(fd, &mut buffer)) {
            Ok(n) if n > 0 => {
                let data = &buffer[..n];
                if let Some(log) = &mut self.log {
                    log.write(stream, data);
                }
                for client in &mut self.clients {
                    client.output(stream, data);
                }
            }
            Err(Errno::EAGAIN) => {}
            // A terminal answers EIO while nobody has it open: at the end for
            // good, before it perhaps for a moment.
            Err(Errno::EIO) if self.stdio.tty && self.exited.is_none() => self.hung_up = true,
            Ok(_) | Err(_) => self.close_output(index),
        }
    }

    fn close_output(&mut self, index: usize) {
        if self.outputs[index].take().is_some()
            && let Some(log) = &mut self.log
        {
            log.finish(if index == 0 { Stream::Stdout } else { Stream::Stderr });
        }
    }

    fn attach(&mut self, socket: OwnedFd, meta: &AttachMeta, leftover: &[u8]) {
        let mut client = Client::new(socket, meta, self.stdio.tty);
        client.stdin &= self.sink.is_some();
        if client.stdin && !leftover.is_empty() && client.keys.feed(leftover, &mut self.input) {
            client.closing = true;
            self.tell(&FromShim::Detached);
        }
        self.clients.push(client);
        self.write_input();
    }

    fn serve_client(&mut self, index: usize, flags: PollFlags) {
        let client = &mut self.clients[index];
        if flags.contains(PollFlags::POLLOUT) {
            client.flush();
        }
        if flags.intersects(PollFlags::POLLIN) && client.stdin {
            match client.input(&mut self.input) {
                Input::More => {}
                Input::Detach => {
                    client.stdin = false;
                    client.closing = true;
                    self.tell(&FromShim::Detached);
                }
                Input::End => {
                    client.stdin = false;
                    if self.stdio.stdin_once && !self.stdio.tty {
                        self.input_ends = true;
                    } else {
                        // As Docker: where the end of stdin ends nothing else, it
                        // ends the attach.
                        client.closing = true;
                    }
                }
            }
            self.write_input();
        } else if flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            client.dead = true;
        }
    }

    /// Passes stdin on as far as the container takes it.
    fn write_input(&mut self) {
        let Some(sink) = &self.sink else {
            self.input.clear();
            return;
        };
        let mut written = 0;
        while written < self.input.len() {
            match crate::sys::retry(|| nix::unistd::write(sink, &self.input[written..])) {
                Ok(n) => written += n,
                Err(Errno::EAGAIN) => break,
                Err(_) => {
                    // Nobody reads it any more.
                    self.sink = None;
                    self.input.clear();
                    return;
                }
            }
        }
        self.input.drain(..written);
        if self.input.is_empty() {
            self.input = Vec::new();
            if self.input_ends {
                self.sink = None;
            }
        }
    }

    /// Reading also re-arms the poll.
    fn look_for_oom(&mut self) {
        let Some(dir) = &self.cgroup else { return };
        let kills = cgroup::oom_kills(dir.as_fd());
        if let Some(events) = &self.memory_events {
            let _ = nix::sys::uio::pread(events, &mut [0; 256], 0);
        }
        if kills > self.oom_kills {
            self.tell(&FromShim::Oom);
        }
        self.oom_kills = kills;
    }

    fn reap(&mut self) {
        let Ok(Some(ended)) = process::wait(Who::Pidfd(self.pidfd.as_fd()), false) else { return };
        self.look_for_oom();
        let oom = self.oom_kills > 0;
        let finished_at = time::now().0 as i64;
        self.exited = Some((ExitRecord { code: ended.status.code(), oom, finished_at }, Instant::now()));
        self.sink = None;
        self.hung_up = false;
    }

    fn serve_control(&mut self) {
        let Some(control) = &self.control else { return };
        match wire::receive::<ToShim>(control.as_fd(), false) {
            Ok(Some((ToShim::Attach(meta), leftover, mut fds))) if !fds.is_empty() => {
                self.attach(fds.remove(0), &meta, &leftover);
            }
            Ok(Some((ToShim::Resize { rows, cols }, ..))) => {
                if let (true, Some(terminal)) = (self.stdio.tty, &self.outputs[0]) {
                    let _ = term::set_window_size(terminal.as_fd(), rows, cols);
                }
            }
            Ok(None) | Err(Errno::ECONNRESET | Errno::EPIPE) => self.control = None,
            Ok(Some(_)) | Err(_) => {}
        }
    }

    /// A new daemon takes the place of the old one.
    fn accept(&mut self) {
        let Ok(daemon) = socket::accept(self.listener.as_fd()) else { return };
        if socket::peer(daemon.as_fd()).is_ok_and(|p| p.uid() == nix::unistd::geteuid().as_raw()) {
            let started = FromShim::Started { pid: self.pid };
            let _ = wire::send(daemon.as_fd(), &started, b"", &[self.pidfd.as_fd()], false);
            self.control = Some(daemon);
            if let (Some(_), Some((exit, _))) = (self.reported, self.exited) {
                self.tell(&FromShim::Exited(exit));
            }
        }
    }

    fn tell(&self, message: &FromShim) {
        if let Some(control) = &self.control {
            let _ = wire::send(control.as_fd(), message, b"", &[], false);
        }
    }

    /// Drops clients that are gone or served.
    fn sweep(&mut self) {
        self.clients.retain(|client| {
            let finished = client.closing && client.pending() == 0;
            if finished {
                client.close();
            }
            !client.dead && !finished
        });
        // stdin that came with a client which is gone ends with it.
        if self.stdio.stdin_once && self.input_ends && self.input.is_empty() {
            self.sink = None;
        }
    }

    /// After the exit: waits for the rest of the output, then reports.
    fn settle(&mut self) {
        let Some((exit, at)) = self.exited else { return };
        let late = at.elapsed() >= DRAIN;
        if late && !self.clients.iter().any(Client::congested) {
            // Whatever still holds these open is not the container's process.
            for i in 0..2 {
                if self.outputs[i].as_ref().is_some_and(|fd| !readable(fd)) {
                    self.close_output(i);
                }
            }
        }
        if self.reported.is_none() && (late || self.outputs.iter().all(Option::is_none)) {
            self.reported = Some(Instant::now());
            if self.outputs.iter().all(Option::is_none) {
                self.log.iter_mut().for_each(logs::Writer::close);
            }
            if let Ok(json) = json::to_vec(&exit) {
                let path = self.place.run_dir.join(&self.place.names.exit);
                let _ = atomic_file::write(&path, &json, Durability::Renamed);
            }
            self.tell(&FromShim::Exited(exit));
            for client in &mut self.clients {
                client.stdin = false;
            }
        }
        if self.acknowledged() && self.outputs.iter().all(Option::is_none) {
            for client in &mut self.clients {
                client.closing = true;
            }
            self.sweep();
        }
    }
}

fn readable(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
        && fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLIN))
}
