//! The control plane as a value: one writer, many readers, and the configurations that it publishes.
//!
//! A write is checked and applied in memory, stored, taken over, compiled and published, in this order; only then is it
//! answered. So an `UpdateRoute` that was answered has been published, and a store that fails has changed nothing. Writes
//! that wait at the same time are applied one after the other, but stored and published together: a slow disk makes each
//! of them slower and not all of them one by one. A write runs in a task of its own: a client that hangs up cannot stop
//! it halfway.

use crate::base::fault::{Fault, FaultKind};
use crate::clock::{self, Clock};
use crate::mesh::compile::{self, Compiled, View};
use crate::mesh::document::{self, Document};
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::{Change, Key, MeshState, Quotas, Reply, Request, Resource};
use crate::mesh::ops::{self, OpContext};
use crate::mesh::problems;
use crate::mesh::snapshot::NodeConfig;
use crate::ports::MeshStore;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Account of local mode.
const ACCOUNT: &str = "000000000000";

/// How long the store may take. A write holds all later ones up, so a hung store must end in an answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

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

struct Inner {
    store: Arc<dyn MeshStore>,
    clock: Arc<dyn Clock>,
    region: String,
    quotas: Quotas,
    state: RwLock<MeshState>,
    /// Writes that nobody has taken up yet, oldest first. As long as there are connections at most.
    waiting: Mutex<Vec<Waiting>>,
    /// Held over a whole write; whoever gets it does all that wait.
    writer: tokio::sync::Mutex<Writer>,
    /// Locked before `state`, never after.
    published: Mutex<Published>,
}

#[derive(Default)]
struct Writer {
    /// Rows whose last save failed: it may have happened all the same. They are written again, as they should be, with
    /// the next change.
    unsure: BTreeSet<Key>,
}

struct Published {
    /// Of the latest configuration; rises over restarts too, because it starts at the clock's milliseconds.
    version: u64,
    views: BTreeMap<View, Watched>,
    /// Of the whole mesh as it was published last; the log knows of them.
    problems: Vec<compile::Problem>,
}

struct Watched {
    sender: watch::Sender<Arc<NodeConfig>>,
    problems: Vec<compile::Problem>,
}

impl MeshControl {
    /// Reads everything from the store. A row that cannot be read is a permanent fault that names it: serving without
    /// it would look as if it had been deleted.
    pub async fn open(store: Arc<dyn MeshStore>, clock: Arc<dyn Clock>, region: String) -> Result<Self, Fault> {
        Self::open_with(store, clock, region, Quotas::OFF).await
    }

    /// The same with quotas, such as those of AWS ([`Quotas::AWS`]).
    pub async fn open_with(
        store: Arc<dyn MeshStore>,
        clock: Arc<dyn Clock>,
        region: String,
        quotas: Quotas,
    ) -> Result<Self, Fault> {
        let rows = store.load().await?;
        let resources: Result<Vec<Resource>, Fault> = rows
            .iter()
            .map(|(key, row)| {
                Resource::from_row(row).map_err(|reason| Fault::permanent("mesh", format!("stored {key}: {reason}")))
            })
            .collect();
        let version = u64::try_from(clock.now().0).unwrap_or_default();
        let control = Self {
            inner: Arc::new(Inner {
                store,
                clock,
                region,
                quotas,
                state: RwLock::new(MeshState::new(resources?)),
                waiting: Mutex::default(),
                writer: tokio::sync::Mutex::default(),
                published: Mutex::new(Published { version, views: BTreeMap::new(), problems: Vec::new() }),
            }),
        };
        // Always compiled, because its problems are those of the whole mesh.
        drop(control.subscribe(View::AllServices));
        control.published().notice(&control.state());
        Ok(control)
    }

    /// The configuration of a view, now and whenever it changes.
    #[must_use]
    pub fn subscribe(&self, view: View) -> watch::Receiver<Arc<NodeConfig>> {
        let mut published = self.published();
        if let Some(watched) = published.views.get(&view) {
            return watched.sender.subscribe();
        }
        published.version += 1;
        let nothing = Arc::new(NodeConfig { version: published.version, ..NodeConfig::default() });
        let Compiled { config, problems } = compile::compile(&self.state(), &view, &nothing, published.version);
        let (sender, receiver) = watch::channel(config);
        published.views.insert(view, Watched { sender, problems });
        receiver
    }

    /// What meshes leave open, and what they ask for that this version cannot do, by resource.
    #[must_use]
    pub fn problems(&self) -> Vec<compile::Problem> {
        self.published().problems.clone()
    }

    /// Does one operation. When it answers, what it changed is stored and published.
    pub async fn execute(&self, request: Request) -> Result<Reply, ApiError> {
        if !request.writes() {
            return ops::apply(&self.state(), &request, &self.context(String::new())).map(|outcome| outcome.reply);
        }
        let control = self.clone();
        let done = tokio::spawn(async move { control.write(request).await }).await;
        done.unwrap_or_else(|_| Err(internal_error()))
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

    /// Applies writes one after the other, each to what those before it leave, then stores and publishes them together.
    async fn write_group(&self, writer: &mut Writer, group: Vec<Waiting>) {
        let (mut changes, mut answers) = (Vec::new(), Vec::with_capacity(group.len()));
        {
            let mut state = Cow::Borrowed(&*self.state());
            let more = group.len() > 1;
            for waiting in group {
                let outcome = ops::apply(&state, &waiting.request, &self.context(clock::new_uuid()));
                answers.push((
                    waiting.answer,
                    outcome.map(|outcome| {
                        if more {
                            state.to_mut().commit(outcome.changes.clone());
                        }
                        changes.extend(outcome.changes);
                        outcome.reply
                    }),
                ));
            }
        }
        let stored = self.take_over(writer, changes).await;
        for (waiting, answer) in answers {
            // One that was refused may have been so for what another one did: it has not been done either.
            let answer = if stored.is_ok() { answer } else { Err(not_stored()) };
            // A client that hung up is not told.
            let _ = waiting.send(answer);
        }
    }

    async fn load(&self, docs: &[Document], overwrite_weights: bool) -> Result<LoadReport, Vec<document::Problem>> {
        let mut writer = self.inner.writer.lock().await;
        let context = self.context(String::new());
        let plan = document::plan(&self.state(), docs, overwrite_weights, &context, clock::new_uuid)?;
        let lines = plan.lines();
        self.take_over(&mut writer, plan.changes).await.map_err(|fault| vec![not_loaded(&fault.to_string())])?;
        Ok(LoadReport { lines })
    }

    /// Stores changes, then takes them over, then publishes what they change.
    async fn take_over(&self, writer: &mut Writer, changes: Vec<Change>) -> Result<(), Fault> {
        if changes.is_empty() {
            return Ok(());
        }
        self.store(writer, &changes).await?;
        self.inner.state.write().unwrap_or_else(PoisonError::into_inner).commit(changes);
        self.publish();
        Ok(())
    }

    async fn store(&self, writer: &mut Writer, changes: &[Change]) -> Result<(), Fault> {
        let mut rows: BTreeMap<Key, Option<String>> = BTreeMap::new();
        {
            let state = self.state();
            for key in &writer.unsure {
                rows.insert(key.clone(), state.get(key).map(|resource| resource.to_row()));
            }
        }
        for (key, resource) in changes {
            rows.insert(key.clone(), resource.as_deref().map(Resource::to_row));
        }
        let keys: BTreeSet<Key> = rows.keys().cloned().collect();
        let rows = rows.into_iter().map(|(key, row)| (key.path(), row)).collect();
        let saved = tokio::time::timeout(STORE_TIMEOUT, self.inner.store.save(rows)).await;
        let saved = saved.unwrap_or_else(|_| Err(Fault::unknown("mesh store", "no answer within 10 s")));
        match saved {
            Ok(()) => writer.unsure.clear(),
            Err(fault) => {
                tracing::error!(%fault, rows = keys.len(), "a change of the mesh could not be stored");
                if fault.kind != FaultKind::Permanent {
                    writer.unsure.extend(keys);
                }
                return Err(fault);
            }
        }
        Ok(())
    }

    fn publish(&self) {
        let mut published = self.published();
        published.version += 1;
        let version = published.version;
        // A node's view that nobody watches any more would be compiled for nobody.
        published.views.retain(|view, watched| *view == View::AllServices || watched.sender.receiver_count() > 0);
        let state = self.state();
        for (view, watched) in &mut published.views {
            let last = Arc::clone(&watched.sender.borrow());
            let Compiled { config, problems } = compile::compile(&state, view, &last, version);
            watched.problems = problems;
            if !Arc::ptr_eq(&config, &last) {
                watched.sender.send_replace(config);
            }
        }
        published.notice(&state);
    }

    fn context(&self, uid: String) -> OpContext {
        OpContext {
            now: self.inner.clock.now(),
            uid,
            account: ACCOUNT.into(),
            region: self.inner.region.clone(),
            quotas: self.inner.quotas,
            strict: false,
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

impl Published {
    /// Takes over which problems there are now, and tells the log which came and which went.
    fn notice(&mut self, state: &MeshState) {
        let compiled = self.views.get(&View::AllServices).map_or(&[][..], |watched| &watched.problems);
        let now = problems::problems(state, compiled);
        problems::tell(&self.problems, &now);
        self.problems = now;
    }
}

impl std::fmt::Debug for MeshControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshControl").field("region", &self.inner.region).finish_non_exhaustive()
    }
}

fn not_stored() -> ApiError {
    let message = "the change could not be stored, and nothing has changed; try again";
    ApiError::new(ErrorCode::ServiceUnavailable, message)
}

fn internal_error() -> ApiError {
    ApiError::new(ErrorCode::InternalServerError, "an internal error; the daemon's log says more")
}

fn not_loaded(message: &str) -> document::Problem {
    document::Problem { file: "mesh store".into(), position: None, message: message.into() }
}
