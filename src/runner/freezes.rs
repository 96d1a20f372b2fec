//! Freezes: nothing starts and nothing takes a step while one covers it.
//!
//! What is kept has the word. A start looks there last thing before it begins, and no freeze comes between that look and
//! the beginning. Live rollouts are told by a command, so that their journal holds it and a replay knows it; whoever was
//! not told (the process died in between, another one drives now) is told by the next look of whoever drives.

use super::errors::StartError;
use super::handle::{CommandError, Runner};
use crate::base::fault::Fault;
use crate::ports::{Freeze, JournalError, Stored};
use crate::rollout::event::{Actor, Command};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

/// What is kept is compared with what live rollouts know so often: the time until a freeze that another process kept is
/// heard of.
const LOOK: Duration = Duration::from_secs(5);
/// The same while one could not be told, or it is not known whether all were. Shorter than the second between readings,
/// any of which may take a step.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// Why nothing was frozen or lifted.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// There is no such policy.
    #[error("there is no policy `{0}`, so freezing it would stop nothing")]
    NoSuchPolicy(String),
    /// The same is frozen already.
    #[error("{0}")]
    Already(Box<Freeze>),
    /// There is no such freeze.
    #[error("there is no freeze of {}", .0.as_deref().map_or_else(|| "everything".to_owned(), |name| format!("policy `{name}`")))]
    NotFrozen(Option<String>),
    /// It could not be kept, or not be asked for.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeAnswer {
    /// The freeze that was made or lifted.
    pub freeze: Freeze,
    /// Live rollouts that it changes something for: of a freeze those that take no step by it, of one that was lifted those
    /// that may again. One that another freeze covers still is not among the latter.
    pub told: Vec<String>,
    /// Live rollouts that could not be told yet, each with the reason. They are told as soon as they can be.
    pub untold: Vec<(String, String)>,
}

impl Runner {
    /// Freezes in force: the one about everything first, then by policy.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn freezes(&self) -> Result<Vec<Freeze>, Fault> {
        self.parts().freezes.in_force().await
    }

    /// What covers a policy.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn freeze_of(&self, policy: &str) -> Result<Option<Freeze>, Fault> {
        Ok(covering(&self.freezes().await?, policy).cloned())
    }

    pub(super) async fn not_frozen(&self, policy: &str) -> Result<(), StartError> {
        // Not to know is no leave to start.
        let freeze = self.freeze_of(policy).await.map_err(|fault| StartError::Journal(JournalError::Fault(fault)))?;
        match freeze {
            Some(freeze) => Err(StartError::Frozen { policy: policy.to_owned(), freeze: Box::new(freeze) }),
            None => Ok(()),
        }
    }

    /// Freezes a policy or everything. When this returns no rollout that was told takes a step, and none starts.
    ///
    /// # Errors
    /// [`FreezeError`]; nothing is frozen by it then, unless it is a fault of unknown outcome: [`Runner::freezes`] tells.
    pub async fn freeze(&self, policy: Option<String>, reason: String, by: Actor) -> Result<FreezeAnswer, FreezeError> {
        let freeze = Freeze { policy, reason, by, at: self.parts().clock.now() };
        finish(tokio::spawn(self.clone().keep_and_tell(freeze))).await
    }

    async fn keep_and_tell(self, freeze: Freeze) -> Result<FreezeAnswer, FreezeError> {
        if let Some(name) = &freeze.policy
            && !self.may_be_a_policy(name).await?
        {
            return Err(FreezeError::NoSuchPolicy(name.clone()));
        }
        let _nothing_begins = self.shared().freezing.write().await;
        if !self.parts().freezes.freeze(&freeze).await? {
            let present = self.freezes().await?.into_iter().find(|present| present.policy == freeze.policy);
            return Err(FreezeError::Already(Box::new(present.unwrap_or(freeze))));
        }
        tracing::warn!(%freeze, "frozen");
        let (mut told, untold) = self.tell(&freeze.by).await;
        told.held.retain(|(_, policy)| freeze.covers(policy));
        let told = told.held.into_iter().map(|(rollout, _)| rollout).collect();
        Ok(FreezeAnswer { freeze, told, untold })
    }

    /// Whether there is a policy of that name, or a live rollout of one that is gone. Where policies cannot be read, it may
    /// be one: that must not be in the way of who wants to stop it.
    async fn may_be_a_policy(&self, name: &str) -> Result<bool, Fault> {
        if name.is_empty() {
            return Ok(false);
        }
        let Ok(policies) = self.policies().await else { return Ok(true) };
        if policies.iter().any(|(known, _)| known == name) {
            return Ok(true);
        }
        Ok(self.parts().journal.live().await?.iter().any(|stored| stored.plan.name == name))
    }

    /// Lifts a freeze.
    ///
    /// # Errors
    /// [`FreezeError`]; nothing was lifted then, unless it is a fault of unknown outcome: [`Runner::freezes`] tells.
    pub async fn lift(&self, policy: Option<String>, by: Actor) -> Result<FreezeAnswer, FreezeError> {
        finish(tokio::spawn(self.clone().lift_and_tell(policy, by))).await
    }

    async fn lift_and_tell(self, policy: Option<String>, by: Actor) -> Result<FreezeAnswer, FreezeError> {
        let _nothing_begins = self.shared().freezing.write().await;
        let at = self.parts().clock.now();
        let lifted = self.parts().freezes.lift(policy.as_deref(), at, &by).await?;
        let Some(freeze) = lifted else { return Err(FreezeError::NotFrozen(policy)) };
        tracing::warn!(%freeze, by = %by, "freeze lifted");
        let (told, untold) = self.tell(&by).await;
        Ok(FreezeAnswer { freeze, told: told.thawed, untold })
    }

    /// Tells every live rollout what covers it now. What is kept is kept, so this fails for nobody: whoever is not told
    /// stands in the second list, with the reason.
    async fn tell(&self, by: &Actor) -> (Told, Vec<(String, String)>) {
        match self.tell_all(by).await {
            Ok(outcome) => outcome,
            Err(fault) => (Told::default(), vec![("every live rollout".to_owned(), fault.to_string())]),
        }
    }

    async fn tell_all(&self, by: &Actor) -> Result<(Told, Vec<(String, String)>), Fault> {
        let in_force = self.freezes().await?;
        let (mut told, mut untold, mut telling) = (Told::default(), Vec::new(), JoinSet::new());
        for stored in self.parts().journal.live().await? {
            let (id, policy) = (stored.state.id.0.clone(), stored.plan.name.clone());
            let Some((command, actor)) = news(&stored, &in_force, by) else {
                told.held.extend(stored.state.frozen.map(|_| (id, policy)));
                continue;
            };
            let (runner, thaws) = (self.clone(), command == Command::Thaw);
            telling.spawn(async move {
                let outcome = runner.command(&id, command, actor).await;
                (id, policy, thaws, outcome)
            });
        }
        while let Some(done) = telling.join_next().await {
            match done {
                Ok((id, _, true, Ok(_))) => told.thawed.push(id),
                Ok((id, policy, false, Ok(_))) => told.held.push((id, policy)),
                // It was told meanwhile; or its end is decided, so no step is left to take.
                Ok((id, policy, _, Err(CommandError::Refused(_)))) => {
                    let frozen = self.get(&id).await?.is_some_and(|view| view.frozen.is_some());
                    told.held.extend(frozen.then_some((id, policy)));
                }
                Ok((_, _, _, Err(CommandError::NotFound(_)))) => {}
                Ok((id, _, _, Err(error @ CommandError::NotWritten(_)))) => untold.push((id, error.to_string())),
                Err(broken) => untold.push(("a live rollout".to_owned(), broken.to_string())),
            }
        }
        told.held.sort();
        told.thawed.sort();
        untold.sort();
        Ok((told, untold))
    }
}

/// How live rollouts stand after they were told.
#[derive(Debug, Default)]
struct Told {
    /// Those that a freeze holds, each with its policy.
    held: Vec<(String, String)>,
    /// Those that none holds any more.
    thawed: Vec<String>,
}

/// What came of a task of its own: a client that hangs up must not leave rollouts behind that nobody told.
async fn finish(task: JoinHandle<Result<FreezeAnswer, FreezeError>>) -> Result<FreezeAnswer, FreezeError> {
    let broken = |_| Fault::unknown("runner", "it broke off; `tidegate freeze` lists what is in force");
    task.await.map_err(broken)?
}

/// What a rollout has to be told, and by whom.
pub(super) fn news(stored: &Stored, in_force: &[Freeze], by: &Actor) -> Option<(Command, Actor)> {
    let state = &stored.state;
    state.step_index()?;
    match (covering(in_force, &stored.plan.name), &state.frozen) {
        (Some(freeze), Some(known)) if known.reason == freeze.reason && known.by == freeze.by => None,
        (Some(freeze), _) => Some((Command::Freeze { reason: freeze.reason.clone() }, freeze.by.clone())),
        (None, Some(_)) => Some((Command::Thaw, by.clone())),
        (None, None) => None,
    }
}

/// The one about everything comes first: it is lifted last.
fn covering<'a>(in_force: &'a [Freeze], policy: &str) -> Option<&'a Freeze> {
    in_force.iter().find(|freeze| freeze.covers(policy))
}

/// The daemon, where nobody else is known to have lifted a freeze.
pub(super) fn daemon() -> Actor {
    Actor { name: "tidegate".to_owned(), via: "daemon".to_owned() }
}

/// Compares what is kept with what live rollouts know until the runner stops, and tells those that do not know it.
pub(super) async fn follow_freezes(runner: Runner) {
    let stopped = runner.stopped();
    tokio::pin!(stopped);
    loop {
        let wait = tokio::select! {
            () = &mut stopped => return,
            wait = look(&runner) => wait,
        };
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Answers when to look again.
async fn look(runner: &Runner) -> Duration {
    match everybody_knows(runner).await {
        Ok(true) => return LOOK,
        Ok(false) => {}
        Err(fault) => {
            // Soon, since somebody may be untold who can take a step as soon as the store takes it; and at a level for those
            // who look, since the drivers tell of a store that is down.
            tracing::debug!(%fault, "which freezes are in force is not known; asked again");
            return LOOK_AGAIN;
        }
    }
    let _nothing_begins = runner.shared().freezing.write().await;
    match runner.tell(&daemon()).await {
        (_, untold) if untold.is_empty() => LOOK,
        (_, untold) => {
            tracing::warn!(?untold, "live rollouts could not be told of freezes; tried again");
            LOOK_AGAIN
        }
    }
}

async fn everybody_knows(runner: &Runner) -> Result<bool, Fault> {
    let (in_force, live) = (runner.freezes().await?, runner.parts().journal.live().await?);
    Ok(live.iter().all(|stored| news(stored, &in_force, &daemon()).is_none()))
}
