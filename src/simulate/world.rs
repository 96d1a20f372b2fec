//! The world of a simulation: how much traffic there is, what fails, and how soon that is known.

use super::chance::Chance;
use super::latency::{LatencyShape, LatencyTable};
use crate::base::histogram::Histogram;
use crate::judge::Counts;
use crate::rollout::event::{EndpointMinute, MeasuredNoise, Past, PastErrors};

/// Time for which a swing of the error rate lasts, in seconds: the minute that the judge's blocks have.
const SWING_S: f64 = 60.0;
/// Minutes of what is known of stable's endpoints: the daemon keeps a day, of which this is the part with traffic.
const DAY_MINUTES: u32 = 720;

/// One version.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Arm {
    /// Part of its requests that fail, 0 to 1.
    pub errors: f64,
    /// How long the others take; `None` where latencies are not simulated.
    pub latency: Option<LatencyShape>,
}

/// Something that happens to both versions.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Incident {
    /// Part of the requests that fail on top of the rest, 0 to 1.
    pub errors: f64,
    /// From so many seconds after the start.
    pub from_s: f64,
    /// To so many seconds after the start.
    pub to_s: f64,
}

/// Swings of the error rate: each minute it is multiplied by a Gamma number of mean 1.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Swings {
    /// Their coefficient of variation: 0.5 is plus or minus a half.
    pub cv: f64,
    /// Whether each version swings by itself. Otherwise both do together.
    pub private: bool,
}

/// Requests that come and fail together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Sessions {
    /// Requests of one session, all on one version and with one outcome; from 1.
    pub requests: u64,
    /// Whether the data plane knows sessions and judges one request of each, as `tidegate:affinity` does. Otherwise
    /// every request is judged as if it were by itself.
    pub judged_once: bool,
}

/// How late counts are known.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Reporting {
    /// Counts come together for so long, in seconds; 0 for at once.
    pub period_s: f64,
    /// And so long after the period's end, in seconds.
    pub lag_s: f64,
}

/// Everything that a simulation is told.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct World {
    /// Requests per second of the whole route, a Poisson stream.
    pub rate: f64,
    /// The version in use.
    pub stable: Arm,
    /// The release, once it is at fault; before, it is like stable.
    pub canary: Arm,
    /// When its fault begins, in seconds after the start.
    pub onset_s: f64,
    /// What happens to both.
    pub incident: Option<Incident>,
    /// How rates swing.
    pub swings: Option<Swings>,
    /// How requests hang together.
    pub sessions: Option<Sessions>,
    /// How late counts are known.
    pub reporting: Reporting,
    /// Stable's endpoints that the daemon has watched for a day: from two on it has measured their noise.
    pub endpoints: u32,
}

impl World {
    /// Independent requests of a service without latencies, known at once; the canary is like stable.
    #[must_use]
    pub const fn healthy(rate: f64, errors: f64) -> Self {
        let arm = Arm { errors, latency: None };
        Self {
            rate,
            stable: arm,
            canary: arm,
            onset_s: 0.0,
            incident: None,
            swings: None,
            sessions: None,
            reporting: Reporting { period_s: 0.0, lag_s: 0.0 },
            endpoints: 1,
        }
    }

    /// The same with another error rate of the canary.
    #[must_use]
    pub const fn with_canary_errors(mut self, errors: f64) -> Self {
        self.canary.errors = errors;
        self
    }

    /// The same with a release that is no worse.
    #[must_use]
    pub const fn with_healthy_canary(mut self) -> Self {
        self.canary = self.stable;
        self
    }

    fn judges_once(&self) -> bool {
        self.sessions.is_some_and(|sessions| sessions.judged_once)
    }

    fn requests_per_unit(&self) -> u64 {
        self.sessions.map_or(1, |sessions| sessions.requests.max(1))
    }
}

/// A world, ready to be run through many times.
#[derive(Debug, Clone)]
pub struct Scene {
    world: World,
    canary_latency: Option<LatencyTable>,
    stable_latency: Option<LatencyTable>,
}

impl Scene {
    /// Of a world.
    #[must_use]
    pub fn new(world: World) -> Self {
        let table = |arm: Arm| arm.latency.as_ref().map(LatencyTable::new);
        Self { world, canary_latency: table(world.canary), stable_latency: table(world.stable) }
    }

    /// The world.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// Latencies of stable in the minutes before, from which thresholds are chosen; `None` where none are simulated.
    #[must_use]
    pub fn baseline(&self, chance: &mut Chance) -> Option<Histogram> {
        // What the daemon keeps, and no more than makes quantiles good: see `judge::baseline`.
        let requests = (self.world.rate * 300.0).min(5000.0) as u64;
        self.stable_latency.as_ref().map(|table| table.histogram(requests, chance))
    }
}

impl Scene {
    /// What the daemon knows of stable's errors when a rollout begins: those of the last ten minutes, and how they scattered
    /// over pairs of endpoints in each minute of a day. Swings of each are those of an endpoint then.
    #[must_use]
    pub fn past(&self, chance: &mut Chance) -> Past {
        let World { rate, stable, swings, .. } = self.world;
        let per_unit = self.world.requests_per_unit();
        let judged = if self.world.judges_once() { 1 } else { per_unit };
        let units = rate * SWING_S / per_unit as f64;
        let mut draw = |mean: f64| chance.poisson(mean) * judged;
        let requests = (10.0 * units) as u64 * judged;
        let errors = draw(10.0 * units * stable.errors).min(requests);
        let recent = Some(PastErrors { requests, errors });
        let pairs = self.world.endpoints / 2;
        if pairs == 0 {
            return Past { noise: None, stable: recent, ..Past::default() };
        }
        let share = units / f64::from(self.world.endpoints);
        let minutes: Vec<EndpointMinute> = (0..DAY_MINUTES)
            .map(|_| {
                let both =
                    swings.filter(|swings| !swings.private).map_or(1.0, |swings| chance.gamma_of_mean_1(swings.cv));
                let mut endpoint = || {
                    let own = swings.filter(|swings| swings.private);
                    let factor = both * own.map_or(1.0, |swings| chance.gamma_of_mean_1(swings.cv));
                    chance.poisson(share * (stable.errors * factor).min(1.0)) * judged
                };
                let drawn: Vec<(u64, u64)> = (0..pairs).map(|_| (endpoint(), endpoint())).collect();
                EndpointMinute {
                    requests: units as u64 * judged,
                    errors: drawn.iter().map(|(first, second)| first + second).sum(),
                    endpoints: self.world.endpoints,
                    pairs: drawn
                        .iter()
                        .filter(|(first, second)| first + second > 0)
                        .map(|(first, second)| (saturated(*first), saturated(*second), 500_000))
                        .collect(),
                }
            })
            .collect();
        Past { noise: Some(MeasuredNoise::of(minutes.iter())), stable: recent, ..Past::default() }
    }
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What one stretch of time brought.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Passed {
    /// Judged requests and failures.
    pub counts: Counts,
    /// Requests of users that failed on the canary, judged or not.
    pub canary_failed: u64,
    /// Latencies of the canary's successful requests.
    pub canary_latency: Option<Histogram>,
    /// Of stable's.
    pub stable_latency: Option<Histogram>,
}

/// The traffic of one run.
#[derive(Debug)]
pub struct Traffic<'a> {
    scene: &'a Scene,
    chance: Chance,
    at_s: f64,
    swing: Option<u64>,
    factors: [f64; 2],
}

impl<'a> Traffic<'a> {
    /// At the start.
    #[must_use]
    pub const fn new(scene: &'a Scene, chance: Chance) -> Self {
        Self { scene, chance, at_s: 0.0, swing: None, factors: [1.0; 2] }
    }

    /// Lets time pass while the canary has `share` (0 to 1) of the traffic. Rates are those of the stretch's middle.
    pub fn pass(&mut self, share: f64, span_s: f64) -> Passed {
        let world = self.scene.world;
        let middle_s = self.at_s + span_s / 2.0;
        self.at_s += span_s;
        self.swing(middle_s);
        let is_bad = middle_s >= world.onset_s;
        let canary = if is_bad { world.canary } else { world.stable };
        let canary_table = if is_bad { &self.scene.canary_latency } else { &self.scene.stable_latency };
        let per_unit = world.requests_per_unit();
        let units = world.rate * span_s / per_unit as f64;
        let [canary_errors, stable_errors] =
            [(canary, self.factors[0]), (world.stable, self.factors[1])].map(|(arm, factor)| {
                let common = world.incident.filter(|incident| (incident.from_s..incident.to_s).contains(&middle_s));
                (arm.errors * factor + common.map_or(0.0, |incident| incident.errors)).clamp(0.0, 1.0)
            });
        let mut drawn = |share: f64, errors: f64| {
            let failed = self.chance.poisson(units * share * errors);
            (failed, self.chance.poisson(units * share * (1.0 - errors)))
        };
        let (canary_failed, canary_good) = drawn(share, canary_errors);
        let (stable_failed, stable_good) = drawn(1.0 - share, stable_errors);
        let judged = if world.judges_once() { 1 } else { per_unit };
        let mut timed = |table: &Option<LatencyTable>, good: u64| {
            table.as_ref().map(|table| table.histogram(good * judged, &mut self.chance))
        };
        Passed {
            canary_latency: timed(canary_table, canary_good),
            stable_latency: timed(&self.scene.stable_latency, stable_good),
            counts: Counts {
                canary_requests: (canary_failed + canary_good) * judged,
                canary_errors: canary_failed * judged,
                stable_requests: (stable_failed + stable_good) * judged,
                stable_errors: stable_failed * judged,
            },
            canary_failed: canary_failed * per_unit,
        }
    }

    fn swing(&mut self, at_s: f64) {
        let Some(swings) = self.scene.world.swings else { return };
        let now = (at_s / SWING_S) as u64;
        if self.swing == Some(now) {
            return;
        }
        self.swing = Some(now);
        let first = self.chance.gamma_of_mean_1(swings.cv);
        self.factors = [first, if swings.private { self.chance.gamma_of_mean_1(swings.cv) } else { first }];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(world: World, share: f64, seconds: u32) -> Passed {
        let scene = Scene::new(world);
        let mut traffic = Traffic::new(&scene, Chance::of_run(9, 9));
        let mut all = Passed::default();
        for _ in 0..seconds {
            let passed = traffic.pass(share, 1.0);
            all.counts.add(&passed.counts);
            all.canary_failed += passed.canary_failed;
        }
        all
    }

    fn near(got: u64, want: f64) -> bool {
        (got as f64 - want).abs() < 5.0 * want.sqrt() + 1.0
    }

    #[test]
    fn traffic_is_split_and_fails_as_told() {
        let all = sum(World::healthy(200.0, 0.01).with_canary_errors(0.2), 0.1, 1000);
        assert!(near(all.counts.canary_requests, 20_000.0) && near(all.counts.stable_requests, 180_000.0));
        assert!(near(all.counts.canary_errors, 4000.0) && near(all.counts.stable_errors, 1800.0));
        assert_eq!(all.canary_failed, all.counts.canary_errors);
    }

    #[test]
    fn a_fault_begins_at_its_onset_and_an_incident_hits_both() {
        let incident = Some(Incident { errors: 0.1, from_s: 500.0, to_s: 1000.0 });
        let world = World { onset_s: 500.0, incident, ..World::healthy(100.0, 0.0).with_canary_errors(0.1) };
        let before = sum(world, 0.5, 500);
        assert_eq!((before.counts.canary_errors, before.counts.stable_errors), (0, 0));
        let all = sum(world, 0.5, 1000);
        assert!(near(all.counts.canary_errors, 5000.0) && near(all.counts.stable_errors, 2500.0), "{all:?}");
    }

    #[test]
    fn sessions_fail_whole_and_are_judged_as_said() {
        let sessions = |judged_once| Some(Sessions { requests: 10, judged_once });
        let world = World { sessions: sessions(true), ..World::healthy(1000.0, 0.1) };
        let once = sum(world, 0.5, 100);
        assert!(near(once.counts.canary_requests, 5000.0) && once.canary_failed == 10 * once.counts.canary_errors);
        let each = sum(World { sessions: sessions(false), ..world }, 0.5, 100);
        assert!(each.counts.canary_errors == each.canary_failed && each.canary_failed.is_multiple_of(10));
    }

    #[test]
    fn swings_are_together_or_apart() {
        let spread = |private| {
            let swings = Some(Swings { cv: 1.0, private });
            let scene = Scene::new(World { swings, ..World::healthy(10_000.0, 0.1) });
            let mut traffic = Traffic::new(&scene, Chance::of_run(4, 4));
            // Correlation of the two over minutes.
            let minutes: Vec<(f64, f64)> = (0..200)
                .map(|_| traffic.pass(0.5, 60.0).counts)
                .map(|counts| (counts.canary_errors as f64, counts.stable_errors as f64))
                .collect();
            let mean = |which: fn(&(f64, f64)) -> f64| minutes.iter().map(which).sum::<f64>() / 200.0;
            let (x, y) = (mean(|both| both.0), mean(|both| both.1));
            let moment = |of: &dyn Fn(&(f64, f64)) -> f64| minutes.iter().map(of).sum::<f64>();
            moment(&|both| (both.0 - x) * (both.1 - y))
                / (moment(&|both| (both.0 - x).powi(2)) * moment(&|both| (both.1 - y).powi(2))).sqrt()
        };
        assert!(spread(false) > 0.95 && spread(true).abs() < 0.3, "{} {}", spread(false), spread(true));
    }
}
