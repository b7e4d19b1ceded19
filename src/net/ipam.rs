//! Which addresses of one pool are taken. Pure; lives in netd, next to the
//! links that have the addresses, so the two cannot disagree.
//!
//! Invariant: an address is handed out only if no live endpoint has it. Free
//! ones are taken in rising order from the last one given, so that an address
//! rests as long as possible before it comes back.

use crate::net::subnet::{Subnet, from_number, number};
use std::collections::HashSet;
use std::net::IpAddr;

#[derive(Debug, Clone)]
pub struct Pool {
    subnet: Subnet,
    first: u128,
    last: u128,
    taken: HashSet<u128>,
    next: u128,
}

impl Pool {
    /// `range` narrows what is chosen automatically. The network's own address
    /// and, for IPv4, the broadcast address are never given.
    pub fn new(subnet: Subnet, range: Option<Subnet>) -> Self {
        let subnet = subnet.masked();
        let (mut first, mut last) = (subnet.first(), subnet.last());
        if last - first > 1 {
            first += 1;
            if subnet.is_ipv4() {
                last -= 1;
            }
        }
        if let Some(range) = range {
            first = first.max(range.first());
            last = last.min(range.last());
        }
        Self { subnet, first, last, taken: HashSet::new(), next: first }
    }

    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// Takes one address; false if it is outside or already taken.
    pub fn take(&mut self, address: IpAddr) -> bool {
        self.subnet.contains(address) && self.taken.insert(number(address))
    }

    /// The next free address of the range.
    pub fn next_free(&mut self) -> Option<IpAddr> {
        let mut at = if (self.first..=self.last).contains(&self.next) { self.next } else { self.first };
        // One more step than there are taken ones must meet a free one.
        for _ in 0..=self.taken.len() {
            if self.first > self.last {
                return None;
            }
            let following = if at == self.last { self.first } else { at + 1 };
            if self.taken.insert(at) {
                self.next = following;
                return Some(from_number(at, self.subnet.is_ipv4()));
            }
            at = following;
        }
        None
    }

    pub fn release(&mut self, address: IpAddr) {
        if self.subnet.contains(address) {
            self.taken.remove(&number(address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_small_pool_is_used_up_and_reused_in_order() {
        let mut pool = Pool::new("10.0.0.0/29".parse().unwrap(), None);
        assert!(pool.take(ip("10.0.0.1")));
        assert!(!pool.take(ip("10.0.0.1")) && !pool.take(ip("10.0.0.8")));
        let given: Vec<_> = std::iter::from_fn(|| pool.next_free()).collect();
        assert_eq!(given, (2..=6).map(|n| ip(&format!("10.0.0.{n}"))).collect::<Vec<_>>());
        pool.release(ip("10.0.0.5"));
        pool.release(ip("10.0.0.3"));
        assert_eq!(pool.next_free(), Some(ip("10.0.0.3")));
        assert_eq!(pool.next_free(), Some(ip("10.0.0.5")));
        assert_eq!(pool.next_free(), None);
    }

    #[test]
    fn ranges_tiny_pools_and_ipv6() {
        let mut pool = Pool::new("10.1.0.0/16".parse().unwrap(), Some("10.1.4.0/30".parse().unwrap()));
        let given: Vec<_> = std::iter::from_fn(|| pool.next_free()).collect();
        assert_eq!(given, (0..4).map(|n| ip(&format!("10.1.4.{n}"))).collect::<Vec<_>>());
        assert!(pool.take(ip("10.1.9.9")));
        let mut pool = Pool::new("10.0.0.4/31".parse().unwrap(), None);
        assert_eq!(
            (pool.next_free(), pool.next_free(), pool.next_free()),
            (Some(ip("10.0.0.4")), Some(ip("10.0.0.5")), None)
        );
        let mut pool = Pool::new("fd00::/64".parse().unwrap(), None);
        assert!(pool.take(ip("fd00::1")));
        assert_eq!(pool.next_free(), Some(ip("fd00::2")));
    }

    /// No address is ever held twice, whatever the order of calls.
    #[test]
    fn never_twice() {
        let mut pool = Pool::new("10.0.0.0/27".parse().unwrap(), None);
        let mut held = Vec::new();
        let mut state = 7u32;
        for _ in 0..5000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if !held.is_empty() && (state >> 30 == 0 || held.len() == 30) {
                let gone: IpAddr = held.swap_remove((state >> 8) as usize % held.len());
                pool.release(gone);
            } else if let Some(new) = pool.next_free() {
                assert!(!held.contains(&new));
                held.push(new);
            }
        }
    }
}
