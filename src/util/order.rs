//! Stable sorting in little code. Pure.
//!
//! The standard library's sort is fast on millions of items and takes 6 kB of
//! text for every type and order that it is used with; our lists are short and
//! many. Here the merge is one function for all: it sorts places, and only the
//! comparison and the moving of items know the type.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// As `collect`, which would sort all items first, with a sort of its own for
/// every kind of iterator.
pub fn map<K: Ord, V>(items: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    for (key, value) in items {
        map.insert(key, value);
    }
    map
}

pub fn sort<T: Ord>(list: &mut [T]) {
    sort_by(list, T::cmp);
}

pub fn sort_by_key<T, K: Ord>(list: &mut [T], mut key: impl FnMut(&T) -> K) {
    sort_by(list, |a, b| key(a).cmp(&key(b)));
}

pub fn sort_by<T>(list: &mut [T], mut order: impl FnMut(&T, &T) -> Ordering) {
    let mut places = arrange(list.len(), &mut |a, b| order(&list[a], &list[b]));
    for start in 0..list.len() {
        // Around the ring that begins here; what is done points at itself.
        let mut at = start;
        loop {
            let from = std::mem::replace(&mut places[at], at);
            if from == start {
                break;
            }
            list.swap(at, from);
            at = from;
        }
    }
}

/// Paths as a walk meets them that takes names in order: a folder, all that is in it,
/// what comes behind it.
pub fn paths(a: &str, b: &str) -> Ordering {
    // No name has a NUL, so nothing comes before the end of one.
    let low = |b: u8| if b == b'/' { 0 } else { b };
    a.bytes().map(low).cmp(b.bytes().map(low))
}

/// Which item comes to which place: a merge sort from the bottom up.
#[inline(never)]
fn arrange(count: usize, order: &mut dyn FnMut(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    let mut merged = Vec::with_capacity(count);
    let mut run = 1;
    while run < count {
        merged.clear();
        for pair in places.chunks(2 * run) {
            let (mut left, mut right) = pair.split_at(run.min(pair.len()));
            while let (Some(l), Some(r)) = (left.first(), right.first()) {
                if order(*r, *l) == Ordering::Less {
                    merged.push(*r);
                    right = &right[1..];
                } else {
                    merged.push(*l);
                    left = &left[1..];
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        std::mem::swap(&mut places, &mut merged);
        run *= 2;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_and_keeps_equals_in_order() {
        let mut seed = 7u32;
        for count in 0..70 {
            let mut list: Vec<(u32, usize)> = (0..count)
                .map(|n| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 28, n)
                })
                .collect();
            let mut expected = list.clone();
            expected.sort_by_key(|(key, _)| *key);
            sort_by_key(&mut list, |(key, _)| *key);
            assert_eq!(list, expected);
        }
        let mut walked = ["a-b", "a/c", "a.d", "a", "a/b/c", "a/b"];
        sort_by(&mut walked, |a, b| paths(a, b));
        assert_eq!(walked, ["a", "a/b", "a/b/c", "a/c", "a-b", "a.d"]);
        let mut words = ["b", "c", "a"];
        sort(&mut words);
        assert_eq!(words, ["a", "b", "c"]);
    }
}
