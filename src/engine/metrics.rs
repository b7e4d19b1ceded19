//! Counters that only `--metrics-addr` shows. Any thread of dockerd counts; nothing
//! waits and nothing allocates.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the histogram's buckets in microseconds, as Prometheus' own library
/// has them; what is longer counts in the total alone.
pub const BUCKETS: [u64; 11] =
    [5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];

/// Actions on containers by the request that asks for them.
const ACTIONS: [(&str, &str, &str); 5] = [
    ("changes", "GET", "/containers/{id*}/changes"),
    ("commit", "POST", "/commit"),
    ("create", "POST", "/containers/create"),
    ("delete", "DELETE", "/containers/{id*}"),
    ("start", "POST", "/containers/{id*}/start"),
];

#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Histogram {
    fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BUCKETS.iter().position(|b| micros <= *b) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// How many took no longer than each bucket's end; how many in all; seconds.
    pub fn read(&self) -> ([u64; BUCKETS.len()], u64, f64) {
        let mut sum = 0;
        let buckets = std::array::from_fn(|n| {
            sum += self.buckets[n].load(Ordering::Relaxed);
            sum
        });
        (buckets, self.count.load(Ordering::Relaxed), self.micros.load(Ordering::Relaxed) as f64 / 1e6)
    }
}

#[derive(Debug, Default)]
pub struct Metrics {
    actions: [Histogram; ACTIONS.len()],
    probes: AtomicU64,
    failed_probes: AtomicU64,
}

impl Metrics {
    /// A request of the route `method` `pattern` took so long.
    pub fn acted(&self, method: &str, pattern: &str, time: Duration) {
        if let Some(n) = ACTIONS.iter().position(|(_, m, p)| *m == method && *p == pattern) {
            self.actions[n].add(time);
        }
    }
    /// A health check gave an answer.
    pub fn probed(&self, healthy: bool) {
        self.probes.fetch_add(1, Ordering::Relaxed);
        if !healthy {
            self.failed_probes.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn actions(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        ACTIONS.iter().map(|(name, ..)| *name).zip(&self.actions)
    }
    /// All, and those that failed.
    pub fn probes(&self) -> (u64, u64) {
        (self.probes.load(Ordering::Relaxed), self.failed_probes.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_all_that_is_shorter() {
        let metrics = Metrics::default();
        for millis in [1, 30, 20_000] {
            metrics.acted("POST", "/containers/create", Duration::from_millis(millis));
        }
        metrics.acted("GET", "/info", Duration::from_secs(1));
        let (buckets, count, seconds) = metrics.actions().find(|(n, _)| *n == "create").unwrap().1.read();
        assert_eq!((buckets[0], buckets[2], buckets[3], buckets[10], count), (1, 1, 2, 2, 3));
        assert!((seconds - 20.031).abs() < 1e-6);
        assert_eq!(metrics.actions().map(|(_, h)| h.read().1).sum::<u64>(), 3);
    }
}
