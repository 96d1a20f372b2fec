//! A mesh and a data plane in memory: one route, one proxy, and whatever goes wrong with them.

use super::{BEGINNING, fresh_route};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tidegate::base::fault::Fault;
use tidegate::base::histogram::{BUCKETS, Histogram, bucket_of};
use tidegate::base::ids::RouteRef;
use tidegate::base::time::Timestamp;
use tidegate::base::weight::{Percent, Slot};
use tidegate::clock::Clock;
use tidegate::judge::Counts;
use tidegate::policy::plan::{HealthProbe, Plan, WorkloadTarget};
use tidegate::ports::{
    Checked, Health, LiveCounts, Obstacle, Policies, PolicyFault, Previews, SignalPoint, SignalQuestion, Signals,
    Traffic, Workloads,
};
use tidegate::rollout::effect::{Deployment, PreviewRoute, WeightsWrite};
use tidegate::rollout::event::{
    ComparedBy, Deployed, Latency, LiveReading, PreviewReading, ProxyCounts, RouteReading, Standing, TimingAsk,
    VersionCounts, WorkloadReading,
};

/// Time that moves when it is told to.
pub(crate) struct HandClock(pub(crate) AtomicI64);

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(BEGINNING.0)))
    }

    pub(crate) fn pass(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done.
    Done,
    /// Done, and the answer is lost.
    Unheard,
    /// Refused for good.
    Refused,
    /// Not done, and it may pass.
    Busy,
    /// Times out now and lands so many seconds later.
    LandsAfter(i64),
    /// No answer, ever.
    Hangs,
    /// A defect of the adapter.
    Panics,
}

/// Asking a node's endpoints at a second.
type Checks = Box<dyn Fn(i64, &str) -> Result<Checked, Fault> + Send + Sync>;

/// Asking for points of a signal at a second.
type Measures = Box<dyn Fn(i64, &SignalQuestion) -> Result<Vec<SignalPoint>, Fault> + Send + Sync>;

/// How the world behaves, second by second since the beginning.
pub(crate) struct Ways {
    /// Write of a share for the canary.
    pub(crate) write: Box<dyn Fn(i64, u8) -> Answer + Send + Sync>,
    /// From when on the canary fails every request.
    pub(crate) bad_from: Option<i64>,
    /// Whether the proxy reports.
    pub(crate) reports: Box<dyn Fn(i64) -> bool + Send + Sync>,
    /// How long a reading of the route takes on its way back.
    pub(crate) slow_read: std::time::Duration,
    /// Whether the mesh numbers the versions of a route.
    pub(crate) versions: bool,
    /// What asking every endpoint of a node comes to.
    pub(crate) health: Checks,
    /// What a source outside says.
    pub(crate) signals: Measures,
    /// How long it takes to say so.
    pub(crate) slow_signals: std::time::Duration,
    /// Deploying at a second; the answer may be lost.
    pub(crate) deploy: Box<dyn Fn(i64) -> Answer + Send + Sync>,
    /// Making (`true`) or removing the route of a preview at a second.
    pub(crate) preview: Box<dyn Fn(i64, bool) -> Answer + Send + Sync>,
    /// How instances stand so many seconds after they were deployed.
    pub(crate) comes_up: Box<dyn Fn(i64) -> Standing + Send + Sync>,
}

impl Default for Ways {
    fn default() -> Self {
        Self {
            write: Box::new(|_, _| Answer::Done),
            bad_from: None,
            reports: Box::new(|_| true),
            slow_read: std::time::Duration::ZERO,
            versions: true,
            health: Box::new(|_, _| Ok(Checked { asked: 1, ..Checked::default() })),
            signals: Box::new(|_, _| Ok(Vec::new())),
            slow_signals: std::time::Duration::ZERO,
            deploy: Box::new(|_| Answer::Done),
            preview: Box::new(|_, _| Answer::Done),
            comes_up: Box::new(|seconds| if seconds < 3 { Standing::Progressing } else { Standing::Ready }),
        }
    }
}

/// A write that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) generation: u64,
    pub(crate) share: u8,
}

pub(crate) struct Inside {
    pub(crate) route: RouteReading,
    /// Every call that was made, in order.
    pub(crate) calls: Vec<Arrived>,
    generation: u64,
    late: Vec<(Timestamp, Arrived)>,
    counted: BTreeMap<u64, VersionCounts>,
    /// What the instances of each slot run, and since when; stable's run from the beginning.
    pub(crate) slots: [Option<(String, i64)>; 2],
    /// The share that the release's instances were asked to bear, where somebody said so.
    bears: Option<u8>,
    /// While set, the route cannot be read.
    pub(crate) unreadable: bool,
    /// Every deployment and retirement that was carried out, in order.
    pub(crate) changes: Vec<String>,
    /// The rollout that the route of a preview was made for, while there is one.
    pub(crate) preview: Option<String>,
    /// When such a route comes that was given up.
    late_previews: Vec<(Timestamp, String)>,
    /// Every round of questions about signals, in order.
    pub(crate) asked: Vec<Vec<SignalQuestion>>,
}

/// The mesh, the data plane, and the policies.
pub(crate) struct World {
    clock: Arc<dyn Clock>,
    ways: Ways,
    plan: Plan,
    inside: Mutex<Inside>,
}

impl World {
    pub(crate) fn new(clock: Arc<dyn Clock>, plan: Plan, ways: Ways) -> Arc<Self> {
        let route = fresh_route(7);
        let slots = [Some(("old".to_owned(), 0)), None];
        let (calls, late, changes, counted) = (vec![], vec![], vec![], BTreeMap::new());
        let (generation, unreadable, bears, asked) = (0, false, None, vec![]);
        let (preview, late_previews) = (None, vec![]);
        let inside = Inside {
            route,
            calls,
            generation,
            late,
            counted,
            slots,
            bears,
            unreadable,
            changes,
            asked,
            preview,
            late_previews,
        };
        Arc::new(Self { clock, ways, plan, inside: Mutex::new(inside) })
    }

    pub(crate) fn seconds(&self) -> i64 {
        (self.clock.now().0 - BEGINNING.0) / 1000
    }

    /// What is inside, late arrivals included.
    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        let mut inside = self.inside.lock().expect("no test panics with it");
        let now = self.clock.now();
        let (due, late) = std::mem::take(&mut inside.late).into_iter().partition(|(at, _)| *at <= now);
        inside.late = late;
        let due: Vec<(Timestamp, Arrived)> = due;
        for (_, write) in due {
            // A plain endpoint has no generations: a late write wins.
            inside.land(write.share);
        }
        let (due, late) = std::mem::take(&mut inside.late_previews).into_iter().partition(|(at, _)| *at <= now);
        inside.late_previews = late;
        let due: Vec<(Timestamp, String)> = due;
        if let Some((_, rollout)) = due.into_iter().next_back() {
            inside.preview = Some(rollout);
        }
        inside
    }

    /// What becomes of something that is done about the route of a preview.
    fn preview_call(&self, preview: &PreviewRoute, opens: bool) -> Result<(), Fault> {
        let (answer, now) = ((self.ways.preview)(self.seconds(), opens), self.clock.now());
        let mut inside = self.inside();
        let to = opens.then(|| preview.rollout.0.clone());
        match answer {
            Answer::Refused => return Err(Fault::permanent("app mesh", "refused")),
            Answer::Busy => return Err(Fault::transient("app mesh", "busy")),
            Answer::LandsAfter(seconds) => {
                inside.late_previews.extend(to.map(|rollout| (Timestamp(now.0 + seconds * 1000), rollout)));
                return Err(Fault::unknown("app mesh", "no answer"));
            }
            Answer::Done | Answer::Unheard | Answer::Hangs | Answer::Panics => inside.preview = to,
        }
        if answer == Answer::Unheard { Err(Fault::unknown("app mesh", "no answer")) } else { Ok(()) }
    }

    pub(crate) fn canary(&self) -> u8 {
        self.inside().route.percent_of("v2")
    }

    /// Someone else writes the route.
    pub(crate) fn meddle(&self, share: u8) {
        self.inside().land(share);
    }

    fn write(&self, write: &WeightsWrite) -> Result<u64, Fault> {
        let WeightsWrite { canary, stable, generation, .. } = write;
        assert_eq!((canary.0.as_str(), stable.0.as_str(), canary.1 + stable.1), ("v2", "v1", 100), "{write:?}");
        let write = Arrived { generation: *generation, share: canary.1 };
        let answer = (self.ways.write)(self.seconds(), canary.1);
        let now = self.clock.now();
        let mut inside = self.inside();
        assert!(inside.bears.is_none_or(|share| write.share <= share), "more than its instances bear: {write:?}");
        inside.calls.push(write.clone());
        match answer {
            Answer::Refused => Err(Fault::permanent("app mesh", "refused")),
            Answer::Busy => Err(Fault::transient("app mesh", "busy")),
            Answer::LandsAfter(seconds) => {
                inside.late.push((Timestamp(now.0 + seconds * 1000), write));
                Err(Fault::unknown("app mesh", "no answer"))
            }
            Answer::Done | Answer::Unheard | Answer::Hangs | Answer::Panics => {
                if write.generation < inside.generation {
                    return Err(Fault::permanent("app mesh", "stale generation"));
                }
                inside.generation = write.generation;
                inside.land(write.share);
                match answer {
                    Answer::Unheard => Err(Fault::unknown("app mesh", "no answer")),
                    _ => Ok(inside.route.version),
                }
            }
        }
    }
}

impl Inside {
    fn land(&mut self, share: u8) {
        let targets = vec![("v1".to_owned(), u32::from(100 - share)), ("v2".to_owned(), u32::from(share))];
        self.route = RouteReading { version: self.route.version + 1, targets, lapsed: None };
    }

    /// What was counted, with latencies as asked: 5 ms on both arms.
    fn told(&self, ask: &TimingAsk) -> Vec<VersionCounts> {
        let histogram = |requests: u64| {
            let mut counts = vec![0; BUCKETS];
            counts[bucket_of(5000)] = requests;
            Histogram::from_counts(counts).expect("as many as there are buckets")
        };
        let latency = |counts: &Counts| {
            let canary = histogram(counts.canary_requests - counts.canary_errors);
            let stable = histogram(counts.stable_requests - counts.stable_errors);
            ask.compared.map(|by| match by {
                ComparedBy::Collecting => Latency::Baseline(stable),
                ComparedBy::Thresholds(thresholds) => Latency::Counts(thresholds.counts(&canary, &stable)),
            })
        };
        self.counted.values().map(|now| VersionCounts { latency: latency(&now.counts), ..now.clone() }).collect()
    }

    /// A second's requests, a thousand.
    fn serve(&mut self, bad: bool) {
        let (version, share) = (self.route.version, u64::from(self.route.percent_of("v2")));
        let share_ppm = u32::try_from(share * 10_000).expect("at most a million");
        let entry = VersionCounts::new(version, share_ppm, Counts::default());
        self.counted.entry(version).or_insert(entry).counts.add(&Counts {
            canary_requests: share * 10,
            canary_errors: if bad { share * 10 } else { 0 },
            stable_requests: (100 - share) * 10,
            stable_errors: 0,
        });
    }
}

#[async_trait]
impl Traffic for World {
    async fn read(&self, route: &RouteRef) -> Result<(RouteReading, u64), Fault> {
        assert_eq!(*route, self.plan.route);
        let (mut route, generation) = {
            let inside = self.inside();
            if inside.unreadable {
                return Err(Fault::transient("app mesh", "no answer"));
            }
            (inside.route.clone(), inside.generation)
        };
        if !self.ways.versions {
            route.version = 0;
        }
        if !self.ways.slow_read.is_zero() {
            tokio::time::sleep(self.ways.slow_read).await;
        }
        Ok((route, generation))
    }

    fn previews(&self) -> Option<&dyn Previews> {
        Some(self)
    }

    async fn set_weights(&self, write: &WeightsWrite) -> Result<u64, Fault> {
        match (self.ways.write)(self.seconds(), write.canary.1) {
            Answer::Hangs => std::future::pending().await,
            Answer::Panics => panic!("a defect of the adapter"),
            _ => self.write(write).map(|version| if self.ways.versions { version } else { 0 }),
        }
    }
}

#[async_trait]
impl Previews for World {
    async fn obstacle(&self, _: &PreviewRoute) -> Result<Option<Obstacle>, Fault> {
        Ok(None)
    }

    async fn open(&self, preview: &PreviewRoute) -> Result<(), Fault> {
        assert_eq!((self.canary(), preview.canary.as_str()), (0, "v2"), "a preview of what has traffic");
        self.preview_call(preview, true)
    }

    async fn close(&self, preview: &PreviewRoute) -> Result<(), Fault> {
        self.preview_call(preview, false)
    }

    async fn read(&self, _: &PreviewRoute) -> Result<Option<(PreviewReading, u64)>, Fault> {
        let reading = PreviewReading { ours: true, fits: true, behind: None };
        Ok(self.inside().preview.as_ref().map(|_| (reading, 1)))
    }
}

#[async_trait]
impl LiveCounts for World {
    async fn recent(&self, _: &RouteRef, _: &str) -> Option<Histogram> {
        None
    }

    async fn read(&self, _: &RouteRef, _: &str, _: &str, ask: &TimingAsk) -> Result<LiveReading, Fault> {
        let reports = (self.ways.reports)(self.seconds());
        let bad = self.ways.bad_from.is_some_and(|second| second <= self.seconds());
        let mut inside = self.inside();
        inside.serve(bad);
        let versions = inside.told(ask);
        let proxies = match reports {
            true => {
                vec![ProxyCounts { proxy: "p1".into(), applied: Some(u64::MAX), serving: true, versions, fuse: None }]
            }
            false => vec![],
        };
        Ok(LiveReading { proxies, ..LiveReading::default() })
    }
}

#[async_trait]
impl Workloads for World {
    fn unfit(&self, _: &WorkloadTarget) -> Option<String> {
        None
    }

    async fn deploy(&self, deployment: &Deployment) -> Result<Deployed, Fault> {
        let (what, slot) = (format!("{} for {}", deployment.image, deployment.rollout), deployment.slot);
        assert!(self.canary() == 0 || deployment.share.is_some(), "deployed under traffic");
        match (self.ways.deploy)(self.seconds()) {
            Answer::Refused => return Err(Fault::permanent("ecs", "refused")),
            Answer::Busy => return Err(Fault::transient("ecs", "busy")),
            answer => {
                let seconds = self.seconds();
                let mut inside = self.inside();
                let share = deployment.share.map(Percent::get);
                if share > inside.bears {
                    // More of the same: they take their time as the first ones did.
                    inside.bears = share;
                    inside.slots[slot.index()].iter_mut().for_each(|(_, since)| *since = seconds);
                }
                // The same once more for the same rollout changes nothing.
                if inside.slots[slot.index()].as_ref().is_none_or(|(runs, _)| *runs != what) {
                    inside.changes.push(format!("deploy {what}"));
                    inside.slots[slot.index()] = Some((what.clone(), seconds));
                }
                if answer == Answer::Unheard {
                    return Err(Fault::unknown("ecs", "no answer"));
                }
            }
        }
        Ok(Deployed { what, instances: 1 })
    }

    async fn look(&self, _: &WorkloadTarget, slot: Slot, wanted: Option<&Deployed>) -> Result<WorkloadReading, Fault> {
        let seconds = self.seconds();
        let standing = match &self.inside().slots[slot.index()] {
            None => Standing::Idle,
            Some((runs, since)) if wanted.is_none_or(|wanted| wanted.what == *runs) => {
                (self.ways.comes_up)(seconds - since)
            }
            Some(_) => Standing::Progressing,
        };
        Ok(WorkloadReading { standing, note: format!("{standing:?}") })
    }

    async fn retire(&self, _: &WorkloadTarget, slot: Slot) -> Result<(), Fault> {
        let mut inside = self.inside();
        let weights = [100 - inside.route.percent_of("v2"), inside.route.percent_of("v2")];
        assert_eq!(weights[slot.index()], 0, "taken down under traffic");
        if inside.slots[slot.index()].take().is_some() {
            inside.changes.push(format!("retire {}", slot.index() + 1));
        }
        Ok(())
    }
}

#[async_trait]
impl Health for World {
    async fn check(&self, _: &str, node: &str, _: &HealthProbe) -> Result<Checked, Fault> {
        (self.ways.health)(self.seconds(), node)
    }
}

#[async_trait]
impl Signals for World {
    async fn points(&self, questions: &[SignalQuestion]) -> Vec<Result<Vec<SignalPoint>, Fault>> {
        self.inside().asked.push(questions.to_vec());
        if !self.ways.slow_signals.is_zero() {
            tokio::time::sleep(self.ways.slow_signals).await;
        }
        questions.iter().map(|question| (self.ways.signals)(self.seconds(), question)).collect()
    }
}

#[async_trait]
impl Policies for World {
    async fn plan(&self, name: &str) -> Result<Plan, PolicyFault> {
        match name == self.plan.name {
            true => Ok(self.plan.clone()),
            false => Err(PolicyFault::NotFound { name: name.into(), known: String::new() }),
        }
    }

    async fn all(&self) -> Result<Vec<(String, Result<Plan, String>)>, Fault> {
        Ok(vec![(self.plan.name.clone(), Ok(self.plan.clone()))])
    }
}
