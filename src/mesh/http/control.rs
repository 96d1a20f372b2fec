//! The control plane as a value: one writer, many readers, and the configurations that it publishes.
//!
//! A write is checked and applied in memory, stored, taken over, compiled and published, in this order; only then is it
//! answered. So an `UpdateRoute` that was answered has been published, and a store that fails has changed nothing here.
//! Writes that wait at the same time are applied one after the other, but stored and published together: a slow disk makes
//! each of them slower and not all of them one by one. A write runs in a task of its own: a client that hangs up cannot stop
//! it halfway.
//!
//! Several control planes may share a store. Each change has a number, and the store takes one only from whoever knows the
//! last: one that comes too late reads what changed, applies its requests to that, and tries again. Between writes
//! [`MeshControl::follow`] takes over what the others changed.

mod beside;
mod leases;

use self::beside::Beside;
use self::leases::{Leases, is_same_version};
use super::published::Published;
use crate::base::fault::{Fault, FaultKind};
use crate::base::time::Timestamp;
use crate::clock::{self, Clock};
use crate::mesh::compile::{Problem, View};
use crate::mesh::document::{self, Document};
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::{Change, Key, MeshState, Quotas, Reply, Request, Resource};
use crate::mesh::ops::{self, OpContext};
use crate::mesh::snapshot::NodeConfig;
use crate::ports::{MeshStore, Saved};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};

/// The account where none is given: local mode's.
pub const ACCOUNT: &str = "000000000000";

/// How long the store may take. A write holds all later ones up, so a hung store must end in an answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a write is applied anew because another control plane came first. Each time one of them got its change in, so this
/// many in a row happen to one of a handful only where all of them write without a pause.
const ATTEMPTS: usize = 50;

/// How often others' changes are looked for: visible everywhere within a second, by four small statements a second.
const FOLLOW: Duration = Duration::from_millis(250);

/// The mesh control plane. A handle: clones are the same control plane.
#[derive(Clone)]
pub struct MeshControl {
    inner: Arc<Inner>,
}

/// What loading documents did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadReport {
    /// One line per document: `created virtualNode checkout-v1`, `unchanged …`, `updated …`, `kept the weights of …`.
    pub lines: Vec<String>,
}

/// A write that waits for its turn.
struct Waiting {
    request: Request,
    answer: oneshot::Sender<Result<Reply, ApiError>>,
}

/// What a control plane is told about itself.
#[derive(Debug, Clone)]
pub struct MeshSettings {
    /// Region of ARNs.
    pub region: String,
    /// Account of ARNs and owners, 12 digits.
    pub account: String,
    /// How many resources are allowed.
    pub quotas: Quotas,
    /// Whether references to what does not exist (yet) are refused, as AWS does, instead of listed as problems.
    pub strict: bool,
}

impl MeshSettings {
    /// Those of local mode.
    #[must_use]
    pub fn local(region: String) -> Self {
        Self { region, account: ACCOUNT.to_owned(), quotas: Quotas::OFF, strict: false }
    }
}

struct Inner {
    store: Arc<dyn MeshStore>,
    clock: Arc<dyn Clock>,
    settings: MeshSettings,
    state: RwLock<MeshState>,
    /// Writes that nobody has taken up yet, oldest first. As long as there are connections at most.
    waiting: Mutex<Vec<Waiting>>,
    /// Held over a whole write; whoever gets it does all that wait.
    writer: tokio::sync::Mutex<Writer>,
    /// Which leases are counted down. No other lock is taken while it is held.
    leases: Mutex<Leases>,
    /// Told when there may be something else to wait for.
    leases_changed: Notify,
    /// Locked before `state`, never after.
    published: Mutex<Published>,
    /// The proxy of this process, where there is one.
    beside: OnceLock<Beside>,
}

struct Writer {
    /// Number of the last change that the state contains.
    seen: u64,
    /// Whether the store may know more: another control plane changed it, or nobody knows whether the last save did.
    is_behind: bool,
    /// The state as it will be with the writes that are under way. A copy of its own, which is changed with it, since to copy
    /// a large mesh costs more than a write. `None` before the first one, and after one that came to nothing.
    ahead: Option<MeshState>,
}

impl MeshControl {
    /// Reads everything from the store. A row that cannot be read is a permanent fault that names it: serving without
    /// it would look as if it had been deleted.
    pub async fn open(store: Arc<dyn MeshStore>, clock: Arc<dyn Clock>, region: String) -> Result<Self, Fault> {
        Self::open_with(store, clock, MeshSettings::local(region)).await
    }

    /// The same for a control plane of another kind.
    ///
    /// # Errors
    /// As for [`MeshControl::open`].
    pub async fn open_with(
        store: Arc<dyn MeshStore>,
        clock: Arc<dyn Clock>,
        settings: MeshSettings,
    ) -> Result<Self, Fault> {
        let stored = store.load().await?;
        let mut state = MeshState::default();
        state.commit(read(&stored.rows)?);
        let leases = Leases::of(&state, clock.now());
        let version = u64::try_from(clock.now().0).unwrap_or_default();
        let published = Published::new(&state, version);
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                clock,
                settings,
                state: RwLock::new(state),
                waiting: Mutex::default(),
                writer: tokio::sync::Mutex::new(Writer { seen: stored.sequence, is_behind: false, ahead: None }),
                leases: Mutex::new(leases),
                leases_changed: Notify::new(),
                published: Mutex::new(published),
                beside: OnceLock::new(),
            }),
        })
    }

    /// The configuration of a view, now and whenever it changes.
    #[must_use]
    pub fn subscribe(&self, view: View) -> watch::Receiver<Arc<NodeConfig>> {
        let mut published = self.published();
        published.subscribe(&self.state(), view)
    }

    /// What meshes leave open, and what they ask for that this version cannot do, by resource.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.published().problems()
    }

    /// Does one operation. When it answers, what it changed is stored and published, and the proxy of this process routes by it.
    pub async fn execute(&self, request: Request) -> Result<Reply, ApiError> {
        if !request.writes() {
            return ops::apply(&self.state(), &request, &self.context(String::new())).map(|outcome| outcome.reply);
        }
        let control = self.clone();
        let done = tokio::spawn(async move { control.write(request).await }).await;
        let reply = done.unwrap_or_else(|_| Err(internal_error()))?;
        self.routed_beside().await;
        Ok(reply)
    }

    /// Loads documents: all of them or none. Creates what is missing and updates what differs, except the weights of
    /// routes that exist, which are taken over only with `overwrite_weights`.
    pub async fn load_documents(
        &self,
        docs: &[Document],
        overwrite_weights: bool,
    ) -> Result<LoadReport, Vec<document::Problem>> {
        let (control, docs) = (self.clone(), docs.to_vec());
        let done = tokio::spawn(async move { control.load(&docs, overwrite_weights).await }).await;
        done.unwrap_or_else(|_| Err(vec![not_loaded("an internal error; the daemon's log says more")]))
    }

    async fn write(&self, request: Request) -> Result<Reply, ApiError> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting().push(Waiting { request, answer });
        let mut writer = self.inner.writer.lock().await;
        // Whoever held it before has done this one too, or it is among those that wait now.
        if let Ok(answer) = answered.try_recv() {
            return answer;
        }
        let group = std::mem::take(&mut *self.waiting());
        self.write_group(&mut writer, group).await;
        drop(writer);
        answered.await.unwrap_or_else(|_| Err(internal_error()))
    }

    /// Does writes together, and answers each.
    async fn write_group(&self, writer: &mut Writer, group: Vec<Waiting>) {
        let requests: Vec<&Request> = group.iter().map(|waiting| &waiting.request).collect();
        let done = self.commit_group(writer, &requests).await;
        let refused = match &done {
            Ok(_) => None,
            Err(fault) => Some(not_stored(fault)),
        };
        let mut answers = done.unwrap_or_default().into_iter();
        for waiting in group {
            // One that was refused may have been so for what another one did, which has not been done either.
            let answer = refused.clone().map_or_else(|| answers.next().unwrap_or_else(|| Err(internal_error())), Err);
            // A client that hung up is not told.
            let _ = waiting.answer.send(answer);
        }
    }

    /// Applies writes to what is known, and stores that; anew as long as others come first.
    async fn commit_group(
        &self,
        writer: &mut Writer,
        requests: &[&Request],
    ) -> Result<Vec<Result<Reply, ApiError>>, Fault> {
        for _ in 0..ATTEMPTS {
            self.catch_up(writer).await?;
            let (changes, answers) = self.apply(writer, requests);
            if self.take_over(writer, changes).await? {
                return Ok(answers);
            }
        }
        Err(contended())
    }

    /// Applies writes one after the other, each to what those before it leave.
    fn apply(&self, writer: &mut Writer, requests: &[&Request]) -> (Vec<Change>, Vec<Result<Reply, ApiError>>) {
        let (mut changes, mut answers) = (Vec::new(), Vec::with_capacity(requests.len()));
        let mut ahead = self.ahead(writer);
        for request in requests {
            let outcome = ops::apply(&ahead, request, &self.context(clock::new_uuid()));
            answers.push(outcome.map(|outcome| {
                ahead.commit(outcome.changes.iter().cloned());
                changes.extend(outcome.changes);
                outcome.reply
            }));
        }
        writer.ahead = Some(ahead);
        (changes, answers)
    }

    /// The writer's own copy, out of its place: what breaks off leaves none behind.
    fn ahead(&self, writer: &mut Writer) -> MeshState {
        writer.ahead.take().unwrap_or_else(|| self.state().clone())
    }

    async fn load(&self, docs: &[Document], overwrite_weights: bool) -> Result<LoadReport, Vec<document::Problem>> {
        let mut writer = self.inner.writer.lock().await;
        let failed = |fault: &Fault| vec![not_loaded(&fault.to_string())];
        for _ in 0..ATTEMPTS {
            self.catch_up(&mut writer).await.map_err(|fault| failed(&fault))?;
            let context = self.context(String::new());
            let plan = document::plan(&self.state(), docs, overwrite_weights, &context, clock::new_uuid)?;
            let lines = plan.lines();
            if self.take_over(&mut writer, plan.changes).await.map_err(|fault| failed(&fault))? {
                return Ok(LoadReport { lines });
            }
        }
        Err(failed(&contended()))
    }

    /// Takes over what other control planes on the same store changed, and publishes it; answers whether there was anything.
    ///
    /// # Errors
    /// The store does not answer, or holds something that cannot be read. What was known stays in force.
    pub async fn refresh(&self) -> Result<bool, Fault> {
        let mut writer = self.inner.writer.lock().await;
        writer.is_behind = true;
        self.catch_up(&mut writer).await
    }

    /// Takes over what others change, for as long as it is polled.
    pub async fn follow(self) {
        let mut last_fault = None;
        loop {
            tokio::time::sleep(FOLLOW).await;
            match self.refresh().await {
                Ok(_) if last_fault.take().is_some() => tracing::info!("the mesh is followed again"),
                Ok(_) => {}
                // Four times a second, so each is told once.
                Err(fault) if last_fault.as_ref() != Some(&fault.message) => {
                    tracing::warn!(%fault, "changes of the mesh by other daemons are not seen; the last ones known stay in force");
                    last_fault = Some(fault.message);
                }
                Err(_) => {}
            }
        }
    }

    /// Reads what the store has beyond the state, where there may be something; answers whether there was.
    async fn catch_up(&self, writer: &mut Writer) -> Result<bool, Fault> {
        if !writer.is_behind && !self.inner.store.is_shared() {
            return Ok(false);
        }
        let found = in_time(self.inner.store.since(writer.seen)).await?;
        let mut changes = read(&found.rows)?;
        if found.is_all {
            let there: BTreeSet<Key> = changes.iter().map(|(key, _)| key.clone()).collect();
            let state = self.state();
            let gone = state.iter().map(|resource| &resource.key).filter(|key| !there.contains(key));
            changes.extend(gone.map(|key| (key.clone(), None)).collect::<Vec<_>>());
        }
        writer.seen = found.sequence;
        writer.is_behind = false;
        let has_changed = !changes.is_empty();
        if has_changed {
            if let Some(ahead) = &mut writer.ahead {
                ahead.commit(changes.iter().cloned());
            }
            self.commit(changes);
        }
        Ok(has_changed)
    }

    /// Stores changes, then takes them over, then publishes what they change; `false`, and nothing is done, where another
    /// control plane changed the store meanwhile.
    async fn take_over(&self, writer: &mut Writer, changes: Vec<Change>) -> Result<bool, Fault> {
        if changes.is_empty() {
            return Ok(true);
        }
        // Of several changes of one resource the last one counts.
        let rows: BTreeMap<Key, Option<String>> =
            changes.iter().map(|(key, resource)| (key.clone(), resource.as_deref().map(Resource::to_row))).collect();
        let rows: Vec<_> = rows.into_iter().map(|(key, row)| (key.path(), row)).collect();
        let count = rows.len();
        let ahead = writer.ahead.take();
        match in_time(self.inner.store.save(writer.seen, rows)).await {
            Ok(Saved::Done(number)) => {
                writer.seen = number;
                writer.ahead = ahead;
                if let Some(ahead) = &mut writer.ahead {
                    // Whoever made these changes may have looked at the state alone.
                    ahead.commit(changes.iter().cloned());
                }
                self.commit(changes);
                Ok(true)
            }
            Ok(Saved::Behind) => {
                writer.is_behind = true;
                Ok(false)
            }
            Err(fault) => {
                tracing::error!(%fault, rows = count, "a change of the mesh could not be stored");
                // It may have been, or may yet be: then it is read back, and a later write of ours comes behind it.
                writer.is_behind = true;
                if fault.kind == FaultKind::Unknown
                    && let Err(fault) = self.catch_up(writer).await
                {
                    tracing::warn!(%fault, "whether it was stored is not known; looked at again with the next change");
                }
                Err(fault)
            }
        }
    }

    fn commit(&self, changes: Vec<Change>) {
        let changed: Vec<Key> = {
            let state = self.state();
            let is_new = |(key, new): &&Change| !is_same_version(state.get(key), new.as_ref());
            changes.iter().filter(is_new).map(|(key, _)| key.clone()).collect()
        };
        if self.leases().observe(&changes, self.now()) {
            self.inner.leases_changed.notify_one();
        }
        self.inner.state.write().unwrap_or_else(PoisonError::into_inner).commit(changes);
        // A renewed lease is nobody's configuration.
        if changed.is_empty() {
            return;
        }
        let mut published = self.published();
        published.publish(&self.state(), &changed);
    }

    /// What time it is here, for signatures.
    pub(super) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    fn context(&self, uid: String) -> OpContext {
        OpContext {
            now: self.inner.clock.now(),
            uid,
            account: self.inner.settings.account.clone(),
            region: self.inner.settings.region.clone(),
            quotas: self.inner.settings.quotas,
            strict: self.inner.settings.strict,
        }
    }

    // A panic while one of these locks was held left a whole value behind: every write is a single assignment or
    // insert.

    fn state(&self) -> RwLockReadGuard<'_, MeshState> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.inner.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for MeshControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshControl").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

/// Rows as changes. One that cannot be read is a permanent fault that names it: going on without it would look as if it had
/// been deleted.
fn read(rows: &[(String, Option<String>)]) -> Result<Vec<Change>, Fault> {
    let wrong = |key: &str, reason: &str| Fault::permanent("mesh", format!("stored {key}: {reason}"));
    let change = |(path, row): &(String, Option<String>)| match row {
        Some(row) => {
            let resource = Resource::from_row(row).map_err(|reason| wrong(path, &reason.to_string()))?;
            Ok((resource.key.clone(), Some(Arc::new(resource))))
        }
        None => Ok((Key::from_path(path).ok_or_else(|| wrong(path, "is the name of nothing"))?, None)),
    };
    rows.iter().map(change).collect()
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = || Err(Fault::unknown("mesh store", format!("no answer within {} s", STORE_TIMEOUT.as_secs())));
    tokio::time::timeout(STORE_TIMEOUT, answer).await.unwrap_or_else(|_| late())
}

fn contended() -> Fault {
    Fault::transient("mesh store", format!("others changed the mesh {ATTEMPTS} times while this change was tried"))
}

fn not_stored(fault: &Fault) -> ApiError {
    let message = match fault.kind {
        FaultKind::Unknown => {
            "whether the change was stored is not known, since the store did not answer; look at the resource, and try again"
        }
        _ => "the change could not be stored, and nothing has changed; try again",
    };
    ApiError::new(ErrorCode::ServiceUnavailable, message)
}

fn internal_error() -> ApiError {
    ApiError::new(ErrorCode::InternalServerError, "an internal error; the daemon's log says more")
}

fn not_loaded(message: &str) -> document::Problem {
    document::Problem { file: "mesh store".into(), position: None, message: message.into() }
}
