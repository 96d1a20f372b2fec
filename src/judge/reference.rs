//! How other systems decide about a release, for comparison: their rules as functions of counts, without their code.
//!
//! Each rule is a small state machine that is fed slices of ten seconds and says which share the canary has next and, in
//! the end, whether the release is promoted or rolled back. The rules are those of the systems' sources and
//! documentation as of November 2026, with the settings that their documentation shows; each file names what it follows.
//! All of them are given the canary's own counts without delay, except CloudWatch's alarms, which flatters them.
//!
//! Beside them stand the limits that no rule can beat: Wald's test, which is told both error rates ([`oracle`]).
//!
//! It is what `simulate` sets beside our own engine. Nothing here decides about a real rollout.

mod argo;
mod codedeploy;
mod flagger;
mod hurried;
mod kayenta;
pub mod oracle;
pub mod textbook;

use super::Counts;
use crate::base::histogram::Histogram;

/// Length of a slice in seconds: all intervals of the rules are multiples of it.
pub const SLICE_S: u32 = 10;

/// What ten seconds brought.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slice {
    /// Requests and failures of both arms.
    pub counts: Counts,
    /// Latencies of the canary's successful requests; `None` where none are simulated.
    pub canary_latency: Option<Histogram>,
}

/// How a rule ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The release gets all the traffic for good.
    Promoted,
    /// The release gets none.
    RolledBack,
}

/// A rule in the middle of one rollout.
pub trait Rule {
    /// The canary's share in the next slice, in percent.
    fn weight(&self) -> u8;
    /// Takes a slice in; answers once it has decided.
    fn take(&mut self, slice: &Slice) -> Option<Decision>;
}

/// A system with the settings that it is looked at with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Flagger: interval 1m, threshold 5, steps of 10 to 50.
    Flagger5,
    /// Flagger: interval 1m, threshold 10, steps of 5 to 50.
    Flagger10,
    /// Argo Rollouts: 20, 40, 60, 80 % for 10m each; interval 1m, failureLimit 3, success rate of at least 99 %.
    Argo1m99,
    /// The same, of at least 95 % as its documentation has it.
    Argo1m95,
    /// The same with an interval of 5m.
    Argo5m95,
    /// CodeDeploy's Canary10Percent5Minutes with an alarm at 1 %: 3 of 3 minutes, a minute late; 15m of bake.
    CodeDeployCanary1,
    /// The same with an alarm at 5 %.
    CodeDeployCanary5,
    /// CodeDeploy's Linear10PercentEvery1Minute with an alarm at 1 %.
    CodeDeployLinear1,
    /// Kayenta on a canary of 10 %, judged every 15m for an hour.
    Kayenta15,
    /// The same, judged once after an hour.
    Kayenta60,
    /// Flagger's threshold of 99 % looked at every 10s; the first failed check counts.
    FlaggerEvery10s,
    /// The same; the second one does.
    FlaggerEvery10sTwice,
    /// The same every 30s; the second one does.
    FlaggerEvery30sTwice,
    /// Argo Rollouts' measurement of 99 % every 10s with failureLimit 1.
    ArgoEvery10s,
    /// An alarm at 1 % with 1 of 1 datapoints of a minute, a minute late.
    AlarmOneOfOne,
}

impl Peer {
    /// All of them as documented, in the order of the tables.
    pub const ALL: [Self; 10] = [
        Self::Flagger5,
        Self::Flagger10,
        Self::Argo1m99,
        Self::Argo1m95,
        Self::Argo5m95,
        Self::CodeDeployCanary1,
        Self::CodeDeployCanary5,
        Self::CodeDeployLinear1,
        Self::Kayenta15,
        Self::Kayenta60,
    ];

    /// The same systems' thresholds, looked at more often than documented and on the weights of our own tables.
    pub const HURRIED: [Self; 5] = [
        Self::FlaggerEvery10s,
        Self::FlaggerEvery10sTwice,
        Self::FlaggerEvery30sTwice,
        Self::ArgoEvery10s,
        Self::AlarmOneOfOne,
    ];

    /// Its name in tables and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flagger5 => "flagger 1m, threshold 5",
            Self::Flagger10 => "flagger 1m, threshold 10",
            Self::Argo1m99 => "argo 1m, 99 %",
            Self::Argo1m95 => "argo 1m, 95 %",
            Self::Argo5m95 => "argo 5m, 95 %",
            Self::CodeDeployCanary1 => "codedeploy canary, alarm 1 %",
            Self::CodeDeployCanary5 => "codedeploy canary, alarm 5 %",
            Self::CodeDeployLinear1 => "codedeploy linear, alarm 1 %",
            Self::Kayenta15 => "kayenta, 4 x 15m",
            Self::Kayenta60 => "kayenta, 60m",
            Self::FlaggerEvery10s => "flagger every 10s, threshold 1",
            Self::FlaggerEvery10sTwice => "flagger every 10s, threshold 2",
            Self::FlaggerEvery30sTwice => "flagger every 30s, threshold 2",
            Self::ArgoEvery10s => "argo every 10s, limit 1",
            Self::AlarmOneOfOne => "alarm, 1 of 1 minutes",
        }
    }

    /// Its rule at the start of a rollout.
    #[must_use]
    pub fn rule(self) -> Box<dyn Rule> {
        match self {
            Self::Flagger5 => Box::new(flagger::Flagger::new(5, 10)),
            Self::Flagger10 => Box::new(flagger::Flagger::new(10, 5)),
            Self::Argo1m99 => Box::new(argo::Argo::new(60, 0.99)),
            Self::Argo1m95 => Box::new(argo::Argo::new(60, 0.95)),
            Self::Argo5m95 => Box::new(argo::Argo::new(300, 0.95)),
            Self::CodeDeployCanary1 => Box::new(codedeploy::CodeDeploy::canary(0.01)),
            Self::CodeDeployCanary5 => Box::new(codedeploy::CodeDeploy::canary(0.05)),
            Self::CodeDeployLinear1 => Box::new(codedeploy::CodeDeploy::linear(0.01)),
            Self::Kayenta15 => Box::new(kayenta::Kayenta::new(900)),
            Self::Kayenta60 => Box::new(kayenta::Kayenta::new(3600)),
            Self::FlaggerEvery10s => hurried((10, 1), 10, true),
            Self::FlaggerEvery10sTwice => hurried((10, 2), 10, true),
            Self::FlaggerEvery30sTwice => hurried((30, 2), 30, true),
            Self::ArgoEvery10s => hurried((10, 2), 0, false),
            Self::AlarmOneOfOne => hurried((60, 1), 60, false),
        }
    }
}

fn hurried((every_s, failures): (u32, u32), after_s: u32, silence_fails: bool) -> Box<dyn Rule> {
    Box::new(hurried::Hurried::new(hurried::Looks { every_s, failures, after_s, silence_fails }))
}

/// Part of the canary's requests that failed; `None` without any.
fn failed_share(counts: &Counts) -> Option<f64> {
    (counts.canary_requests > 0).then(|| counts.canary_errors as f64 / counts.canary_requests as f64)
}

#[cfg(test)]
mod tests;
