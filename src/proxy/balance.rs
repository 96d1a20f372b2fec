//! Which endpoint of a target a request goes to, where its node has the tag `tidegate:balance`. Pure: time and chance come in
//! as numbers.
//!
//! **Least request.** Two endpoints by chance, of which the cheaper one is taken; cost = latency × (requests under way + 1). Two
//! are enough to keep the load even (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001), at the same
//! price for any number of endpoints. The latency is a moving average that rises at once and decays by e in 10 s ("peak EWMA"),
//! so an endpoint that was slow once is tried again. One without a latency counts as quick as the one that it is held
//! against, so a new endpoint gets what its requests under way say, and not all there is. A failure makes nobody quicker.
//!
//! **Slow start.** A new endpoint's weight grows over the window from 10 % to all of it, as Envoy's `SlowStartConfig` has it with
//! an aggression of 1: max(10 %, age / window). Endpoints let turns pass as often as they lack weight; with least request
//! both candidates are drawn by weight.

use super::split::take_turn;
use crate::clock::Monotonic;
use crate::mesh::snapshot::extension::{Balance, Choice};
use std::cell::Cell;
use std::time::Duration;

/// In this time an endpoint's latency decays by e: Finagle's default. Long enough that a worker with a few requests a second
/// knows something, short enough that one that recovered is soon found out.
const DECAY: Duration = Duration::from_secs(10);
/// A latency that decayed below this says nothing any more.
const LEAST_LATENCY_US: f64 = 1.0;
/// No endpoint's weight is less: Envoy's default of `min_weight_percent`.
const LEAST_WEIGHT: f64 = 0.1;
/// So often endpoints are drawn for a retry until there is one that was not tried: as App Mesh has it for Envoy
/// (`host_selection_retry_max_attempts`).
const ATTEMPTS: u32 = 5;
/// So many draws are made for a choice by weight. Weights are 10 % or more, so of 1000 choices 999 are made by then, and the last
/// one drawn is taken instead: that bounds a request's time.
const DRAWS: u32 = 64;

/// What one worker knows of an endpoint's load.
#[derive(Debug, Default)]
pub struct Load {
    under_way: Cell<u32>,
    latency_us: Cell<f64>,
    /// When that was noted.
    at: Cell<Option<Monotonic>>,
}

/// What an endpoint is chosen by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// `None` where nothing is known.
    latency_us: Option<f64>,
    under_way: u32,
}

impl Load {
    /// One request more is under way.
    pub fn enter(&self) {
        self.under_way.set(self.under_way.get().saturating_add(1));
    }

    /// One less.
    pub fn leave(&self) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
    }

    /// Notes how long a try took to its answer, or to its failure.
    pub fn note(&self, now: Monotonic, latency: Duration, has_failed: bool) {
        let (new, old) = (latency.as_secs_f64() * 1e6, self.latency_us.get());
        let kept = self.kept(now);
        let latency_us = if has_failed || new > old * kept {
            // What fails quickly is not quick; it does not become so by failing again either.
            if has_failed { new.max(old) } else { new }
        } else {
            old.mul_add(kept, new * (1.0 - kept))
        };
        // An endpoint that has done nothing but fail stays unknown.
        if !has_failed || old > 0.0 {
            self.latency_us.set(latency_us);
            self.at.set(Some(now));
        }
    }

    /// What is left of the latency.
    fn kept(&self, now: Monotonic) -> f64 {
        self.at.get().map_or(0.0, |at| (-now.since(at).as_secs_f64() / DECAY.as_secs_f64()).exp())
    }

    /// What another request there would cost.
    pub fn cost(&self, now: Monotonic) -> Cost {
        let latency_us = self.latency_us.get() * self.kept(now);
        Cost { latency_us: (latency_us >= LEAST_LATENCY_US).then_some(latency_us), under_way: self.under_way.get() }
    }
}

impl Cost {
    /// Whether it is less than the other one.
    #[must_use]
    pub fn is_below(self, other: Self) -> bool {
        let (one, two) = match (self.latency_us, other.latency_us) {
            (None, None) => (1.0, 1.0),
            (Some(both), None) | (None, Some(both)) => (both, both),
            (Some(one), Some(two)) => (one, two),
        };
        one * (f64::from(self.under_way) + 1.0) < two * (f64::from(other.under_way) + 1.0)
    }
}

/// How the endpoints of a set are chosen.
#[derive(Debug, Clone)]
pub struct Balanced {
    by: Choice,
    slow_start: Option<SlowStart>,
}

#[derive(Debug, Clone)]
struct SlowStart {
    window: Duration,
    /// Since when each endpoint is one, by its index.
    since: Vec<Monotonic>,
    /// The oldest of those in use, whose weight is the largest.
    oldest: Monotonic,
    /// Until when somebody has not all of its weight.
    until: Monotonic,
}

/// What a choice is made of.
pub struct Among<'a> {
    /// Indexes of the endpoints that may be chosen.
    pub usable: &'a [u32],
    /// Has bit i set for endpoint i that was tried.
    pub tried: u64,
    /// When.
    pub now: Monotonic,
}

impl Among<'_> {
    fn was_tried(&self, endpoint: u32) -> bool {
        self.tried.checked_shr(endpoint).unwrap_or(0) & 1 == 1
    }
}

impl Balanced {
    /// As a node says it, of endpoints that are such since then, of which these are in use.
    #[must_use]
    pub fn new(balance: Balance, since: Vec<Monotonic>, usable: &[u32]) -> Self {
        let of_usable = || usable.iter().filter_map(|endpoint| since.get(usize::try_from(*endpoint).ok()?).copied());
        let ends = of_usable().min().zip(of_usable().max());
        let slow_start = balance.slow_start.zip(ends).map(|(window, (oldest, newest))| SlowStart {
            window: window.duration(),
            oldest,
            until: newest.plus(window.duration()),
            since,
        });
        Self { by: balance.by, slow_start }
    }

    /// Whether what is under way to an endpoint, and how long it takes, has to be known.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.by == Choice::LeastRequest
    }

    /// The endpoint for a try; `None` where there is none. `cursor` says whose turn it is, `draw` brings chance, `cost` what
    /// an endpoint would cost.
    pub fn choose(
        &self,
        among: &Among<'_>,
        cursor: &mut usize,
        draw: &mut impl FnMut() -> u64,
        cost: impl Fn(u32) -> Cost,
    ) -> Option<u32> {
        let usable = among.usable;
        let slow = self.slow_start.as_ref().filter(|slow| among.now < slow.until);
        if usable.len() < 2 || (slow.is_none() && self.by == Choice::RoundRobin) {
            return take_turn(cursor, usable, among.tried);
        }
        for _ in 0..if among.tried == 0 { 1 } else { ATTEMPTS } {
            let chosen = match self.by {
                Choice::RoundRobin => slow_turn(among, cursor, slow?, draw)?,
                Choice::LeastRequest => {
                    let (one, two) = match slow {
                        None => two_of(draw(), usable),
                        Some(slow) => (slow.drawn(among, draw), slow.drawn(among, draw)),
                    };
                    if cost(two).is_below(cost(one)) { two } else { one }
                }
            };
            if !among.was_tried(chosen) {
                return Some(chosen);
            }
        }
        take_turn(cursor, usable, among.tried)
    }
}

/// Two different ones of at least two, all pairs alike.
fn two_of(draw: u64, usable: &[u32]) -> (u32, u32) {
    let scaled = |part: u64, most: usize| {
        let scaled = (part * u64::try_from(most).unwrap_or(u64::MAX)) >> 32;
        usize::try_from(scaled).unwrap_or(0)
    };
    let one = scaled(draw >> 32, usable.len());
    let other = scaled(draw & u64::from(u32::MAX), usable.len() - 1);
    (usable[one], usable[if other < one { other } else { other + 1 }])
}

/// The next one in turn that does not let its turn pass, which an endpoint does as often as it lacks weight. So each gets what
/// its weight says, and turns stay even. The heaviest lets none pass.
fn slow_turn(among: &Among<'_>, cursor: &mut usize, slow: &SlowStart, draw: &mut impl FnMut() -> u64) -> Option<u32> {
    let mut next = take_turn(cursor, among.usable, 0)?;
    for _ in 0..DRAWS {
        if slow.takes(next, among.now, draw()) {
            break;
        }
        next = take_turn(cursor, among.usable, 0)?;
    }
    Some(next)
}

impl SlowStart {
    fn weight_since(&self, since: Monotonic, now: Monotonic) -> f64 {
        let age = now.since(since).max(Duration::from_millis(1));
        (age.as_secs_f64() / self.window.as_secs_f64()).clamp(LEAST_WEIGHT, 1.0)
    }

    /// Whether a uniform draw falls into an endpoint's part of the largest weight.
    fn takes(&self, endpoint: u32, now: Monotonic, draw: u64) -> bool {
        let since = usize::try_from(endpoint).ok().and_then(|endpoint| self.since.get(endpoint)).copied();
        let weight = since.map_or(1.0, |since| self.weight_since(since, now));
        // 2^64; what is lost of a draw's lower bits decides nothing.
        (draw as f64) < weight / self.weight_since(self.oldest, now) * 18_446_744_073_709_551_616.0
    }

    /// One by weight.
    fn drawn(&self, among: &Among<'_>, draw: &mut impl FnMut() -> u64) -> u32 {
        let mut drawn = among.usable[0];
        for _ in 0..DRAWS {
            let number = draw();
            let index = (u128::from(number) * among.usable.len() as u128) >> 64;
            drawn = among.usable[usize::try_from(index).unwrap_or(0)];
            if self.takes(drawn, among.now, draw()) {
                break;
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Millis;
    use crate::proxy::split::Draws;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn balance(by: Choice, slow_start: Option<u64>) -> Balance {
        Balance { by, slow_start: slow_start.map(Millis::from_seconds) }
    }

    /// How often each endpoint is chosen, of so many requests that end at once.
    fn shares(balanced: &Balanced, usable: &[u32], now: Monotonic, n: usize, loads: &[Load]) -> Vec<f64> {
        let (mut draws, mut cursor) = (Draws::seeded(7), 0);
        let mut counts = vec![0_u32; loads.len()];
        for _ in 0..n {
            let among = Among { usable, tried: 0, now };
            let cost = |endpoint: u32| loads[endpoint as usize].cost(now);
            let chosen = balanced.choose(&among, &mut cursor, &mut || draws.draw(), cost).expect("some are usable");
            counts[chosen as usize] += 1;
        }
        counts.iter().map(|count| f64::from(*count) / n as f64).collect()
    }

    fn assert_close(shares: &[f64], wanted: &[f64]) {
        assert_eq!(shares.len(), wanted.len());
        for (share, wanted) in shares.iter().zip(wanted) {
            assert!((share - wanted).abs() < 0.01, "{shares:?} is not {wanted:?}");
        }
    }

    #[test]
    fn a_latency_rises_at_once_and_decays_by_e_in_ten_seconds() {
        let (load, start) = (Load::default(), Monotonic::now());
        let at = |seconds: u32| start.plus(S * seconds);
        let latency = |seconds| load.cost(at(seconds)).latency_us;
        assert_eq!(latency(0), None);
        load.note(at(0), 10 * MS, false);
        load.note(at(0), 100 * MS, false);
        assert_eq!(latency(0), Some(100_000.0));
        let left = latency(10).expect("something is left");
        assert!((left - 100_000.0 * (-1.0_f64).exp()).abs() < 1.0, "{left}");
        // 36.8 ms are left of it, and 6.3 ms are the new one's part.
        load.note(at(10), 10 * MS, false);
        let averaged = latency(10).expect("something is left");
        assert!((averaged - (36_787.9 + 6_321.2)).abs() < 1.0, "{averaged}");
        // 43.1 ms have decayed to 15.9 ms, and a longer one is all that counts.
        load.note(at(20), 20 * MS, false);
        assert_eq!(latency(20), Some(20_000.0));
        assert_eq!(latency(1000), None, "after long nothing is known any more");
    }

    #[test]
    fn what_fails_quickly_is_not_quick() {
        let (load, now) = (Load::default(), Monotonic::now());
        load.note(now, MS, true);
        assert_eq!(load.cost(now).latency_us, None);
        load.note(now, 10 * MS, false);
        for seconds in 1..100 {
            load.note(now.plus(S * seconds), MS, true);
        }
        assert_eq!(load.cost(now.plus(S * 99)).latency_us, Some(10_000.0));
        load.note(now.plus(S * 99), 20 * MS, true);
        assert_eq!(load.cost(now.plus(S * 99)).latency_us, Some(20_000.0));
    }

    #[test]
    fn cost_is_latency_times_what_is_under_way() {
        let cost = |latency_us, under_way| Cost { latency_us, under_way };
        for (one, two, is_below) in [
            (cost(Some(10.0), 0), cost(Some(20.0), 0), true),
            (cost(Some(10.0), 1), cost(Some(20.0), 0), false),
            (cost(Some(10.0), 2), cost(Some(20.0), 0), false),
            (cost(None, 0), cost(Some(1.0), 0), false),
            (cost(None, 0), cost(Some(1.0), 1), true),
            (cost(Some(1e9), 0), cost(None, 1), true),
            (cost(None, 1), cost(None, 1), false),
        ] {
            assert_eq!(one.is_below(two), is_below, "{one:?} {two:?}");
        }
        let (load, now) = (Load::default(), Monotonic::now());
        load.enter();
        load.enter();
        load.leave();
        assert_eq!(load.cost(now).under_way, 1);
    }

    #[test]
    fn two_are_different_and_all_pairs_alike() {
        let (mut draws, usable) = (Draws::seeded(1), [4, 5, 6]);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..60_000 {
            *counts.entry(two_of(draws.draw(), &usable)).or_insert(0_i32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.iter().all(|((one, two), count)| one != two && (count - 10_000).abs() < 500), "{counts:?}");
        for draw in [0, u64::MAX] {
            assert_eq!(two_of(draw, &[1, 2]).0 + two_of(draw, &[1, 2]).1, 3);
        }
    }

    #[test]
    fn least_request_prefers_the_idle_and_the_quick() {
        let (now, usable) = (Monotonic::now(), [0, 1, 2]);
        let balanced = Balanced::new(balance(Choice::LeastRequest, None), vec![now; 3], &usable);
        let loads: [Load; 3] = Default::default();
        assert_close(&shares(&balanced, &usable, now, 30_000, &loads), &[1.0 / 3.0; 3]);
        loads[2].enter();
        // Of three pairs it is in two, and loses both.
        assert_close(&shares(&balanced, &usable, now, 30_000, &loads), &[0.5, 0.5, 0.0]);
        for (load, latency) in loads.iter().zip([20, 10, 1]) {
            load.note(now, latency * MS, false);
        }
        assert_close(&shares(&balanced, &usable, now, 30_000, &loads), &[0.0, 1.0 / 3.0, 2.0 / 3.0]);
    }

    /// Requests that stay under way: a new endpoint has nothing to show yet, and gets no more than its part.
    #[test]
    fn a_new_endpoint_is_not_flooded() {
        let (now, usable) = (Monotonic::now(), [0, 1, 2, 3]);
        let balanced = Balanced::new(balance(Choice::LeastRequest, None), vec![now; 4], &usable);
        let loads: [Load; 4] = Default::default();
        for load in &loads[1..] {
            load.note(now, 10 * MS, false);
            (0..25).for_each(|_| load.enter());
        }
        let (mut draws, mut cursor) = (Draws::seeded(3), 0);
        for _ in 0..100 {
            let among = Among { usable: &usable, tried: 0, now };
            let cost = |endpoint: u32| loads[endpoint as usize].cost(now);
            let chosen = balanced.choose(&among, &mut cursor, &mut || draws.draw(), cost).expect("some are usable");
            loads[chosen as usize].enter();
        }
        let under_way: Vec<u32> = loads.iter().map(|load| load.under_way.get()).collect();
        assert!(under_way[0] <= 50 && under_way.iter().all(|count| (25..=55).contains(count)), "{under_way:?}");
    }

    #[test]
    fn a_new_endpoints_weight_grows_over_the_window() {
        let start = Monotonic::now();
        let (old, new) = (start, start.plus(S * 1000));
        for by in [Choice::RoundRobin, Choice::LeastRequest] {
            let usable = [0, 1, 2, 3];
            let balanced = Balanced::new(balance(by, Some(100)), vec![old, old, new, old], &usable);
            let loads: [Load; 4] = Default::default();
            for (seconds, weight) in [(0, 0.1), (10, 0.1), (25, 0.25), (50, 0.5), (99, 0.99), (101, 1.0)] {
                let shares = shares(&balanced, &usable, new.plus(S * seconds), 60_000, &loads);
                let other = 1.0 / (3.0 + weight);
                assert_close(&shares, &[other, other, weight * other, other]);
            }
        }
    }

    #[test]
    fn endpoints_that_are_new_together_share_alike() {
        let (start, usable) = (Monotonic::now(), [0, 1]);
        let balanced = Balanced::new(balance(Choice::RoundRobin, Some(100)), vec![start; 2], &usable);
        let loads: [Load; 2] = Default::default();
        assert_eq!(shares(&balanced, &usable, start.plus(S), 1000, &loads), [0.5, 0.5]);
        // One that is out of use makes no difference.
        let balanced =
            Balanced::new(balance(Choice::RoundRobin, Some(100)), vec![start, start, start.plus(S)], &usable);
        assert_eq!(shares(&balanced, &usable, start.plus(S * 2), 1000, &loads), [0.5, 0.5]);
    }

    #[test]
    fn a_retry_goes_elsewhere_where_that_is_possible() {
        let start = Monotonic::now();
        for (by, slow) in [
            (Choice::RoundRobin, None),
            (Choice::RoundRobin, Some(100)),
            (Choice::LeastRequest, None),
            (Choice::LeastRequest, Some(100)),
        ] {
            let usable = [0, 1, 2];
            let since = vec![start, start, start.plus(S * 1000)];
            let balanced = Balanced::new(balance(by, slow), since, &usable);
            let (mut draws, mut cursor) = (Draws::seeded(5), 0);
            let mut choose = |usable: &[u32], tried| {
                let among = Among { usable, tried, now: start.plus(S * 1000) };
                let cost = |_| Cost { latency_us: None, under_way: 0 };
                balanced.choose(&among, &mut cursor, &mut || draws.draw(), cost)
            };
            for _ in 0..1000 {
                assert_eq!(choose(&usable, 0b011), Some(2), "{by:?} {slow:?}");
                assert_eq!(choose(&usable, 0b110), Some(0), "{by:?} {slow:?}");
                assert!(choose(&usable, 0b111).is_some());
            }
            assert_eq!((choose(&[], 0), choose(&[1], 0b010)), (None, Some(1)));
        }
    }

    /// The one that was tried is the cheapest; of the others the cheaper one is wanted.
    #[test]
    fn a_retry_is_a_choice_too() {
        let (now, usable) = (Monotonic::now(), [0, 1, 2]);
        let balanced = Balanced::new(balance(Choice::LeastRequest, None), vec![now; 3], &usable);
        let (mut draws, mut cursor, mut cheaper) = (Draws::seeded(9), 0, 0);
        for _ in 0..1000 {
            let among = Among { usable: &usable, tried: 0b001, now };
            let cost = |endpoint| Cost { latency_us: Some([1.0, 100.0, 10.0][endpoint as usize]), under_way: 0 };
            let chosen = balanced.choose(&among, &mut cursor, &mut || draws.draw(), cost);
            assert_ne!(chosen, Some(0));
            cheaper += u32::from(chosen == Some(2));
        }
        // In two of three draws the one that was tried wins; after five of those it is a matter of turns.
        assert!(cheaper > 850, "{cheaper}");
    }
}
