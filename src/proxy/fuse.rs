//! When a proxy takes a release out of the traffic by itself. Pure: counts and time come in as numbers.
//!
//! Three things open a fuse, which sends all that the weights would give to the canary to stable.
//!
//! - It **trips** when the evidence that errors fall on the canary too often reaches the threshold that the controller gave
//!   (gate.md section 7: ln(2M/alpha) for M proxies, with the controller at ln(2/alpha), so that all of them together keep
//!   alpha). The test is the judge's own, of this proxy's requests alone. It does not close again within a rollout.
//! - It **holds** when the canary failed too often since the controller last read this proxy's counts, beyond what is
//!   tolerated: exposure control and no verdict. With k_c canary failures, k_b of stable, n_c canary requests, odds
//!   rho w / (1 - w) and d, expected are odds k_b + d n_c; it holds at
//!   k_c - expected >= failures + 3 sqrt(expected + odds^2 k_b), until the next acknowledgement.
//! - It **lapses** when a controller that acknowledged once is silent for the span of the weights' lease, until it is heard.
//!
//! While it is open nothing on the route is judged: no coin is tossed then, and a test that believed so would be wrong.

use crate::base::fuse::Fuse;
use crate::base::tally::FuseState;
use crate::judge::evidence::ErrorEvidence;
use crate::judge::{Counts, Tolerance};
use std::time::Duration;

/// Standard errors that failures since the last acknowledgement must exceed the bound by: luck on a service with many errors
/// is no reason to hold (as `judge::budget` has it).
const SLACK_STANDARD_ERRORS: f64 = 3.0;
/// Time after which an epoch of the evidence opens, as in a rollout: for the first [`SHORT_EPOCHS`], and for later ones.
const EPOCHS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(600)];
/// See [`EPOCHS`].
const SHORT_EPOCHS: u32 = 60;

/// One rollout on one route as one proxy sees it.
#[derive(Debug, Clone)]
pub struct Watch {
    fuse: Fuse,
    evidence: ErrorEvidence,
    /// Of the whole rollout.
    counts: Counts,
    is_tripped: bool,
    is_held: bool,
    is_lapsed: bool,
    /// When the controller was last heard; `None` until it first is.
    heard_at: Option<Duration>,
    since_heard: Charge,
    epoch_at: Duration,
    epochs: u32,
    /// Whether the next counts open an epoch.
    epoch_is_due: bool,
    /// Evidence of the process before this one, where that one tripped.
    inherited_log_e: Option<f64>,
}

/// What was counted since the last acknowledgement.
#[derive(Debug, Clone, Copy, Default)]
struct Charge {
    canary_errors: u64,
    expected: f64,
    /// odds^2 k_b: what chance in stable's errors adds to the variance.
    spread: f64,
}

impl Charge {
    fn is_spent(&self, failures: u32) -> bool {
        let slack = SLACK_STANDARD_ERRORS * (self.expected + self.spread).sqrt();
        self.canary_errors as f64 - self.expected >= f64::from(failures) + slack
    }
}

fn tolerance(fuse: &Fuse) -> Tolerance {
    Tolerance::new(fuse.ratio.get(), fuse.add.get())
}

impl Watch {
    /// Nothing seen yet. `now` is the time since the proxy started, here and everywhere.
    #[must_use]
    pub fn new(fuse: &Fuse, now: Duration) -> Self {
        Self {
            fuse: fuse.clone(),
            evidence: ErrorEvidence::new(tolerance(fuse)),
            counts: Counts::default(),
            is_tripped: false,
            is_held: false,
            is_lapsed: false,
            heard_at: None,
            since_heard: Charge::default(),
            epoch_at: now,
            epochs: 0,
            epoch_is_due: false,
            inherited_log_e: None,
        }
    }

    /// What it was armed by last.
    #[must_use]
    pub const fn fuse(&self) -> &Fuse {
        &self.fuse
    }

    /// Arms it anew for the same rollout: evidence goes on, and what tripped stays so. With another tolerance or another
    /// canary what was seen says nothing any more.
    pub fn rearm(&mut self, fuse: &Fuse, now: Duration) {
        let is_same = |a: &Fuse, b: &Fuse| (&a.canary, a.ratio, a.add) == (&b.canary, b.ratio, b.add);
        if !is_same(&self.fuse, fuse) {
            let (is_tripped, heard_at) = (self.is_tripped, self.heard_at);
            *self = Self { is_tripped, heard_at, ..Self::new(fuse, now) };
        }
        self.fuse.clone_from(fuse);
    }

    /// New weights are in force: a fault that begins with them has to be found as fast as one at the start. They are news
    /// from the controller too.
    pub fn new_weights(&mut self, now: Duration) {
        self.open_epoch(now);
        self.heard_at = self.heard_at.map(|_| now);
    }

    fn open_epoch(&mut self, now: Duration) {
        self.epoch_at = now;
        self.epoch_is_due = true;
    }

    /// Takes in what came under weights that give the canary `share`: requests that were begun on the canary, and failures.
    pub fn take(&mut self, share: f64, counts: &Counts) {
        if self.is_tripped || !(share > 0.0 && share < 1.0) {
            return;
        }
        if std::mem::take(&mut self.epoch_is_due) && !self.counts.is_empty() {
            self.evidence.epoch();
            self.epochs = self.epochs.saturating_add(1);
        }
        self.counts.add(counts);
        self.evidence.batch(share, counts);
        let odds = self.fuse.ratio.get() * share / (1.0 - share);
        let stable_errors = counts.stable_errors as f64;
        let charge = &mut self.since_heard;
        charge.canary_errors = charge.canary_errors.saturating_add(counts.canary_errors);
        charge.expected += odds * stable_errors + self.fuse.add.get() * counts.canary_requests as f64;
        charge.spread += odds * odds * stable_errors;
        // Only an error of the canary can speak against it.
        if counts.canary_errors > 0 {
            self.is_tripped = self.evidence.log_e() >= self.fuse.threshold.get();
            self.is_held |= charge.is_spent(self.fuse.failures);
        }
    }

    /// The controller has read the counts.
    pub fn acknowledge(&mut self, now: Duration) {
        self.heard_at = Some(now);
        self.since_heard = Charge::default();
        (self.is_held, self.is_lapsed) = (false, false);
    }

    /// What the time alone brings about. `lapses_after` is how long the controller may be silent; `None` for ever.
    pub fn pass_time(&mut self, now: Duration, lapses_after: Option<Duration>) {
        let silence = self.heard_at.map(|at| now.saturating_sub(at));
        self.is_lapsed |= silence.zip(lapses_after).is_some_and(|(silence, most)| silence >= most);
        let length = EPOCHS[usize::from(self.epochs >= SHORT_EPOCHS)];
        if now.saturating_sub(self.epoch_at) >= length {
            self.open_epoch(now);
        }
    }

    /// Where it stands: tripped before all, since that stays.
    #[must_use]
    pub const fn state(&self) -> FuseState {
        match (self.is_tripped, self.is_lapsed, self.is_held) {
            (true, ..) => FuseState::Tripped,
            (false, true, _) => FuseState::Lapsed,
            (false, false, true) => FuseState::Held,
            (false, false, false) => FuseState::Armed,
        }
    }

    /// Evidence against the canary, in nats.
    #[must_use]
    pub fn log_e(&self) -> f64 {
        self.inherited_log_e.unwrap_or_else(|| self.evidence.log_e())
    }

    /// Takes over that it tripped in the process before this one, and by what: nothing more is taken in after that.
    pub fn inherit_trip(&mut self, log_e: f64, counts: Counts, errors_since_heard: u64) {
        self.is_tripped = true;
        self.inherited_log_e = Some(log_e);
        self.counts = counts;
        self.since_heard.canary_errors = errors_since_heard;
    }

    /// What was counted in the rollout: canary requests that were begun, and the failures of both; stable's requests are not
    /// counted, since no successful one says anything.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Failures of the canary since the last acknowledgement.
    #[must_use]
    pub const fn errors_since_heard(&self) -> u64 {
        self.since_heard.canary_errors
    }
}

#[cfg(test)]
mod tests;
