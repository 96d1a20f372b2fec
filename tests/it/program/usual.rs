//! A service as most are: one request in a thousand fails, and some take much longer than most. And the same a little worse.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// Shares of the requests and how many microseconds these take at most, from the shortest to the longest: lognormal with a median
/// of 50 ms and a sigma of 0.6, the latencies of the judge's own goals. In between it is a straight line.
const LATENCY_US: [(f64, u64); 12] = [
    (0.0, 10_500),
    (0.01, 12_380),
    (0.05, 18_640),
    (0.1, 23_180),
    (0.25, 33_360),
    (0.5, 50_000),
    (0.75, 74_940),
    (0.9, 107_880),
    (0.95, 134_150),
    (0.99, 201_900),
    (0.999, 319_300),
    (1.0, 460_400),
];
/// From this share on they are the slowest 5 %.
const SLOWEST_FROM: f64 = 0.95;

/// What takes twice as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubled {
    Nothing,
    Everything,
    /// The slowest 5 %.
    Slowest,
}

/// One that fails one request in so many, by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usual {
    pub(crate) fails_one_in: u32,
    pub(crate) doubled: Doubled,
    /// Two services with the same seed do the same with their n-th request.
    pub(crate) seed: u64,
}

impl Usual {
    /// Whether the request of this number fails, and how long it takes.
    pub(crate) fn draw(&self, number: u64) -> (bool, Duration) {
        let mut chance = StdRng::seed_from_u64(self.seed.wrapping_mul(1 << 40).wrapping_add(number));
        let fails = chance.random_ratio(1, self.fails_one_in);
        let share = chance.random_range(0.0..1.0);
        let doubles = match self.doubled {
            Doubled::Nothing => false,
            Doubled::Everything => true,
            Doubled::Slowest => share >= SLOWEST_FROM,
        };
        (fails, latency(share) * if doubles { 2 } else { 1 })
    }
}

/// What that share of the requests takes at most.
fn latency(share: f64) -> Duration {
    let above = LATENCY_US.partition_point(|(known, _)| *known <= share).clamp(1, LATENCY_US.len() - 1);
    let [(from, least), (to, most)] = [LATENCY_US[above - 1], LATENCY_US[above]];
    let part = (share - from) / (to - from);
    Duration::from_secs_f64((least as f64 + part * (most - least) as f64) / 1e6)
}

#[test]
fn it_is_as_slow_and_as_often_wrong_as_it_says() {
    const REQUESTS: u64 = 20_000;
    let usual = |doubled| Usual { fails_one_in: 20, doubled, seed: 7 };
    let drawn = |usual: Usual| (0..REQUESTS).map(move |number| usual.draw(number));
    let failed = drawn(usual(Doubled::Nothing)).filter(|(fails, _)| *fails).count();
    // Six standard errors about 1,000.
    assert!((815..1185).contains(&failed), "{failed}");
    let slower_than = |usual, ms| drawn(usual).filter(|(_, wait)| *wait > Duration::from_millis(ms)).count();
    let near = |count: usize, share: f64| (count as f64 / REQUESTS as f64 - share).abs() < 0.02;
    assert!(
        near(slower_than(usual(Doubled::Nothing), 50), 0.5) && near(slower_than(usual(Doubled::Nothing), 134), 0.05)
    );
    assert!(near(slower_than(usual(Doubled::Everything), 100), 0.5));
    // What was slow takes at least twice 134 ms, and nothing else changes.
    assert!(
        near(slower_than(usual(Doubled::Slowest), 50), 0.5) && near(slower_than(usual(Doubled::Slowest), 268), 0.05)
    );
    assert_eq!(slower_than(usual(Doubled::Slowest), 200), slower_than(usual(Doubled::Slowest), 268));
    let other = Usual { seed: 8, ..usual(Doubled::Nothing) };
    assert!(drawn(other).eq(drawn(other)) && !drawn(other).eq(drawn(usual(Doubled::Nothing))));
}
