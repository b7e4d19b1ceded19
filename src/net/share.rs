//! Fair shares of what netd has for all containers together: flows, which cost
//! descriptors and memory. Control, outbound, publish and dns threads.
//!
//! Invariant: a container never has more places of a table than are still free
//! for all the others. The first alone gets half of it, the next half of the rest:
//! whatever some of them do, the next one finds room. (Switches share their
//! buffers so: dynamic thresholds.)

use nix::sys::resource::{Resource, getrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Streams out and in, open or on their way; two descriptors each.
    Streams,
    /// UDP to the outside; one descriptor each.
    Datagrams,
    /// UDP clients of published ports; memory only.
    Clients,
    Pings,
    /// Names that are being asked upstream.
    Questions,
}

impl Kind {
    /// So many, and at most this part of the descriptors: in all they leave some over.
    fn most(self, descriptors: usize) -> usize {
        match self {
            Self::Streams => (descriptors / 3).min(128 * 1024),
            Self::Datagrams => (descriptors / 8).min(4096),
            Self::Clients => 4096,
            Self::Pings | Self::Questions => (descriptors / 32).min(512),
        }
    }
}

/// Whose flows they are: one container, or all senders that nobody knows.
#[derive(Debug, Clone, Default)]
pub struct Owner(Arc<[AtomicUsize; 5]>);

impl Owner {
    pub fn is(&self, other: &Owner) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// All places of one kind. Clones share them.
#[derive(Debug, Clone)]
pub struct Table {
    kind: Kind,
    most: usize,
    taken: Arc<AtomicUsize>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    kind: Kind,
    taken: Arc<AtomicUsize>,
    pub owner: Owner,
}

impl Table {
    /// Sized by the descriptors that this process may have.
    pub fn new(kind: Kind) -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        let most = kind.most(usize::try_from(descriptors).unwrap_or(usize::MAX));
        Self { kind, most, taken: Arc::default() }
    }

    /// None: the owner has its share.
    pub fn take(&self, owner: &Owner) -> Option<Place> {
        let free = self.most.saturating_sub(self.taken.load(Ordering::Relaxed));
        let own = &owner.0[self.kind as usize];
        if own.load(Ordering::Relaxed) >= free {
            return None;
        }
        // Two threads that take the last one at once have one too many: no harm.
        own.fetch_add(1, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(Place { kind: self.kind, taken: self.taken.clone(), owner: owner.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.owner.0[self.kind as usize].fetch_sub(1, Ordering::Relaxed);
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_next_finds_room() {
        let table = Table { most: 1000, ..Table::new(Kind::Streams) };
        let all = |owner: &Owner| std::iter::from_fn(|| table.take(owner)).collect::<Vec<_>>();
        let owners: Vec<Owner> = (0..5).map(|_| Owner::default()).collect();
        let held: Vec<Vec<Place>> = owners.iter().map(all).collect();
        assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [500, 250, 125, 63, 31]);
        assert!(held[1][0].owner.is(&owners[1]) && !held[1][0].owner.is(&owners[0]));
        drop(held);
        assert_eq!(all(&owners[4]).len(), 500);
        let other = Table { most: 10, ..Table::new(Kind::Pings) };
        assert!(other.take(&owners[0]).is_some(), "kinds are counted apart");
    }

    #[test]
    fn all_tables_together_leave_descriptors_over() {
        for descriptors in [256, 1024, 20_000, 1 << 20] {
            let most = |k: Kind| k.most(descriptors);
            let sum = 2 * most(Kind::Streams) + most(Kind::Datagrams) + most(Kind::Pings) + most(Kind::Questions);
            assert!(sum <= descriptors * 9 / 10 && most(Kind::Pings) > 0, "{descriptors}: {sum}");
        }
    }
}
