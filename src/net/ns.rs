//! Network namespaces: making them, and the one thread that lives in the
//! engine's.
//!
//! A thread that has entered another network namespace cannot come back to the
//! host's (setns is EPERM from a child user namespace), so whatever needs the
//! inside runs on a thread of its own. Sockets stay with the namespace that they
//! were made in and may be used from any thread: only making them needs this.

use crate::error::{Context, Error, Result};
use crate::net::netlink::{Netlink, link};
use crate::util::thread;
use nix::sched::CloneFlags;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};

type Job = Box<dyn FnOnce() + Send>;

/// Small: these threads call the kernel and little else.
const STACK: usize = 128 * 1024;

/// Runs closures inside one network namespace.
#[derive(Debug, Clone)]
pub struct Agent {
    jobs: Sender<Job>,
}

impl Agent {
    /// Makes a fresh network namespace with loopback up and a thread in it.
    pub fn fresh(name: &str) -> Result<(Self, OwnedFd)> {
        let (jobs, queue): (Sender<Job>, Receiver<Job>) = channel();
        let (answer, result) = channel();
        let body = move || {
            let made = make_here();
            let failed = made.is_err();
            let _ = answer.send(made);
            if failed {
                return;
            }
            while let Ok(job) = queue.recv() {
                job();
            }
        };
        thread::start(name, STACK, body).context("start a thread")?;
        let fd = result.recv().map_err(|_| Error::system("the namespace thread ended"))??;
        Ok((Self { jobs }, fd))
    }

    /// Runs `f` inside and waits for it.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (answer, result) = channel();
        let gone = |_| Error::system("the engine's network namespace has no thread any more");
        self.jobs.send(Box::new(move || drop(answer.send(f())))).map_err(|_| gone(()))?;
        result.recv().map_err(|_| gone(()))
    }

    /// Starts a thread that lives inside, with its own work.
    pub fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let name = name.to_owned();
        // A thread begins in the namespace of the thread that starts it.
        let start = move || thread::start(&name, 2 * STACK, body).map(drop);
        self.run(start)?.context("start a thread")
    }

    /// Runs `f` inside, some time.
    pub fn post(&self, f: impl FnOnce() + Send + 'static) {
        let _ = self.jobs.send(Box::new(f));
    }
}

/// Puts the calling thread into a network namespace of its own.
fn make_here() -> Result<OwnedFd> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    let file = File::open("/proc/thread-self/ns/net").context("open the network namespace")?;
    Netlink::open()?.send(link::set_up(1)).context("bring loopback up")?;
    Ok(file.into())
}

/// Makes a fresh namespace, runs `inside` on a thread in it, and returns the
/// namespace with what `inside` returned. The thread ends.
pub fn make<T: Send + 'static>(inside: impl FnOnce() -> Result<T> + Send + 'static) -> Result<(OwnedFd, T)> {
    thread::alone(move || Ok((make_here()?, inside()?)))
}

/// Runs `inside` on a thread that has entered `namespace`. The thread ends.
pub fn enter<T: Send + 'static>(namespace: OwnedFd, inside: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    thread::alone(move || {
        nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
        inside()
    })
}

/// Writes `/proc/sys/NAME` of the calling thread's namespace.
pub fn sysctl(name: &str, value: &str) -> std::io::Result<()> {
    std::fs::write(format!("/proc/sys/{}", name.replace('.', "/")), value)
}
