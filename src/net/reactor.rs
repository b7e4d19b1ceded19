//! A thread that waits for many descriptors at once, edge-triggered, and runs
//! what other threads post to it. `outbound` and `publish` are each one of these.

use crate::error::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// What a descriptor is registered under; the meaning is the loop's.
pub type Token = u64;

/// Token of the wake-up descriptor.
const WAKE: Token = u64::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    pub token: Token,
    pub readable: bool,
    pub writable: bool,
    /// A stream has urgent data, where splice(2) stops.
    pub urgent: bool,
    /// Error or hang-up; reading or writing tells which.
    pub broken: bool,
}

/// Where the loop's owner registers descriptors.
#[derive(Debug, Clone)]
pub struct Registry {
    epoll: Arc<Epoll>,
}

impl Registry {
    /// Both directions, edge-triggered, once for the life of the descriptor:
    /// closing it takes it out.
    pub fn add(&self, fd: impl AsFd, token: Token) -> Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLPRI | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
        let flags = flags | EpollFlags::EPOLLET;
        self.epoll.add(fd, EpollEvent::new(flags, token)).context("watch a descriptor")
    }

    /// Reading only, level-triggered: listeners and datagram sockets.
    pub fn add_reader(&self, fd: impl AsFd, token: Token) -> Result<()> {
        self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token)).context("watch a descriptor")
    }

    /// For descriptors that others hold open too.
    pub fn remove(&self, fd: impl AsFd) {
        let _ = self.epoll.delete(fd);
    }
}

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Reaches a running loop from other threads.
#[derive(Debug)]
pub struct Remote<S> {
    jobs: Sender<Job<S>>,
    wake: Arc<EventFd>,
}

impl<S> Clone for Remote<S> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone(), wake: self.wake.clone() }
    }
}

impl<S: 'static> Remote<S> {
    /// Runs `job` on the loop's thread, soon.
    pub fn post(&self, job: impl FnOnce(&mut S) + Send + 'static) {
        let _ = self.jobs.send(Box::new(job));
        let _ = self.wake.write(1);
    }

    /// Runs `job` on the loop's thread and waits for its answer; none if the
    /// loop has ended.
    pub fn ask<T: Send + 'static>(&self, job: impl FnOnce(&mut S) -> T + Send + 'static) -> Option<T> {
        let (answer, result) = channel();
        self.post(move |state| drop(answer.send(job(state))));
        result.recv().ok()
    }
}

/// The state behind a loop.
pub trait Handler {
    fn ready(&mut self, event: Ready);
    /// After each round of events; returns when to be called at the latest.
    fn settle(&mut self) -> Option<Duration>;
}

pub struct Reactor<S> {
    registry: Registry,
    wake: Arc<EventFd>,
    jobs: Receiver<Job<S>>,
}

impl<S: Handler> Reactor<S> {
    pub fn new() -> Result<(Self, Remote<S>)> {
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("make an epoll instance")?);
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context("make an eventfd")?;
        let wake = Arc::new(wake);
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE)).context("watch an eventfd")?;
        let (sender, jobs) = channel();
        let remote = Remote { jobs: sender, wake: wake.clone() };
        Ok((Self { registry: Registry { epoll }, wake, jobs }, remote))
    }

    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Never returns; the process ends with its control thread.
    pub fn run(self, mut state: S) {
        let mut events = vec![EpollEvent::empty(); 256];
        let mut timeout = state.settle();
        loop {
            let wait = match timeout {
                None => EpollTimeout::NONE,
                Some(d) => EpollTimeout::from(u16::try_from(d.as_millis()).unwrap_or(u16::MAX)),
            };
            let n = match self.registry.epoll.wait(&mut events, wait) {
                Ok(n) => n,
                Err(nix::Error::EINTR) => 0,
                Err(e) => {
                    crate::error!(format!("network loop: {e}"));
                    std::thread::sleep(Duration::from_millis(100));
                    0
                }
            };
            // First what was posted: a container's rights precede its packets.
            while let Ok(job) = self.jobs.try_recv() {
                job(&mut state);
            }
            for event in &events[..n] {
                if event.data() == WAKE {
                    let _ = self.wake.read();
                    continue;
                }
                let flags = event.events();
                let broken = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
                state.ready(Ready {
                    token: event.data(),
                    readable: broken || flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP),
                    urgent: flags.contains(EpollFlags::EPOLLPRI),
                    writable: broken || flags.contains(EpollFlags::EPOLLOUT),
                    broken,
                });
            }
            timeout = state.settle();
        }
    }
}

/// Slots that are reused, with a generation in the upper half of the number so
/// that an event for the former owner of a slot is not taken for the present one's.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

/// Index in the lower half, generation (24 bits used) above.
pub type Key = u64;

impl<T> Slab<T> {
    /// The key that the next insert will have.
    pub fn next_key(&self) -> Key {
        match self.free.last() {
            Some(n) => u64::from(self.slots[*n as usize].0) << 32 | u64::from(*n),
            None => self.slots.len() as u64,
        }
    }

    pub fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        match self.free.pop() {
            Some(n) => self.slots[n as usize].1 = Some(value),
            None => self.slots.push((0, Some(value))),
        }
        key
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, value) = self.slots.get_mut((key & 0xffff_ffff) as usize)?;
        if u64::from(*generation) == key >> 32 { value.as_mut() } else { None }
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        let index = (key & 0xffff_ffff) as usize;
        let (generation, value) = self.slots.get_mut(index)?;
        if u64::from(*generation) != key >> 32 {
            return None;
        }
        let value = value.take()?;
        *generation = (*generation + 1) & 0x00ff_ffff;
        self.free.push(index as u32);
        Some(value)
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn keys(&self) -> Vec<Key> {
        let occupied = self.slots.iter().enumerate().filter(|(_, (_, v))| v.is_some());
        occupied.map(|(n, (generation, _))| u64::from(*generation) << 32 | n as u64).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|(_, v)| v.as_ref())
    }
}

/// Reads a lock that a panicking thread may have held.
pub fn unpoisoned<T>(lock: std::sync::LockResult<T>) -> T {
    lock.unwrap_or_else(PoisonError::into_inner)
}

/// A coarse clock for idle times.
#[derive(Debug, Clone, Copy)]
pub struct Ticker {
    next: Instant,
    every: Duration,
}

impl Ticker {
    pub fn new(every: Duration) -> Self {
        Self { next: Instant::now() + every, every }
    }

    /// True once per period.
    pub fn due(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next;
        if due {
            self.next = now + self.every;
        }
        due
    }

    pub fn left(&self) -> Duration {
        // Never zero: the loop would spin for the rest of a millisecond.
        self.next.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_reused_but_keys_are_not() {
        let mut slab = Slab::default();
        let a = slab.insert('a');
        assert_eq!(slab.next_key(), 1);
        let b = slab.insert('b');
        assert_eq!(slab.remove(a), Some('a'));
        assert!(slab.remove(a).is_none() && slab.get_mut(a).is_none());
        assert_eq!(slab.len(), 1);
        let promised = slab.next_key();
        let c = slab.insert('c');
        assert!(promised == c && c != a && c & 0xffff_ffff == a & 0xffff_ffff);
        assert_eq!((slab.get_mut(c).copied(), slab.get_mut(b).copied()), (Some('c'), Some('b')));
        assert_eq!(slab.keys().len(), 2);
        assert_eq!(slab.get_mut(99), None);
    }
}
