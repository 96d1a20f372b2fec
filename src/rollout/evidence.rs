//! What the judge has to go on: integer counts in blocks. The evidence itself (a float) is derived and never stored.
//!
//! A block opens at every weight change and every minute of exposure, which is when the e-process reserves new
//! capital for a fault that starts late. Within a block only the sum for each share matters, so a block is small
//! however many rounds of readings it took.

use super::event::{LiveReading, ProxyCounts, SlowCounts, VersionCounts};
use super::timing::{Timing, TimingNews, add_slower};
use crate::base::histogram::Histogram;
use crate::base::time::{Millis, Timestamp};
use crate::base::weight::Percent;
use crate::judge::Counts;
use crate::judge::latency::LatencyCounts;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Exposure after which a new block opens: the epoch for which the judge's error bounds were measured.
const BLOCK: Millis = Millis::from_seconds(60);
/// Blocks of a minute; later ones last [`LONG_BLOCK`], which bounds a 24 h rollout to about 200 blocks. Any schedule
/// that is fixed in advance keeps the bound on false rollbacks.
const SHORT_BLOCKS: usize = 60;
/// Length of the later blocks.
const LONG_BLOCK: Millis = Millis::from_seconds(600);
/// Time over which traffic is measured, where there is so much of it.
const RATE_OVER: Millis = Millis::from_seconds(30);
/// And at least: a block opens before its weights are in force.
const RATE_OVER_LEAST: Millis = Millis::from_seconds(5);
/// Weights versions remembered for each proxy: enough for every step there and back, and a bound on the state.
const VERSIONS_KEPT: usize = 32;
/// Proxy processes judged in one rollout, restarts included: a bound on the state. Later ones are not counted, which
/// costs evidence and never validity.
const PROXIES_KEPT: usize = 4096;

/// Counts between two re-starts of the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Block {
    /// When it opened.
    pub opened_at: Timestamp,
    /// Counts by the canary's share in millionths.
    pub by_share: BTreeMap<u32, Counts>,
    /// Latencies of both arms by the rollout's thresholds, by the canary's share in millionths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latency_by_share: BTreeMap<u32, LatencyCounts>,
    /// Requests slower than the bounds of absolute gates, likewise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slower_by_share: BTreeMap<u32, Vec<SlowCounts>>,
}

impl Block {
    fn opened_at(opened_at: Timestamp) -> Self {
        Self { opened_at, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.by_share.is_empty() && self.latency_by_share.is_empty() && self.slower_by_share.is_empty()
    }

    fn add(&mut self, share_ppm: u32, news: &News) {
        if !news.counts.is_empty() {
            self.by_share.entry(share_ppm).or_default().add(&news.counts);
        }
        if let Some(counts) = news.timing.counts() {
            self.latency_by_share.entry(share_ppm).or_default().add(counts);
        }
        if !news.timing.slower.is_empty() {
            add_slower(self.slower_by_share.entry(share_ppm).or_default(), &news.timing.slower);
        }
    }
}

/// What a reading of one proxy says that was not known.
struct News {
    /// The reading itself.
    now: VersionCounts,
    /// Requests and errors on top of those known.
    counts: Counts,
    timing: TimingNews,
}

/// All counts of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Route version before the first step: only later ones are judged.
    pub after_version: u64,
    /// In order; the last one is open.
    pub blocks: Vec<Block>,
    /// What each proxy had counted when it was last read, by weights version.
    pub seen: BTreeMap<String, BTreeMap<u64, Counts>>,
    /// Weights versions under which some proxy placed sessions and not requests.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub in_sessions: BTreeSet<u64>,
    /// Latencies.
    #[serde(default, skip_serializing_if = "Timing::is_empty")]
    pub timing: Timing,
}

impl Evidence {
    /// Nothing counted yet; versions up to `after_version` are not this rollout's.
    #[must_use]
    pub fn new(after_version: u64, at: Timestamp, timing: Timing) -> Self {
        let (seen, in_sessions) = Default::default();
        Self { after_version, blocks: vec![Block::opened_at(at)], seen, in_sessions, timing }
    }

    /// Opens a block, for a weight change.
    pub fn open_block(&mut self, at: Timestamp) {
        match self.blocks.last_mut() {
            // A block in which nothing happened yet serves as the new one.
            Some(last) if last.is_empty() => last.opened_at = at,
            _ => self.blocks.push(Block::opened_at(at)),
        }
    }

    /// Takes a reading in; answers whether anything new was counted. `tolerance` is that of the plan's gates on latency.
    pub fn absorb(&mut self, reading: &LiveReading, at: Timestamp, tolerance: Option<f64>) -> bool {
        let mut all: Vec<News> = Vec::new();
        for proxy in &reading.proxies {
            let news = self.news(proxy);
            if news.is_empty() || self.seen.len() >= PROXIES_KEPT && !self.seen.contains_key(&proxy.proxy) {
                continue;
            }
            let seen = self.seen.entry(proxy.proxy.clone()).or_default();
            for news in news {
                if news.now.in_sessions {
                    self.in_sessions.insert(news.now.version);
                }
                if !news.counts.is_empty() {
                    seen.insert(news.now.version, news.now.counts);
                }
                self.timing.saw(&proxy.proxy, &news.now, &news.timing);
                all.push(news);
            }
            while seen.len() > VERSIONS_KEPT {
                // Forgetting what was seen of a version must not count it anew: it is out of the rollout from here on.
                if let Some((forgotten, _)) = seen.pop_first() {
                    self.after_version = self.after_version.max(forgotten);
                    self.timing.forget(&proxy.proxy, forgotten);
                }
            }
        }
        while self.in_sessions.len() > VERSIONS_KEPT {
            self.in_sessions.pop_first();
        }
        if all.is_empty() {
            return false;
        }
        self.open_block_when_due(at);
        let mut stable = Histogram::default();
        for news in &all {
            if let Some(block) = self.blocks.last_mut() {
                block.add(news.now.share_ppm, news);
            }
            news.timing.stable().into_iter().for_each(|fresh| stable.merge(fresh));
        }
        if let Some(tolerance) = tolerance {
            self.timing.collect(&stable, tolerance);
        }
        true
    }

    /// The same reading without what is known already, for the journal: [`Self::absorb`] makes the same of both. Every
    /// proxy stays, since to be heard counts too.
    #[must_use]
    pub fn only_news(&self, mut reading: LiveReading) -> LiveReading {
        for proxy in &mut reading.proxies {
            proxy.versions = self.news(proxy).into_iter().map(|news| news.now).collect();
        }
        reading
    }

    /// What a proxy counted since it was last read.
    fn news(&self, proxy: &ProxyCounts) -> Vec<News> {
        let seen = self.seen.get(&proxy.proxy);
        let judged = proxy.versions.iter().filter(|now| now.version > self.after_version);
        let each = judged.map(|now| {
            let earlier = seen.and_then(|seen| seen.get(&now.version)).copied().unwrap_or_default();
            let timing = self.timing.news(&proxy.proxy, now);
            News { counts: now.counts.beyond(&earlier), timing, now: now.clone() }
        });
        each.filter(|news| !news.counts.is_empty() || !news.timing.is_empty()).collect()
    }

    fn open_block_when_due(&mut self, at: Timestamp) {
        let length = if self.blocks.len() <= SHORT_BLOCKS { BLOCK } else { LONG_BLOCK };
        if self.blocks.last().is_none_or(|last| at.since(last.opened_at) >= length) {
            self.open_block(at);
        }
    }

    /// Sum over everything that was judged: shares strictly between 0 and 1.
    #[must_use]
    pub fn totals(&self) -> Counts {
        self.totals_at(|_| true)
    }

    /// The same at those shares, in millionths, that are asked for.
    #[must_use]
    pub fn totals_at(&self, is_asked: impl Fn(u32) -> bool) -> Counts {
        let mut sum = Counts::default();
        for (_, counts) in self.judged().filter(|(share, _)| is_asked(*share)) {
            sum.add(counts);
        }
        sum
    }

    /// The same of latencies.
    #[must_use]
    pub fn latency_totals(&self) -> LatencyCounts {
        self.latency_totals_at(|_| true)
    }

    /// The same at those shares, in millionths, that are asked for.
    #[must_use]
    pub fn latency_totals_at(&self, is_asked: impl Fn(u32) -> bool) -> LatencyCounts {
        let mut sum = LatencyCounts::default();
        let all = self.blocks.iter().flat_map(|block| &block.latency_by_share);
        for (_, counts) in all.filter(|(share, _)| (1..1_000_000).contains(*share) && is_asked(**share)) {
            sum.add(counts);
        }
        sum
    }

    /// Requests that the canary has had each second at a share lately: over the last block, and the one before where that is
    /// young. `None` where there is too little to tell.
    #[must_use]
    pub fn canary_requests_per_s(&self, share: Percent, now: Timestamp) -> Option<f64> {
        let share_ppm = u32::from(share.get()) * 10_000;
        let (mut requests, mut span) = (0_u64, Millis(0));
        for block in self.blocks.iter().rev().take(2) {
            // What other blocks had at this share came late.
            let Some(counts) = block.by_share.get(&share_ppm) else { break };
            requests = requests.saturating_add(counts.canary_requests);
            span = now.since(block.opened_at);
            if span >= RATE_OVER {
                break;
            }
        }
        (requests > 0 && span >= RATE_OVER_LEAST).then(|| requests as f64 * 1000.0 / span.0 as f64)
    }

    /// Every (share in millionths, counts) for which there was a comparison to make.
    pub fn judged(&self) -> impl Iterator<Item = (u32, &Counts)> {
        let all = self.blocks.iter().flat_map(|block| &block.by_share);
        all.filter(|(share, _)| (1..1_000_000).contains(*share)).map(|(share, counts)| (*share, counts))
    }
}
