//! Runs the versions as two processes of this machine, one for each slot: what a laptop has instead of services.
//!
//! What each slot should run is in a file, written before the process is started. A process is known again by a variable in
//! its environment, so a daemon that was killed leaves them running, and the next one takes them over instead of starting
//! others beside them. A supervisor for each slot starts, restarts and stops them.

mod record;
mod supervisor;
mod system;

use crate::base::fault::Fault;
use crate::base::weight::Slot;
use crate::clock::new_uuid;
use crate::policy::plan::{ProcessTarget, WorkloadTarget};
use crate::ports::Workloads;
use crate::rollout::effect::Deployment;
use crate::rollout::event::{Deployed, Standing, WorkloadReading};
use async_trait::async_trait;
use record::{Kept, SOURCE, Wanted};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use supervisor::{Seen, SlotState, supervise};
use tokio::net::TcpStream;

/// A process that ended so often by itself does not run, whatever comes of the next start.
const TOO_MANY: u32 = 3;
/// A process of this machine that does not accept a connection within this is not ready.
const CONNECT: Duration = Duration::from_secs(1);
/// Longest wait for all processes to end: what each gets, and a little.
const ALL_ENDED: Duration = Duration::from_secs(12);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Rollout that is said to want what runs before any release.
const FIRST: &str = "first";

/// Processes of this machine. Clones are the same ones.
#[derive(Debug, Clone)]
pub struct Processes {
    directory: PathBuf,
    hidden: Vec<String>,
    slots: Arc<Mutex<Slots>>,
}

#[derive(Debug, Default)]
struct Slots {
    all: BTreeMap<String, Arc<SlotState>>,
    /// Whether processes may be started yet.
    begun: bool,
}

impl Processes {
    /// With what ran when a daemon last kept it in this directory. Nothing is started before [`Processes::start`]. `hidden`
    /// are variables of this daemon that processes do not get.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(directory: &Path, hidden: Vec<String>) -> Result<Self, Fault> {
        let kept = record::load(directory)?;
        let processes = Self { directory: directory.to_owned(), hidden, slots: Arc::default() };
        for (node, kept) in kept {
            processes.slot_of(&node, kept);
        }
        Ok(processes)
    }

    /// Has a slot that has all the traffic, and never ran anything, run what the policy names first.
    ///
    /// # Errors
    /// What it should run cannot be written down.
    pub fn begin(&self, target: &ProcessTarget, stable: Slot) -> Result<(), Fault> {
        let slot = self.slot(&target.nodes[stable.index()]);
        if slot.wanted.borrow().is_some() {
            return Ok(());
        }
        let first = target.first.as_str();
        slot.want(Some(Wanted::of(target, stable, FIRST, (first, first), new_uuid())))
    }

    /// Starts what should run, takes over what runs, and ends what should not.
    pub fn start(&self) {
        let mut slots = self.lock();
        slots.begun = true;
        for slot in slots.all.values() {
            tokio::spawn(supervise(Arc::clone(slot)));
        }
    }

    /// Stops all of them, in their own time or in 12 s. Those that should run are started by the next daemon.
    pub async fn stop(&self) {
        let slots: Vec<Arc<SlotState>> = self.lock().all.values().cloned().collect();
        for slot in &slots {
            // Not written down: it should run again.
            slot.wanted.send_replace(None);
        }
        let all_ended = async {
            while slots.iter().any(|slot| slot.seen().pid.is_some() || slot.has_started()) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(ALL_ENDED, all_ended).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slots> {
        // Valid after any panic: every change is one insert, or a flag.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, node: &str) -> Arc<SlotState> {
        self.slot_of(node, Kept::default())
    }

    /// The slot of a node; one that is new has this kept of it.
    fn slot_of(&self, node: &str, kept: Kept) -> Arc<SlotState> {
        let mut slots = self.lock();
        if let Some(slot) = slots.all.get(node) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(SlotState::new(self.directory.clone(), node.to_owned(), kept, self.hidden.clone()));
        slots.all.insert(node.to_owned(), Arc::clone(&slot));
        if slots.begun {
            tokio::spawn(supervise(Arc::clone(&slot)));
        }
        slot
    }
}

/// The target, when it is processes.
fn ours(target: &WorkloadTarget) -> Result<&ProcessTarget, Fault> {
    match target {
        WorkloadTarget::Process(target) => Ok(target),
        WorkloadTarget::Ecs(_) => Err(Fault::permanent(SOURCE, NO_ECS)),
    }
}

/// Said of services of ECS.
const NO_ECS: &str = "`tidegate local` deploys to no ECS: `workload.ecs` is for `tidegate serve`";

#[async_trait]
impl Workloads for Processes {
    fn unfit(&self, target: &WorkloadTarget) -> Option<String> {
        ours(target).err().map(|fault| fault.message)
    }

    async fn deploy(&self, deployment: &Deployment) -> Result<Deployed, Fault> {
        let target = ours(&deployment.target)?;
        let node = &target.nodes[deployment.slot.index()];
        let rollout = deployment.rollout.0.as_str();
        let slot = self.slot(node);
        let present = slot.wanted.borrow().clone();
        if let Some(present) = present.filter(|present| present.rollout == rollout) {
            return Ok(Deployed { what: present.name(), instances: 1 });
        }
        let image = deployment.image.as_str();
        let release = (image, deployment.revision.as_deref().unwrap_or(image));
        let wanted = Wanted::of(target, deployment.slot, rollout, release, new_uuid());
        let what = wanted.name();
        slot.want(Some(wanted))?;
        Ok(Deployed { what, instances: 1 })
    }

    async fn look(
        &self,
        target: &WorkloadTarget,
        slot: Slot,
        wanted: Option<&Deployed>,
    ) -> Result<WorkloadReading, Fault> {
        let target = ours(target)?;
        let state = self.slot(&target.nodes[slot.index()]);
        let (present, seen) = (state.wanted.borrow().clone(), state.seen());
        let reading = |standing, note: String| Ok(WorkloadReading { standing, note });
        let Some(present) = present else {
            return match (seen.pid, state.is_ending()) {
                (Some(pid), _) => reading(Standing::Progressing, format!("process {pid} is asked to end")),
                (None, true) => reading(Standing::Progressing, "processes of before are asked to end".to_owned()),
                (None, false) => reading(Standing::Idle, "no process is wanted and none runs".to_owned()),
            };
        };
        if let Some(wanted) = wanted.filter(|wanted| wanted.what != present.name()) {
            let note = format!("the slot runs {} and not {}", present.name(), wanted.what);
            return reading(Standing::Failing, note);
        }
        if seen.token != present.token || state.is_ending() {
            // What is seen is of the one before, and so is whoever listens on the port.
            return reading(Standing::Progressing, "the process before it is asked to end".to_owned());
        }
        match seen {
            Seen { ends: ends @ TOO_MANY.., last, .. } => {
                reading(Standing::Failing, format!("the process ended {ends} times: {last}"))
            }
            Seen { pid: None, ends: 0, .. } => reading(Standing::Progressing, "it is being started".to_owned()),
            Seen { pid: None, last, .. } => reading(Standing::Progressing, format!("it is started again: {last}")),
            Seen { pid: Some(pid), .. } => match listens(present.port).await {
                true => reading(Standing::Ready, format!("process {pid} listens on port {}", present.port)),
                false => {
                    let note = format!("process {pid} does not listen on 127.0.0.1:{} yet", present.port);
                    reading(Standing::Progressing, note)
                }
            },
        }
    }

    async fn retire(&self, target: &WorkloadTarget, slot: Slot) -> Result<(), Fault> {
        let target = ours(target)?;
        self.slot(&target.nodes[slot.index()]).want(None)
    }
}

async fn listens(port: u16) -> bool {
    let connected = TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port));
    tokio::time::timeout(CONNECT, connected).await.is_ok_and(|connected| connected.is_ok())
}
