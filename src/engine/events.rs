//! The event bus: what happened, to those who listen and to a ring of the last
//! 256 for those who ask later. Any thread of dockerd publishes; each listener
//! is one request thread.
//!
//! Invariant: publishing never waits for a listener. A listener that does not
//! keep up is cut off, it never loses single events in silence.

use crate::error::{Context, Result};
use crate::util::time::{self, Timestamp};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

const RING: usize = 256;
/// Events that a listener may lag behind; at some 400 bytes each, 3 MiB.
const BACKLOG: usize = 8192;

/// What kind of object an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Builder,
    Container,
    Daemon,
    Image,
    Network,
    Plugin,
    Volume,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Builder => "builder",
            Kind::Container => "container",
            Kind::Daemon => "daemon",
            Kind::Image => "image",
            Kind::Network => "network",
            Kind::Plugin => "plugin",
            Kind::Volume => "volume",
        }
    }
}

pub type Attributes = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: Kind,
    pub action: String,
    /// The actor's id; a volume's name.
    pub id: String,
    pub attributes: Attributes,
    pub time: Timestamp,
}

#[derive(Debug, Default)]
pub struct Bus {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    ring: VecDeque<Arc<Event>>,
    listeners: Vec<Weak<Mailbox>>,
    last: Timestamp,
    count: u64,
}

#[derive(Debug)]
struct Mailbox {
    wake: EventFd,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Arc<Event>>,
    overflowed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    pub fn publish(&self, kind: Kind, action: impl Into<String>, id: impl Into<String>, attributes: Attributes) {
        let mut inner = lock(&self.inner);
        // Strictly rising, so that `since` cannot split two events of one tick.
        let time = time::now().max(Timestamp(inner.last.0 + 1));
        inner.last = time;
        inner.count += 1;
        let event = Arc::new(Event { kind, action: action.into(), id: id.into(), attributes, time });
        if inner.ring.len() == RING {
            inner.ring.pop_front();
        }
        inner.ring.push_back(event.clone());
        inner.listeners.retain(|listener| {
            let Some(mailbox) = listener.upgrade() else { return false };
            let mut queue = lock(&mailbox.queue);
            if queue.events.len() == BACKLOG {
                queue.overflowed = true;
                queue.events.clear();
            }
            if !queue.overflowed {
                queue.events.push_back(event.clone());
            }
            drop(queue);
            let _ = mailbox.wake.write(1);
            true
        });
    }

    /// The ring's events after `since` (none = no history) and a subscription
    /// that begins exactly where they end.
    pub fn subscribe(&self, since: Option<Timestamp>) -> Result<(Vec<Arc<Event>>, Subscription)> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context("create an eventfd")?;
        let mailbox = Arc::new(Mailbox { wake, queue: Mutex::default() });
        let mut inner = lock(&self.inner);
        let history = match since {
            Some(since) => inner.ring.iter().filter(|e| e.time >= since).cloned().collect(),
            None => Vec::new(),
        };
        inner.listeners.retain(|l| l.strong_count() > 0);
        inner.listeners.push(Arc::downgrade(&mailbox));
        Ok((history, Subscription { mailbox }))
    }

    /// Events since the start.
    pub fn count(&self) -> u64 {
        lock(&self.inner).count
    }

    /// How many listen, for `docker info`.
    pub fn listeners(&self) -> usize {
        lock(&self.inner).listeners.iter().filter(|l| l.strong_count() > 0).count()
    }
}

/// One listener. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    mailbox: Arc<Mailbox>,
}

impl Subscription {
    /// Readable when [`Subscription::take`] has something to say.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.mailbox.wake.as_fd()
    }

    /// What came since the last call, none if the listener was too slow and has
    /// been cut off.
    pub fn take(&self) -> Option<Vec<Arc<Event>>> {
        let _ = self.mailbox.wake.read();
        let mut queue = lock(&self.mailbox.queue);
        (!queue.overflowed).then(|| queue.events.drain(..).collect())
    }
}

/// Whether an event passes: keys AND together, values of one key OR, labels AND.
pub fn passes(event: &Event, filters: &BTreeMap<String, Vec<String>>) -> bool {
    let values = |key: &str| filters.get(key).filter(|v| !v.is_empty());
    let any = |key: &str, test: &dyn Fn(&str) -> bool| values(key).is_none_or(|v| v.iter().any(|v| test(v)));
    let actor = |kind: Kind| {
        move |wanted: &str| {
            let name = event.attributes.get("name").map(String::as_str).unwrap_or_default();
            match event.kind == kind {
                true => event.id == wanted || name == wanted || event.id.starts_with(wanted),
                // A volume or network event of a container counts as the container's.
                false => kind == Kind::Container && event.attributes.get("container").is_some_and(|c| c == wanted),
            }
        }
    };
    let image = |wanted: &str| {
        let repository = |name: &str| name.rsplit_once(':').map_or(name, |(r, _)| r).to_owned();
        let name = match event.kind {
            Kind::Image => event.attributes.get("name"),
            _ => event.attributes.get("image"),
        };
        (event.kind == Kind::Image && event.id == wanted)
            || name.is_some_and(|name| name == wanted || repository(name) == wanted)
    };
    // "exec_create: sh" is found by "exec_create" too.
    let action = |wanted: &str| {
        event.action == wanted
            || (!wanted.contains(": ") && event.action.split_once(": ").is_some_and(|(head, _)| head == wanted))
    };
    let label = |wanted: &String| match wanted.split_once('=') {
        Some((key, value)) => event.attributes.get(key).is_some_and(|v| v == value),
        None => event.attributes.contains_key(wanted),
    };
    any("event", &action)
        && any("type", &|t| event.kind.as_str() == t)
        && any("scope", &|s| s == "local")
        && any("container", &actor(Kind::Container))
        && any("volume", &actor(Kind::Volume))
        && any("network", &actor(Kind::Network))
        && any("plugin", &actor(Kind::Plugin))
        && any("daemon", &actor(Kind::Daemon))
        && any("image", &image)
        && values("label").is_none_or(|labels| labels.iter().all(label))
        && ["config", "node", "secret", "service"].iter().all(|k| values(k).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        let mut map = BTreeMap::<String, Vec<String>>::new();
        for (k, v) in pairs {
            map.entry((*k).to_owned()).or_default().push((*v).to_owned());
        }
        map
    }

    #[test]
    fn the_ring_keeps_the_last_and_subscribers_miss_nothing() {
        let bus = Bus::default();
        for n in 0..300 {
            bus.publish(Kind::Container, format!("a{n}"), "id", Attributes::new());
        }
        let (history, subscription) = bus.subscribe(Some(Timestamp(0))).unwrap();
        assert_eq!(history.len(), 256);
        assert_eq!(history[0].action, "a44");
        assert!(history.windows(2).all(|w| w[0].time < w[1].time));
        bus.publish(Kind::Volume, "create", "v", Attributes::new());
        assert_eq!(subscription.take().unwrap().len(), 1);
        assert!(subscription.take().unwrap().is_empty());
        assert_eq!(bus.listeners(), 1);
        drop(subscription);
        assert_eq!(bus.listeners(), 0);
    }

    #[test]
    fn a_slow_listener_is_cut_off() {
        let bus = Bus::default();
        let (_, subscription) = bus.subscribe(None).unwrap();
        for _ in 0..=BACKLOG {
            bus.publish(Kind::Image, "pull", "i", Attributes::new());
        }
        assert!(subscription.take().is_none());
    }

    #[test]
    fn filters_match_as_docker_does() {
        let attributes = [("name", "web"), ("image", "busybox:1"), ("l", "1")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into_iter()
            .collect();
        let event = Event {
            kind: Kind::Container,
            action: "exec_create: sh -c x".into(),
            id: "abc".repeat(20),
            attributes,
            time: Timestamp(0),
        };
        for (pairs, expected) in [
            (&[("event", "exec_create")][..], true),
            (&[("event", "start"), ("event", "exec_create")], true),
            (&[("event", "start")], false),
            (&[("container", "web")], true),
            (&[("container", "abca")], true),
            (&[("container", "x")], false),
            (&[("image", "busybox")], true),
            (&[("image", "busybox:1")], true),
            (&[("label", "l=1"), ("label", "name")], true),
            (&[("label", "l=1"), ("label", "l=2")], false),
            (&[("type", "image")], false),
            (&[("type", "container"), ("scope", "local")], true),
        ] {
            assert_eq!(passes(&event, &filters(pairs)), expected, "{pairs:?}");
        }
    }
}
