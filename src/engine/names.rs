//! Names and ids: which names are allowed, which are taken, and what a user's
//! reference means. The index is one small lock; any thread of dockerd.
//!
//! Invariant: a name points to at most one id, and `reserve` is the only way in,
//! so two creates of one name cannot both win.

use super::names_table::{ADJECTIVES, SURNAMES};
use crate::error::{Error, Result};
use crate::util::id;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, two characters at least.
pub fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() >= 2
        && bytes[0].is_ascii_alphanumeric()
        && bytes[1..].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// The name without its slash, or Docker's refusal.
pub fn check(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    if is_valid(bare) {
        return Ok(bare);
    }
    Err(Error::invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

/// A random name. `attempt` above zero appends a digit, as Docker does on a clash.
pub fn random(attempt: u32) -> String {
    loop {
        let mut bytes = [0u8; 9];
        id::fill(&mut bytes);
        let pick = |b: &[u8], n: usize| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize % n;
        let adjective = ADJECTIVES[pick(&bytes[..4], ADJECTIVES.len())];
        let surname = SURNAMES[pick(&bytes[4..8], SURNAMES.len())];
        // Steve Wozniak is not boring.
        if adjective == "boring" && surname == "wozniak" {
            continue;
        }
        return match attempt {
            0 => format!("{adjective}_{surname}"),
            _ => format!("{adjective}_{surname}{}", bytes[8] % 10),
        };
    }
}

/// Names and ids of one kind of object.
#[derive(Debug, Default)]
pub struct Index {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Without slash.
    by_name: HashMap<String, String>,
    /// Ordered, so that a prefix is a range.
    ids: BTreeMap<String, ()>,
}

impl Index {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `name` for `id`; an error carries the id that holds it.
    pub fn reserve(&self, name: &str, id: &str) -> std::result::Result<(), String> {
        let mut inner = self.lock();
        match inner.by_name.get(name) {
            Some(holder) if holder != id => Err(holder.clone()),
            _ => {
                inner.by_name.insert(name.to_owned(), id.to_owned());
                Ok(())
            }
        }
    }

    /// Finds and takes a free random name for `id`; after six tries the short id.
    pub fn reserve_random(&self, id: &str) -> String {
        for attempt in 0..6 {
            let name = random(attempt);
            if self.reserve(&name, id).is_ok() {
                return name;
            }
        }
        let name = id::short(id).to_owned();
        let _ = self.reserve(&name, id);
        name
    }

    /// Gives a name back, if it is `id`'s.
    pub fn release(&self, name: &str, id: &str) {
        let mut inner = self.lock();
        if inner.by_name.get(name).is_some_and(|holder| holder == id) {
            inner.by_name.remove(name);
        }
    }

    pub fn add_id(&self, id: &str) {
        self.lock().ids.insert(id.to_owned(), ());
    }

    pub fn remove_id(&self, id: &str) {
        let mut inner = self.lock();
        inner.ids.remove(id);
        inner.by_name.retain(|_, holder| holder != id);
    }

    /// Full id, exact name, unique id prefix; `Ok(None)` if nothing fits.
    pub fn resolve(&self, reference: &str) -> Result<Option<String>> {
        let inner = self.lock();
        if inner.ids.contains_key(reference) {
            return Ok(Some(reference.to_owned()));
        }
        if let Some(id) = inner.by_name.get(reference.strip_prefix('/').unwrap_or(reference)) {
            return Ok(Some(id.clone()));
        }
        if reference.is_empty() {
            return Ok(None);
        }
        let mut matches =
            inner.ids.range(reference.to_owned()..).map(|(id, ())| id).take_while(|id| id.starts_with(reference));
        match (matches.next(), matches.next()) {
            (Some(id), None) => Ok(Some(id.clone())),
            (Some(_), Some(_)) => Err(Error::invalid(format!("multiple IDs found with provided prefix: {reference}"))),
            (None, _) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["ab", "a-b", "A.b_c", "9x"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "a", "-ab", "a b", "a/b", "ü1"] {
            assert!(!is_valid(bad), "{bad}");
        }
        assert_eq!(check("/web").unwrap(), "web");
        assert_eq!(
            check("bad name").unwrap_err().message(),
            "Invalid container name (bad name), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn random_names_are_valid() {
        for attempt in 0..2 {
            assert!(is_valid(&random(attempt)));
        }
    }

    #[test]
    fn references_resolve_in_order() {
        let index = Index::default();
        let (a, b) = ("abc1".repeat(16), "abd2".repeat(16));
        index.add_id(&a);
        index.add_id(&b);
        index.reserve("abd", &a).unwrap();
        assert_eq!(index.reserve("abd", &b).unwrap_err(), a);
        assert_eq!(index.resolve("abd").unwrap(), Some(a.clone()), "a name beats an id prefix");
        assert_eq!(index.resolve("abd2").unwrap(), Some(b.clone()));
        assert!(index.resolve("ab").is_err());
        assert_eq!(index.resolve("zz").unwrap(), None);
        assert_eq!(index.resolve("").unwrap(), None);
        index.remove_id(&a);
        assert_eq!(index.resolve("ab").unwrap(), Some(b));
    }
}
