//! What was found of tokens, for a short time: a busy client costs one read of the database every [`FRESH`], a flood of
//! wrong tokens a bounded number of them, and a database that is down keeps nobody from ending a bad release.

use crate::base::token::{TokenHash, TokenId, TokenRecord};
use crate::clock::Monotonic;
use std::collections::HashMap;
use std::time::Duration;

/// What was found counts so long. A revoked token is let in at most so much longer by daemons that did not revoke it.
pub const FRESH: Duration = Duration::from_secs(10);
/// While the store does not answer, what was found counts so long: an outage ends within it or is being worked at, and a
/// token that was revoked during one should not live for ever.
pub const STALE: Duration = Duration::from_secs(60 * 60);
/// That there is no such token counts so long: a token that was just made by another process works soon.
const UNKNOWN: Duration = Duration::from_secs(2);
/// After a failure the store is asked again for the same token so much later: requests meanwhile do not wait for it.
const AGAIN: Duration = Duration::from_secs(5);
/// Tokens that are remembered, of each kind: as many as there may be.
const KEPT: usize = crate::ports::TOKENS_MAX;
/// Tokens that nobody has seen yet are looked up so often in a second, and a burst so many at once: whoever guesses gets
/// no further, and the database does not notice.
const LOOKUPS_PER_S: f64 = 10.0;
const LOOKUPS_AT_ONCE: f64 = 30.0;

/// What to do about a token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Look {
    /// This is it.
    Known(TokenRecord),
    /// There is none of that kind.
    Unknown,
    /// Ask the store; if it does not answer, this counts.
    Ask(Option<TokenRecord>),
    /// Too many tokens that nobody knows are being tried.
    Limited,
}

#[derive(Debug)]
struct Kept {
    record: TokenRecord,
    /// When the store was last asked and answered.
    at: Monotonic,
    /// Not asked again before.
    not_before: Monotonic,
}

/// What was found, by the hashes of tokens. A hash of a guess tells nothing of a token, so no comparison need be slow.
#[derive(Debug)]
pub(super) struct Cache {
    known: HashMap<TokenHash, Kept>,
    unknown: HashMap<TokenHash, Monotonic>,
    /// Lookups that are left, as of `filled`.
    left: f64,
    filled: Monotonic,
}

impl Cache {
    pub(super) fn new(now: Monotonic) -> Self {
        Self { known: HashMap::new(), unknown: HashMap::new(), left: LOOKUPS_AT_ONCE, filled: now }
    }

    /// What to do about a token. Who is told to ask says what came of it by [`Cache::told`] or [`Cache::failed`].
    pub(super) fn look(&mut self, hash: &TokenHash, now: Monotonic) -> Look {
        if let Some(kept) = self.known.get_mut(hash) {
            let age = now.since(kept.at);
            if age < FRESH || (age < STALE && now < kept.not_before) {
                return Look::Known(kept.record.clone());
            }
            // One asks; the others go by what is known meanwhile.
            kept.not_before = now.after(AGAIN);
            return Look::Ask((age < STALE).then(|| kept.record.clone()));
        }
        if self.unknown.get(hash).is_some_and(|at| now.since(*at) < UNKNOWN) {
            return Look::Unknown;
        }
        self.left = (self.left + now.since(self.filled).as_secs_f64() * LOOKUPS_PER_S).min(LOOKUPS_AT_ONCE);
        self.filled = now;
        if self.left < 1.0 {
            return Look::Limited;
        }
        self.left -= 1.0;
        Look::Ask(None)
    }

    /// What the store answered.
    pub(super) fn told(&mut self, hash: &TokenHash, found: Option<&TokenRecord>, now: Monotonic) {
        match found {
            Some(record) => {
                self.unknown.remove(hash);
                make_room(&mut self.known, |kept| kept.at);
                self.known.insert(hash.clone(), Kept { record: record.clone(), at: now, not_before: now });
            }
            None => {
                self.known.remove(hash);
                make_room(&mut self.unknown, |at| *at);
                self.unknown.insert(hash.clone(), now);
            }
        }
    }

    /// The store did not answer.
    pub(super) fn failed(&mut self, hash: &TokenHash, now: Monotonic) {
        if let Some(kept) = self.known.get_mut(hash) {
            kept.not_before = now.after(AGAIN);
        }
    }

    /// This process made or revoked that token: what is known of it is out of date.
    pub(super) fn forget(&mut self, id: &TokenId) {
        self.known.retain(|_, kept| kept.record.id != *id);
        self.unknown.clear();
    }
}

/// Removes the oldest where there is no room for one more.
fn make_room<V>(kept: &mut HashMap<TokenHash, V>, at: impl Fn(&V) -> Monotonic) {
    if kept.len() < KEPT {
        return;
    }
    let oldest = kept.iter().min_by_key(|(_, value)| at(value)).map(|(hash, _)| hash.clone());
    if let Some(hash) = oldest {
        kept.remove(&hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;
    use crate::base::token::{Role, Token};

    fn token(number: u32) -> (TokenHash, TokenRecord) {
        let mut secret = [0; 32];
        secret[..4].copy_from_slice(&number.to_be_bytes());
        let token = Token::new([0; 6], secret);
        let record = TokenRecord {
            id: token.id().clone(),
            name: format!("t{number}"),
            role: Role::Viewer,
            created_at: Timestamp(0),
            created_by: String::new(),
            revoked: None,
        };
        (token.hash(), record)
    }

    #[test]
    fn what_was_found_counts_for_ten_seconds() {
        let now = Monotonic::now();
        let (mut cache, (hash, record)) = (Cache::new(now), token(1));
        assert_eq!(cache.look(&hash, now), Look::Ask(None));
        cache.told(&hash, Some(&record), now);
        let at = |ms| now.after(Duration::from_millis(ms));
        assert_eq!(cache.look(&hash, at(9_999)), Look::Known(record.clone()));
        assert_eq!(cache.look(&hash, at(10_000)), Look::Ask(Some(record.clone())));
        // One asks, and the others do not wait for it.
        assert_eq!(cache.look(&hash, at(10_001)), Look::Known(record.clone()));
        let revoked = TokenRecord { revoked: Some((Timestamp(1), "ann".into())), ..record };
        cache.told(&hash, Some(&revoked), at(10_002));
        assert_eq!(cache.look(&hash, at(10_003)), Look::Known(revoked));
        cache.told(&hash, None, at(10_004));
        assert_eq!(cache.look(&hash, at(10_005)), Look::Unknown);
        assert_eq!(cache.look(&hash, at(12_004)), Look::Ask(None));
    }

    #[test]
    fn while_the_store_does_not_answer_what_was_found_counts_for_an_hour() {
        let now = Monotonic::now();
        let (mut cache, (hash, record)) = (Cache::new(now), token(1));
        cache.told(&hash, Some(&record), now);
        let mut asked = 0;
        for second in 0..3_600 {
            let now = now.after(Duration::from_secs(second));
            match cache.look(&hash, now) {
                Look::Known(found) => assert_eq!(found, record),
                Look::Ask(stale) => {
                    assert_eq!(stale, Some(record.clone()), "{second} s");
                    asked += 1;
                    cache.failed(&hash, now);
                }
                other => panic!("{second} s: {other:?}"),
            }
        }
        assert_eq!(asked, 718, "it is asked every 5 s and not with each request");
        assert_eq!(cache.look(&hash, now.after(Duration::from_secs(3_605))), Look::Ask(None));
    }

    #[test]
    fn wrong_tokens_cost_a_bounded_number_of_reads_and_no_known_token_its_entry() {
        let now = Monotonic::now();
        let (mut cache, (good, record)) = (Cache::new(now), token(0));
        cache.told(&good, Some(&record), now);
        let mut reads = 0;
        for number in 1..=50_000_u32 {
            // 5 s of them.
            let now = now.after(Duration::from_micros(u64::from(number) * 100));
            let (hash, _) = token(number);
            match cache.look(&hash, now) {
                Look::Ask(None) => {
                    reads += 1;
                    cache.told(&hash, None, now);
                    // The same again asks nobody.
                    assert_eq!(cache.look(&hash, now), Look::Unknown);
                }
                Look::Limited => {}
                other => panic!("{other:?}"),
            }
        }
        assert!((79..=81).contains(&reads), "{reads}");
        assert_eq!(cache.look(&good, now.after(Duration::from_secs(6))), Look::Known(record));
    }

    #[test]
    fn it_keeps_a_bounded_number_the_newest() {
        let now = Monotonic::now();
        let mut cache = Cache::new(now);
        for number in 0..1_500_u32 {
            let (hash, record) = token(number);
            cache.told(&hash, Some(&record), now.after(Duration::from_millis(u64::from(number))));
            cache.told(&token(100_000 + number).0, None, now.after(Duration::from_millis(u64::from(number))));
        }
        assert_eq!((cache.known.len(), cache.unknown.len()), (KEPT, KEPT));
        assert!(cache.known.contains_key(&token(1_499).0) && !cache.known.contains_key(&token(499).0));
    }
}
