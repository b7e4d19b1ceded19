//! Things to do later: restart back-off, health probes, forgetting old execs.
//! One thread holds the heap; each due job runs on a thread of its own, for it
//! may take as long as it likes.

use crate::error::{Context, Result};
use crate::util::thread;
use crate::warn;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Job = Box<dyn FnOnce() + Send>;
/// Due time, then order of arrival.
type Key = (Instant, u64);

/// Names a job until it starts; [`Timers::cancel`] takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(Key);

#[derive(Default)]
struct Heap {
    jobs: BTreeMap<Key, Job>,
    next: u64,
}

#[derive(Default)]
struct Shared {
    heap: Mutex<Heap>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heap> {
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Timers {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Timers({} jobs)", self.shared.lock().jobs.len())
    }
}

impl Timers {
    pub fn new() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let worker = shared.clone();
        thread::start("timers", 64 << 10, move || run(&worker)).context("start the timer thread")?;
        Ok(Self { shared })
    }

    pub fn after(&self, delay: Duration, job: impl FnOnce() + Send + 'static) -> Ticket {
        let mut heap = self.shared.lock();
        heap.next += 1;
        let key = (Instant::now() + delay, heap.next);
        let first = heap.jobs.keys().next().is_none_or(|k| key < *k);
        heap.jobs.insert(key, Box::new(job));
        drop(heap);
        if first {
            self.shared.changed.notify_one();
        }
        Ticket(key)
    }

    /// True if the job had not started; it never will.
    pub fn cancel(&self, ticket: Ticket) -> bool {
        self.shared.lock().jobs.remove(&ticket.0).is_some()
    }
}

fn run(shared: &Shared) {
    let mut heap = shared.lock();
    loop {
        let now = Instant::now();
        match heap.jobs.first_entry() {
            Some(entry) if entry.key().0 <= now => {
                let job = entry.remove();
                drop(heap);
                spawn("timer-job", job);
                heap = shared.lock();
            }
            Some(entry) => {
                let wait = entry.key().0 - now;
                heap = shared.changed.wait_timeout(heap, wait).unwrap_or_else(PoisonError::into_inner).0;
            }
            None => heap = shared.changed.wait(heap).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// Runs `job` on a thread of its own, with the daemon's small stacks. With no
/// thread to be had it runs here and now: late is better than never.
pub fn spawn(name: &str, job: impl FnOnce() + Send + 'static) {
    let slot = Arc::new(Mutex::new(Some(job)));
    let theirs = slot.clone();
    let take = |slot: &Mutex<Option<_>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let result = thread::start(name, 256 << 10, move || {
        if let Some(job) = take(&theirs) {
            job();
        }
    });
    if let Err(e) = result {
        warn!("no thread to be had, working in line", "job" = name, "error" = e);
        if let Some(job) = take(&slot) {
            job();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_run_and_cancelled_ones_do_not() {
        let timers = Timers::new().unwrap();
        let (tx, rx) = std::sync::mpsc::channel();
        let (a, b) = (tx.clone(), tx);
        let late = timers.after(Duration::from_secs(3600), move || a.send("late").unwrap());
        timers.after(Duration::ZERO, move || b.send("now").unwrap());
        assert_eq!(rx.recv().unwrap(), "now");
        assert!(timers.cancel(late));
        assert!(!timers.cancel(late));
        assert!(rx.recv().is_err(), "the cancelled job is dropped");
    }
}
