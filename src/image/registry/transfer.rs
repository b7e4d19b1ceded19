//! Layers on their way in, each once however many pulls want it from the same
//! source. The table lives in dockerd; a few worker threads, made on demand, do
//! the work, and every interested pull listens on a channel of its own.
//!
//! Invariants: one layer (by chain ID) has at most one transfer from one source
//! (a registry and the credentials shown to it), so that nobody waits for a
//! registry, or fails by credentials, that he did not name; a transfer
//! without listeners is cancelled; a newcomer never joins a cancelled one, it
//! waits for its end and starts afresh. No lock is held while a layer moves.

use super::fault::{Class, Fault, Result};
use super::transport::Cancel;
use crate::image::digest::Digest;
use crate::util::thread;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a listener hears of bytes.
const TICK: Duration = Duration::from_millis(100);
const STACK: usize = 256 << 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Waiting,
    Downloading {
        current: u64,
        total: u64,
    },
    Retrying {
        seconds: u64,
    },
    Verifying,
    Downloaded,
    Complete,
    /// Class and words of the fault.
    Failed(Class, String, Option<String>),
}

impl Step {
    fn is_end(&self) -> bool {
        matches!(self, Step::Complete | Step::Failed(..))
    }
}

/// What a listener receives.
#[derive(Debug, Clone)]
pub struct Update {
    pub layer: Digest,
    pub step: Step,
}

/// Moves one layer in; reports through the handle.
pub type Job = Box<dyn FnOnce(&Arc<Handle>) -> Result<()> + Send>;

struct Listener {
    id: u64,
    to: Sender<Update>,
}

struct Progress {
    step: Step,
    told: Instant,
    listeners: Vec<Listener>,
}

/// A transfer's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: Digest,
    layer: Digest,
}

pub struct Handle {
    key: Key,
    parent: Option<Key>,
    /// Fires when the last listener has gone.
    pub cancel: Arc<Cancel>,
    progress: Mutex<Progress>,
    held: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Handle {
    /// Keeps something (a pinned layer) for as long as anyone watches.
    pub fn hold(&self, thing: Box<dyn Any + Send>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(thing);
    }

    /// Tells the listeners. Bytes are told at most once per tick.
    pub fn report(&self, step: Step) {
        let mut progress = self.lock();
        let same = std::mem::discriminant(&progress.step) == std::mem::discriminant(&step);
        let counting = matches!(step, Step::Downloading { .. });
        progress.step = step;
        if counting && same && progress.told.elapsed() < TICK {
            return;
        }
        progress.told = Instant::now();
        let update = Update { layer: self.key.layer, step: progress.step.clone() };
        progress.listeners.retain(|l| l.to.send(update.clone()).is_ok());
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Table {
    active: HashMap<Key, Arc<Handle>>,
    queue: Vec<(Arc<Handle>, Job)>,
    workers: usize,
}

/// The daemon's downloads (or uploads).
pub struct Transfers {
    limit: AtomicU64,
    /// A layer starts only when its parent is in.
    ordered: bool,
    table: Mutex<Table>,
    changed: Condvar,
    next_listener: AtomicU64,
}

impl fmt::Debug for Transfers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transfers({})", self.lock().active.len())
    }
}

/// One listener's hold on a transfer; dropping it lets go.
pub struct Watch {
    transfers: Arc<Transfers>,
    handle: Arc<Handle>,
    id: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The table's lock first: a newcomer must not find a transfer that is
        // about to be cancelled.
        let mut table = self.transfers.lock();
        let mut progress = self.handle.lock();
        progress.listeners.retain(|l| l.id != self.id);
        let deserted = progress.listeners.is_empty() && !progress.step.is_end();
        drop(progress);
        if deserted {
            self.handle.cancel.fire();
            if let Some(at) = table.queue.iter().position(|(h, _)| Arc::ptr_eq(h, &self.handle)) {
                drop(table.queue.remove(at));
                table.active.remove(&self.handle.key);
            }
        }
        drop(table);
        self.transfers.changed.notify_all();
    }
}

impl Transfers {
    pub fn new(limit: usize, ordered: bool) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicU64::new(limit.max(1) as u64),
            ordered,
            table: Mutex::default(),
            changed: Condvar::new(),
            next_listener: AtomicU64::new(0),
        })
    }

    /// For a configuration that was re-read; running workers finish what they have.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit.max(1) as u64, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the transfer of `layer` from `source`, or starts it with the job that
    /// `make` gives. The listener hears the present step at once.
    pub fn join(
        self: &Arc<Self>,
        source: Digest,
        layer: Digest,
        parent: Option<Digest>,
        to: Sender<Update>,
        make: impl FnOnce(Arc<Cancel>) -> Job,
    ) -> Result<Watch> {
        let id = self.next_listener.fetch_add(1, Ordering::Relaxed);
        let key = Key { source, layer };
        let mut table = self.lock();
        loop {
            match table.active.get(&key) {
                Some(handle) if handle.cancel.fired() => {
                    table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
                }
                Some(handle) => {
                    let handle = handle.clone();
                    let mut progress = handle.lock();
                    let _ = to.send(Update { layer, step: progress.step.clone() });
                    progress.listeners.push(Listener { id, to });
                    drop(progress);
                    return Ok(Watch { transfers: self.clone(), handle, id });
                }
                None => break,
            }
        }
        let cancel = Arc::new(Cancel::default());
        let handle = Arc::new(Handle {
            key,
            parent: parent.map(|layer| Key { source, layer }),
            cancel: cancel.clone(),
            progress: Mutex::new(Progress {
                step: Step::Waiting,
                told: Instant::now(),
                listeners: vec![Listener { id, to }],
            }),
            held: Mutex::default(),
        });
        table.active.insert(key, handle.clone());
        table.queue.push((handle.clone(), make(cancel)));
        let crowded = table.workers as u64 >= self.limit.load(Ordering::Relaxed);
        if crowded {
            handle.report(Step::Waiting);
        } else {
            table.workers += 1;
            let transfers = self.clone();
            if let Err(e) = thread::start("layer", STACK, move || transfers.work()) {
                table.workers -= 1;
                table.active.remove(&key);
                table.queue.retain(|(h, _)| h.key != key);
                return Err(Fault::new(Class::Local, format!("start a download thread: {e}")));
            }
        }
        drop(table);
        Ok(Watch { transfers: self.clone(), handle, id })
    }

    fn work(&self) {
        let mut table = self.lock();
        loop {
            if table.queue.is_empty() || table.workers as u64 > self.limit.load(Ordering::Relaxed) {
                table.workers -= 1;
                // Someone may wait for a parent that another worker still moves.
                self.changed.notify_all();
                return;
            }
            let Some(at) = self.ready(&table) else {
                table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (handle, job) = table.queue.remove(at);
            drop(table);
            let result = match handle.cancel.check() {
                Ok(()) => std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&handle)))
                    .unwrap_or_else(|_| Err(Fault::new(Class::Local, "internal error while a layer was unpacked"))),
                Err(fault) => Err(fault),
            };
            table = self.lock();
            table.active.remove(&handle.key);
            if result.is_err() {
                self.abandon_children(&mut table, handle.key);
            }
            handle.report(match result {
                Ok(()) => Step::Complete,
                Err(fault) => Step::Failed(fault.class, fault.text(), fault.hint),
            });
            self.changed.notify_all();
        }
    }

    /// What was to be laid on a layer that never came has nothing to stand on.
    fn abandon_children(&self, table: &mut Table, parent: Key) {
        if !self.ordered {
            return;
        }
        let mut lost = vec![parent];
        while let Some(parent) = lost.pop() {
            while let Some(at) = table.queue.iter().position(|(h, _)| h.parent == Some(parent)) {
                let (child, _) = table.queue.remove(at);
                table.active.remove(&child.key);
                let text = format!("parent layer {} failed", parent.layer);
                child.report(Step::Failed(Class::Local, text, None));
                lost.push(child.key);
            }
        }
    }

    fn ready(&self, table: &Table) -> Option<usize> {
        table.queue.iter().position(|(handle, _)| {
            !self.ordered || handle.parent.is_none_or(|parent| !table.active.contains_key(&parent))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, channel};

    fn here() -> Digest {
        Digest::of(b"registry")
    }

    fn end(rx: &Receiver<Update>) -> Step {
        loop {
            let step = rx.recv().unwrap().step;
            if step.is_end() {
                return step;
            }
        }
    }

    #[test]
    fn two_pulls_one_transfer() {
        let transfers = Transfers::new(3, false);
        let runs = Arc::new(AtomicUsize::new(0));
        let (go, gate) = channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let layer = Digest::of(b"a");
        let join = || {
            let (tx, rx) = channel();
            let (runs, gate) = (runs.clone(), gate.clone());
            let watch = transfers.join(here(), layer, None, tx, move |_| {
                Box::new(move |_| {
                    runs.fetch_add(1, Ordering::SeqCst);
                    gate.lock().unwrap().recv().unwrap();
                    Ok(())
                })
            });
            (watch.unwrap(), rx)
        };
        let (_w1, r1) = join();
        let (_w2, r2) = join();
        go.send(()).unwrap();
        assert_eq!((end(&r1), end(&r2)), (Step::Complete, Step::Complete));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_last_to_leave_cancels_and_the_next_starts_afresh() {
        let transfers = Transfers::new(1, false);
        let layer = Digest::of(b"a");
        let wait: fn(Arc<Cancel>) -> Job = |cancel| {
            Box::new(move |_| {
                cancel.sleep(Duration::from_secs(3600))?;
                Ok(())
            })
        };
        let (tx, r1) = channel();
        let w1 = transfers.join(here(), layer, None, tx, wait).unwrap();
        let (tx, r2) = channel();
        let w2 = transfers.join(here(), layer, None, tx, wait).unwrap();
        drop(w1);
        drop(r1);
        assert!(!transfers.lock().active[&Key { source: here(), layer }].cancel.fired());
        drop(w2);
        let (tx, r3) = channel();
        let _w3 = transfers.join(here(), layer, None, tx, |_| Box::new(|_| Ok(()))).unwrap();
        assert_eq!(end(&r3), Step::Complete);
        drop(r2);
    }

    #[test]
    fn another_source_is_another_transfer() {
        let transfers = Transfers::new(2, false);
        let layer = Digest::of(b"a");
        let (tx, rx) = channel();
        // A registry that never answers; whoever asks another one does not wait for it.
        let stuck = transfers.join(here(), layer, None, channel().0, |cancel| {
            Box::new(move |_| cancel.sleep(Duration::from_secs(3600)))
        });
        let other = transfers.join(Digest::of(b"other"), layer, None, tx, |_| Box::new(|_| Ok(())));
        assert_eq!(end(&rx), Step::Complete);
        drop((stuck.unwrap(), other.unwrap()));
    }

    #[test]
    fn parents_first_and_orphans_fail() {
        let transfers = Transfers::new(2, true);
        let (tx, rx) = channel();
        let ids: Vec<Digest> = [b"a", b"b", b"c"].iter().map(|n| Digest::of(*n)).collect();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut watches = Vec::new();
        for (i, id) in ids.iter().enumerate() {
            let parent = i.checked_sub(1).map(|p| ids[p]);
            let order = order.clone();
            let job: Job = Box::new(move |_| {
                order.lock().unwrap().push(i);
                if i == 1 { Err(Fault::new(Class::Corrupt, "bad")) } else { Ok(()) }
            });
            watches.push(transfers.join(here(), *id, parent, tx.clone(), move |_| job).unwrap());
        }
        let mut ends: Vec<(Digest, Step)> = Vec::new();
        while ends.len() < 3 {
            let u = rx.recv().unwrap();
            if u.step.is_end() {
                ends.push((u.layer, u.step));
            }
        }
        let of = |id: Digest| ends.iter().find(|(l, _)| *l == id).unwrap().1.clone();
        assert_eq!(of(ids[0]), Step::Complete);
        assert!(matches!(of(ids[1]), Step::Failed(Class::Corrupt, ..)));
        assert!(matches!(of(ids[2]), Step::Failed(Class::Local, ..)));
        assert_eq!(*order.lock().unwrap(), [0, 1]);
    }
}
