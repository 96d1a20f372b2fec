//! The seams: what the core needs from the world, as traits. Each adapter implements one; fakes implement them in tests.

use crate::base::fault::Fault;
use crate::base::histogram::Histogram;
use crate::base::ids::{RolloutId, RouteRef, Seq};
use crate::base::tally::Report;
use crate::base::time::{Millis, Timestamp};
use crate::base::token::{TokenHash, TokenId, TokenRecord};
use crate::base::weight::Slot;
use crate::mesh::snapshot::Discovery;
use crate::policy::plan::{HealthProbe, Plan, SignalQuery, WorkloadTarget};
use crate::rollout::effect::{Deployment, Effect, EffectId, WeightsWrite};
use crate::rollout::event::{Actor, Deployed, Input, LiveReading, Past, RouteReading, TimingAsk, WorkloadReading};
use crate::rollout::state::State;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;

mod chat;
mod freezes;
mod lease;
mod mesh;
mod news;
mod notes;
mod previews;

pub use chat::Chat;
pub use freezes::{Freeze, Freezes};
pub use lease::{Acquired, DriverLease, Holder, LEASE, LEASE_RENEWAL};
pub use mesh::{ConnectedProxy, MeshOverview, MeshProblem, Rejection, TypeStanding};
pub use news::{Ask, Compared, News, NewsCursor, NewsStanding, Notices};
pub use notes::Notes;
pub use previews::{Obstacle, Previews};

/// Live data-plane counts, at most a second or two old.
#[async_trait]
pub trait Telemetry: Send + Sync + 'static {
    /// The latest report of every proxy that is connected now. An empty list is silence, not "no requests".
    async fn reports(&self) -> Result<Vec<Report>, Fault>;
    /// The same for whoever judges these routes by them, which is told to the proxies: their fuses wait for that.
    async fn acknowledged(&self, _judged: &BTreeSet<RouteRef>) -> Result<Vec<Report>, Fault> {
        self.reports().await
    }
}

/// Rows that the mesh control plane keeps: one for each resource. Changes are numbered, so that several control planes may
/// share a store: each writes only to what it knows, and asks what the others changed.
#[async_trait]
pub trait MeshStore: Send + Sync + 'static {
    /// Whether other processes may change it meanwhile.
    fn is_shared(&self) -> bool;
    /// Every stored resource.
    async fn load(&self) -> Result<MeshRows, Fault>;
    /// What was changed after the change of that number; everything where that cannot be told any more.
    async fn since(&self, seen: u64) -> Result<MeshRows, Fault>;
    /// Writes all changes or none, and none unless `seen` is the number of the last change; a row of `None` is deleted.
    async fn save(&self, seen: u64, changes: Vec<(String, Option<String>)>) -> Result<Saved, Fault>;
}

/// Rows of the mesh, all as of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeshRows {
    /// Number of the last change that they contain.
    pub sequence: u64,
    /// Key and JSON of each; `None` for one that was deleted.
    pub rows: Vec<(String, Option<String>)>,
    /// Whether these are all rows that there are, and not those alone that changed.
    pub is_all: bool,
}

/// What came of a write to the mesh's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// Written, as the change of this number.
    Done(u64),
    /// Nothing was written: somebody else made a change since.
    Behind,
}

/// Finds the endpoints of a virtual node.
#[async_trait]
pub trait EndpointSource: Send + Sync + 'static {
    /// Addresses now, in a stable order. An empty list means that the node has none; an error means that nobody knows,
    /// and the last known ones stay in use.
    async fn resolve(&self, discovery: &Discovery, default_port: u16) -> Result<Vec<SocketAddr>, Fault>;
}

/// Reads and writes a route's weights. Both may be called twice for one purpose.
#[async_trait]
pub trait Traffic: Send + Sync + 'static {
    /// The route's targets now, and the highest write generation that the endpoint remembers (0 when it does not).
    async fn read(&self, route: &RouteRef) -> Result<(RouteReading, u64), Fault>;
    /// Sets the weights of the two slots and nothing else; answers the route's version from then on.
    async fn set_weights(&self, write: &WeightsWrite) -> Result<u64, Fault>;
    /// For how long a mesh that knows leases is to keep a split that nobody renews; `None` where it never is asked to.
    fn lease(&self) -> Option<Millis> {
        None
    }
    /// Renews the lease of weights that were written, unless the route has others by now or the mesh knows no leases.
    async fn renew(&self, _write: &WeightsWrite) -> Result<(), Fault> {
        Ok(())
    }
    /// Routes of previews in the same mesh; `None` where none can be made.
    fn previews(&self) -> Option<&dyn Previews> {
        None
    }
}

/// Runs the versions. Each call may be made twice for one purpose, and the second one changes nothing more.
#[async_trait]
pub trait Workloads: Send + Sync + 'static {
    /// What is in the way of running this here for good; `None` where nothing is.
    fn unfit(&self, target: &WorkloadTarget) -> Option<String>;
    /// Makes a slot run an image, in as many instances as the target says, and answers without waiting for them.
    async fn deploy(&self, deployment: &Deployment) -> Result<Deployed, Fault>;
    /// How a slot's instances stand. With `wanted` whether they run that, and not what they ran before.
    async fn look(
        &self,
        target: &WorkloadTarget,
        slot: Slot,
        wanted: Option<&Deployed>,
    ) -> Result<WorkloadReading, Fault>;
    /// Asks for no instances of a slot any more; answers without waiting for their end.
    async fn retire(&self, target: &WorkloadTarget, slot: Slot) -> Result<(), Fault>;
}

/// What the data plane counted on one route, arm by arm.
#[async_trait]
pub trait LiveCounts: Send + Sync + 'static {
    /// Cumulative counts of every proxy that answers; none is silence. `ask` says what to count of latencies.
    async fn read(&self, route: &RouteRef, canary: &str, stable: &str, ask: &TimingAsk) -> Result<LiveReading, Fault>;
    /// Latencies of a node's successful requests on a route in the last ten minutes, as far as they are known.
    async fn recent(&self, route: &RouteRef, node: &str) -> Option<Histogram>;
    /// What whoever was stable on a route did in the last day, as far as it is known.
    async fn past(&self, _route: &RouteRef) -> Past {
        Past::default()
    }
}

/// Where a virtual node's endpoints are, by what the mesh says of it.
#[async_trait]
pub trait NodeEndpoints: Send + Sync + 'static {
    /// Endpoints now, each with the addresses to try in turn while they refuse; empty when the node has none.
    async fn endpoints(&self, mesh: &str, node: &str) -> Result<Vec<Vec<SocketAddr>>, Fault>;
}

/// Asks a version itself how it is.
#[async_trait]
pub trait Health: Send + Sync + 'static {
    /// Asks every endpoint of a virtual node.
    async fn check(&self, mesh: &str, node: &str, probe: &HealthProbe) -> Result<Checked, Fault>;
}

/// What asking every endpoint of a node came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// Endpoints that were asked; none is no answer.
    pub asked: usize,
    /// Of these, how many did not answer in time that they are well.
    pub failed: usize,
    /// The first of those, and what it did, for people.
    pub first: Option<String>,
}

/// Reads measurements of the world outside the mesh: CloudWatch, X-Ray, Prometheus, an HTTP service.
#[async_trait]
pub trait Signals: Send + Sync + 'static {
    /// Answers each question in its order. Questions of one round come together, so that a source which takes many at
    /// once is called once. A fault is one question's own: the others are answered all the same.
    async fn points(&self, questions: &[SignalQuestion]) -> Vec<Result<Vec<SignalPoint>, Fault>>;
}

/// A question about one version.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalQuestion {
    /// What is asked, without placeholders.
    pub query: SignalQuery,
    /// Only what is newer is wanted: the point that was read last, or when the release got its first traffic.
    pub after: Timestamp,
    /// When the release got its first traffic: what the canary did before was another release's doing.
    pub since: Timestamp,
    /// The time now. A point whose span has not ended yet is none.
    pub now: Timestamp,
}

/// A measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalPoint {
    /// Its time by the source: the beginning of its span where it has one. Rises from point to point.
    pub at: Timestamp,
    /// In the signal's unit.
    pub value: f64,
    /// What is behind it, for people, where the source tells more than a number.
    pub note: Option<String>,
}

impl SignalPoint {
    /// A number and no more.
    #[must_use]
    pub const fn of(at: Timestamp, value: f64) -> Self {
        Self { at, value, note: None }
    }
}

/// Where policies come from.
#[async_trait]
pub trait Policies: Send + Sync + 'static {
    /// The plan of a policy as it is now, freshly checked.
    async fn plan(&self, name: &str) -> Result<Plan, PolicyFault>;
    /// Every policy by name, each with its plan or what is wrong with it.
    async fn all(&self) -> Result<Vec<(String, Result<Plan, String>)>, Fault>;
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFault {
    /// No policy of that name.
    #[error("there is no policy `{name}`{known}")]
    NotFound {
        /// The name that was asked for.
        name: String,
        /// ` (there are: …)`, or nothing.
        known: String,
    },
    /// The file is wrong; the text holds every problem with its place.
    #[error("policy `{name}` is not valid:\n{problems}")]
    Invalid {
        /// The name that was asked for.
        name: String,
        /// The problems, one after the other.
        problems: String,
    },
    /// It could not be read.
    #[error(transparent)]
    Unavailable(#[from] Fault),
}

/// A rollout as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The plan that it runs by.
    pub plan: Plan,
    /// Where it stands.
    pub state: State,
}

/// What one input writes, all or nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The state after the input; its `seq` is the input's.
    pub state: State,
    /// The input.
    pub input: Input,
    /// What it wants done.
    pub effects: Vec<(EffectId, Effect)>,
    /// The effect that it settles.
    pub settles: Option<EffectId>,
    /// When the rollout next needs attention by itself.
    pub next_deadline: Option<Timestamp>,
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another rollout of the same route is live.
    #[error("rollout {id} of {route} is live since {since}, started by {by}")]
    AlreadyLive {
        /// The live one.
        id: RolloutId,
        /// Its route.
        route: RouteRef,
        /// When it was started, RFC 3339.
        since: String,
        /// Who started it.
        by: String,
    },
    /// Another process has taken over; this one must stop driving.
    #[error("rollout {0} is driven by another process now")]
    Fenced(RolloutId),
    /// The store holds inputs of the rollout that this process does not know: a write that was reported as failed had
    /// been made. Whoever drives must begin anew from what is stored.
    #[error("rollout {0} stands further on in the store than here")]
    Ahead(RolloutId),
    /// The store did not do it.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// One journaled input.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalRow {
    /// Version of the engine that took it in.
    pub engine_version: u32,
    /// The input.
    pub input: Input,
}

/// Keeps rollouts: state, journal and intents, in one transaction for each input.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Writes a new rollout with its first input; answers the input's position among those of all rollouts.
    async fn begin(&self, plan: &Plan, commit: &Commit) -> Result<u64, JournalError>;
    /// Writes one input of a rollout that exists; answers its position among those of all rollouts.
    async fn commit(&self, commit: &Commit) -> Result<u64, JournalError>;
    /// Notes, before the call, that an effect is being carried out (again). When this is refused as fenced, the call
    /// must not be made.
    async fn attempt(&self, effect: &EffectId) -> Result<(), JournalError>;
    /// Every rollout that is not finished.
    async fn live(&self) -> Result<Vec<Stored>, Fault>;
    /// Committed effects of a rollout that nobody settled, oldest first.
    async fn unsettled(&self, id: &RolloutId) -> Result<Vec<(EffectId, Effect)>, Fault>;
    /// One rollout.
    async fn get(&self, id: &RolloutId) -> Result<Option<Stored>, Fault>;
    /// Rollouts that are not finished, then finished ones; each newest first.
    async fn list(&self, limit: u32) -> Result<Vec<Stored>, Fault>;
    /// The highest write generation that any rollout of the route has used; 0 for none.
    async fn last_generation(&self, route: &RouteRef) -> Result<u64, Fault>;
    /// The newest rollout of the route that ended well, or has decided to: what it released is what stable runs. `None` where
    /// there is none among the 200 newest.
    async fn last_succeeded(&self, route: &RouteRef) -> Result<Option<Stored>, Fault>;
    /// Position of the last input of any rollout; 0 before the first.
    async fn position(&self) -> Result<u64, Fault>;
    /// Inputs of all rollouts written after a position, in order: position, rollout, number.
    async fn since(&self, position: u64, limit: u32) -> Result<Vec<(u64, RolloutId, Seq)>, Fault>;
    /// Every input of a rollout, in order.
    async fn inputs(&self, id: &RolloutId) -> Result<Vec<JournalRow>, Fault>;
}

/// Tokens that are not revoked, at most: more than a company has people and machines that release.
pub const TOKENS_MAX: usize = 1000;

/// Keeps the tokens of the API, by the hash of each: whoever reads the database cannot speak with one.
///
/// Tokens belong to no rollout, so no lease is needed to write them: a standby may, and so may a command beside a daemon.
#[async_trait]
pub trait Tokens: Send + Sync + 'static {
    /// What is known of a token, a revoked one too; `None` when there is none of that hash.
    async fn find(&self, hash: &TokenHash) -> Result<Option<TokenRecord>, Fault>;
    /// Keeps a new one. Its identifier and its hash are chance and do not repeat.
    ///
    /// # Errors
    /// [`TokenError::Full`] beyond [`TOKENS_MAX`].
    async fn create(&self, record: &TokenRecord, hash: &TokenHash) -> Result<(), TokenError>;
    /// Those that are not revoked, then those that are; each newest first, up to twice [`TOKENS_MAX`] together.
    async fn list(&self) -> Result<Vec<TokenRecord>, Fault>;
    /// Revokes one for good and answers it; one that is revoked already stays as it is. `None` when there is none.
    async fn revoke(&self, id: &TokenId, at: Timestamp, by: &str) -> Result<Option<TokenRecord>, Fault>;
}

/// Why a token was not kept.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// There are too many.
    #[error("there are {TOKENS_MAX} tokens already, which is the most; revoke those that nobody uses")]
    Full,
    /// The store did not do it.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A policy as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedPolicy {
    /// Its name.
    pub name: String,
    /// 1 for the first text of that name, then one more for each that differs from the one before.
    pub version: u64,
    /// The text, as it came: valid when it was pushed.
    pub text: String,
    /// Who pushed it.
    pub actor: Actor,
    /// When.
    pub at: Timestamp,
}

/// Keeps policies that were pushed.
#[async_trait]
pub trait PolicyStore: Send + Sync + 'static {
    /// Keeps a text as the next version, unless it is the present one's; answers the version that holds from now on. The
    /// `version` of what is given says nothing.
    async fn push(&self, policy: &PushedPolicy) -> Result<u64, Fault>;
    /// The present version of a policy.
    async fn pushed(&self, name: &str) -> Result<Option<PushedPolicy>, Fault>;
    /// The present version of each, by name.
    async fn all_pushed(&self) -> Result<Vec<PushedPolicy>, Fault>;
}

/// Takes policies that are pushed, beside those of elsewhere.
#[async_trait]
pub trait PolicyDoor: Send + Sync + 'static {
    /// Checks a text and keeps it. One that is the present one's already is no new version.
    async fn push(&self, policy: PushedPolicy) -> Result<PushedPolicy, PushFault>;
    /// The present version of a policy that was pushed and is in force.
    async fn pushed(&self, name: &str) -> Result<Option<PushedPolicy>, Fault>;
}

/// Why a policy was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PushFault {
    /// The text is not valid; every problem with its place.
    #[error("the policy is not valid, and what was in force stays so:\n{0}")]
    Invalid(String),
    /// It is the text of another policy.
    #[error("the text is of the policy `{said}`, and it was pushed as `{asked}`")]
    OtherName {
        /// The name in the text.
        said: String,
        /// The name that it was pushed under.
        asked: String,
    },
    /// A file of that name has the word.
    #[error("the policy `{name}` comes from a file of the daemon's directory {directory}, which has the word")]
    InDirectory {
        /// Its name.
        name: String,
        /// The directory.
        directory: String,
    },
    /// There are as many as there may be.
    #[error("{0} policies were pushed, and that is the most")]
    TooMany(usize),
    /// It could not be kept.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// One event from outside, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Ids by which it is known again; at least one.
    pub ids: Vec<String>,
    /// Who sent it: the last part of the hook's address.
    pub source: String,
    /// When it came.
    pub at: Timestamp,
    /// Why it starts nothing, policy by policy, as far as that was known when it came.
    pub nothing: Vec<String>,
    /// What it starts.
    pub starts: Vec<HookStart>,
}

/// One rollout that an event asks for. Kept before anything is done about it, under the identifier that the rollout will
/// have: so it starts once, wherever the process ends meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookStart {
    /// The rollout's identifier.
    pub rollout: RolloutId,
    /// The policy.
    pub policy: String,
    /// What to deploy.
    pub image: Option<String>,
    /// What is released, for people.
    pub revision: Option<String>,
    /// Who released, and how we know.
    pub actor: Actor,
    /// When it was asked for.
    pub at: Timestamp,
    /// When it is to begin, where a person asked for that; else it departs as the policy says.
    pub not_before: Option<Timestamp>,
    /// Why it may begin although no window is open; likewise.
    pub outside_windows: Option<String>,
    /// What came of it; `None` until that is known.
    pub outcome: Option<HookOutcome>,
}

/// What came of a start that an event asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum HookOutcome {
    /// The rollout began.
    Started,
    /// It did not, and nobody need do anything about it.
    Nothing {
        /// Why.
        why: String,
    },
    /// It could not.
    Refused {
        /// What stood in the way.
        why: String,
        /// What to do about it.
        hint: String,
    },
}

/// Keeps what came from outside, so that nothing is done twice and nothing is forgotten.
#[async_trait]
pub trait Deliveries: Send + Sync + 'static {
    /// Keeps an event with what it starts, all or nothing. `false`, and nothing kept, when one of its ids was seen before.
    async fn receive(&self, received: &Received) -> Result<bool, Fault>;
    /// The event that one of these ids was seen with.
    async fn seen(&self, ids: &[String]) -> Result<Option<Received>, Fault>;
    /// Every start without an outcome, in the order in which they came.
    async fn open(&self) -> Result<Vec<HookStart>, Fault>;
    /// A start by the identifier of its rollout.
    async fn start(&self, rollout: &RolloutId) -> Result<Option<HookStart>, Fault>;
    /// Notes what came of a start. Nothing happens where that is known already.
    async fn settle(&self, rollout: &RolloutId, outcome: &HookOutcome) -> Result<(), Fault>;
}
