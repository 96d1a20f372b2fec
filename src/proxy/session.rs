//! Sessions: the number of one, and which of its requests count.
//!
//! Requests of one session fail together, and a test for independent draws would call a few unlucky sessions a bad release
//! (gate.md section 6: 27 to 63 % false rollbacks). So of each session, route and target at most one request and one failure
//! are judged in each block of 60 s. Which were is remembered for all workers in an array of fixed size, without a lock.

use crate::clock::Monotonic;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Length of a block.
const BLOCK_SECONDS: u64 = 60;
/// Notes of one block: half a megabyte, which a proxy has once its first session comes. Two for each session, so for some
/// 30,000 of them in a minute; of what finds no room nothing more is judged in its block, on either arm.
const SLOTS: usize = 1 << 16;
/// Places that are looked at for a note. With the array three quarters full, one note in a hundred finds none.
const PROBES: usize = 16;

/// What was counted lately.
#[derive(Debug)]
pub(super) struct Sessions {
    started: Monotonic,
    slots: OnceLock<Box<[AtomicU64]>>,
}

impl Sessions {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self { started: Monotonic::now(), slots: OnceLock::new() }
    }

    /// Whether this is the first time in the present block.
    pub(super) fn is_first_now(&self, what: u64) -> bool {
        self.is_first(what, self.started.elapsed().as_secs() / BLOCK_SECONDS)
    }

    /// Whether this is the first time in a block; no where there is no room to remember it.
    ///
    /// Within a block no place becomes free, so whoever looks for the same comes by the same places, and of two at the same
    /// time one finds the other's note.
    fn is_first(&self, what: u64, block: u64) -> bool {
        let what = mixed(what);
        let slots = self.slots.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        // Never 0, which is a place that was never used. Blocks have the same number again after 45 days.
        let block = (block % 0xffff + 1) << 48;
        let note = block | what >> 16;
        let first = usize::try_from(what & 0xffff).unwrap_or(0);
        for probe in 0..PROBES {
            let slot = &slots[(first + probe) % SLOTS];
            let mut found = slot.load(Ordering::Relaxed);
            while found >> 48 != block >> 48 {
                match slot.compare_exchange(found, note, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return true,
                    Err(other) => found = other,
                }
            }
            if found == note {
                return false;
            }
        }
        false
    }
}

/// Spreads a number over all bits (the finaliser of `SplitMix64`).
pub(super) const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

/// A session's number: XXH64 (xxHash specification 0.1.1), by which Envoy's hash policies place sessions too. Not for secrets.
pub(super) fn number(bytes: &[u8], seed: u64) -> u64 {
    let [first, second, third, fourth, fifth] = PRIMES;
    let (stripes, mut rest) = bytes.as_chunks::<32>();
    let mut hash = if stripes.is_empty() { seed.wrapping_add(fifth) } else { long(stripes, seed) };
    hash = hash.wrapping_add(bytes.len() as u64);
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        hash ^= round(0, u64::from_le_bytes(*word));
        hash = hash.rotate_left(27).wrapping_mul(first).wrapping_add(fourth);
        rest = tail;
    }
    if let Some((word, tail)) = rest.split_first_chunk::<4>() {
        hash ^= u64::from(u32::from_le_bytes(*word)).wrapping_mul(first);
        hash = hash.rotate_left(23).wrapping_mul(second).wrapping_add(third);
        rest = tail;
    }
    for byte in rest {
        hash ^= u64::from(*byte).wrapping_mul(fifth);
        hash = hash.rotate_left(11).wrapping_mul(first);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(second);
    hash = (hash ^ (hash >> 29)).wrapping_mul(third);
    hash ^ (hash >> 32)
}

const fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

fn long(stripes: &[[u8; 32]], seed: u64) -> u64 {
    let [first, second, _, fourth, _] = PRIMES;
    let mut lanes =
        [seed.wrapping_add(first).wrapping_add(second), seed.wrapping_add(second), seed, seed.wrapping_sub(first)];
    for stripe in stripes {
        let (words, _) = stripe.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }
    let turned = lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
    let mut hash = turned.fold(0_u64, u64::wrapping_add);
    for lane in lanes {
        hash = (hash ^ round(0, lane)).wrapping_mul(first).wrapping_add(fourth);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Made with the reference implementation, over all ways through the function.
    #[test]
    fn numbers_are_those_of_xxh64() {
        for (text, seed, hash) in [
            ("", 0, 0xef46_db37_51d8_e999),
            ("a", 0, 0xd24e_c4f1_a98c_6e5b),
            ("abc", 0, 0x44bc_2cf5_ad77_0999),
            ("abcdefghijklmnopqrstuvwxyz0123456789", 0, 0x64f2_3ecf_1609_b766),
            ("session-12", 7, 0x777c_8dbe_7cf8_b734),
            (&format!("{}xyz", "0123456789abcdef".repeat(5)), 1, 0x6b03_bf19_f919_c46c),
        ] {
            assert_eq!(number(text.as_bytes(), seed), hash, "{text}");
        }
    }

    #[test]
    fn something_is_first_once_in_each_block() {
        let sessions = Sessions::new();
        assert_eq!([sessions.is_first(7, 0), sessions.is_first(7, 0), sessions.is_first(8, 0)], [true, false, true]);
        assert_eq!([sessions.is_first(7, 1), sessions.is_first(7, 1), sessions.is_first(7, 2)], [true, false, true]);
        assert!(sessions.is_first_now(9) && !sessions.is_first_now(9));
    }

    #[test]
    fn a_full_array_forgets_nobody_and_takes_nobody() {
        let sessions = Sessions::new();
        let all: Vec<u64> = (0..200_000).collect();
        let taken: Vec<bool> = all.iter().map(|what| sessions.is_first(*what, 3)).collect();
        let count = taken.iter().filter(|taken| **taken).count();
        assert!(count <= SLOTS && count > SLOTS * 3 / 4, "{count}");
        assert!(all.iter().all(|what| !sessions.is_first(*what, 3)), "nothing is first twice");
        assert!(all.iter().take(1000).all(|what| sessions.is_first(*what, 4)), "a new block has room again");
    }

    #[test]
    fn workers_at_the_same_time_count_once() {
        let sessions = Sessions::new();
        let firsts: usize = std::thread::scope(|scope| {
            let worker = || (0..10_000).filter(|what| sessions.is_first(*what, 0)).count();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().expect("counted")).sum()
        });
        assert_eq!(firsts, 10_000);
    }

    proptest! {
        /// One bit more or less is another session, and no length breaks it.
        #[test]
        fn other_bytes_have_another_number(mut bytes in proptest::collection::vec(any::<u8>(), 1..200), at: usize, seed: u64) {
            let before = number(&bytes, seed);
            let at = at % bytes.len();
            bytes[at] ^= 1;
            prop_assert_ne!(number(&bytes, seed), before);
        }
    }
}
