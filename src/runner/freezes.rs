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
use tokio::task::JoinSet;

/// What is kept is compared with what was told so often: the time until a freeze of another process is heard of.
const LOOK: Duration = Duration::from_secs(5);

/// What every live rollout was told; `None` before the first time, and when not all could be.
pub(super) type Told = Option<Vec<Freeze>>;

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
    #[error("{} not frozen", .0.as_deref().map_or_else(|| "everything is".to_owned(), |name| format!("policy `{name}` is")))]
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
    /// Live rollouts that know it: of a freeze those that take no step, of one that was lifted those that may again.
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
    /// [`FreezeError`]; nothing is frozen by it then.
    pub async fn freeze(&self, policy: Option<String>, reason: String, by: Actor) -> Result<FreezeAnswer, FreezeError> {
        if let Some(name) = &policy
            && !self.may_be_a_policy(name).await?
        {
            return Err(FreezeError::NoSuchPolicy(name.clone()));
        }
        let freeze = Freeze { policy, reason, by, at: self.parts().clock.now() };
        let mut told = self.shared().freezing.write().await;
        if !self.parts().freezes.freeze(&freeze).await? {
            let present = self.freezes().await?.into_iter().find(|present| present.policy == freeze.policy);
            return Err(FreezeError::Already(Box::new(present.unwrap_or(freeze))));
        }
        tracing::warn!(%freeze, "frozen");
        let by = freeze.by.clone();
        Ok(self.tell(&mut told, freeze, &by).await)
    }

    /// Whether there is a policy of that name, or a live rollout of one that is gone. Where policies cannot be read, it may
    /// be one: that must not be in the way of who wants to stop it.
    async fn may_be_a_policy(&self, name: &str) -> Result<bool, Fault> {
        let Ok(policies) = self.policies().await else { return Ok(true) };
        if policies.iter().any(|(known, _)| known == name) {
            return Ok(true);
        }
        Ok(self.parts().journal.live().await?.iter().any(|stored| stored.plan.name == name))
    }

    /// Lifts a freeze.
    ///
    /// # Errors
    /// [`FreezeError`]; nothing was lifted then.
    pub async fn lift(&self, policy: Option<String>, by: Actor) -> Result<FreezeAnswer, FreezeError> {
        let mut told = self.shared().freezing.write().await;
        let at = self.parts().clock.now();
        let lifted = self.parts().freezes.lift(policy.as_deref(), at, &by).await?;
        let Some(freeze) = lifted else { return Err(FreezeError::NotFrozen(policy)) };
        tracing::warn!(%freeze, by = %by, "freeze lifted");
        Ok(self.tell(&mut told, freeze, &by).await)
    }

    /// Tells every live rollout what covers it now. The freeze is kept already, so this fails for nobody.
    async fn tell(&self, told: &mut Told, freeze: Freeze, by: &Actor) -> FreezeAnswer {
        let (mut names, mut untold) = (Vec::new(), Vec::new());
        *told = match self.tell_all(by).await {
            Ok((in_force, outcomes)) => {
                for (rollout, outcome) in outcomes {
                    match outcome {
                        Ok(()) => names.push(rollout),
                        Err(why) => untold.push((rollout, why)),
                    }
                }
                untold.is_empty().then_some(in_force)
            }
            Err(fault) => {
                untold.push(("every live rollout".to_owned(), fault.to_string()));
                None
            }
        };
        FreezeAnswer { freeze, told: names, untold }
    }

    /// Tells those live rollouts that do not know what covers them; answers what is in force, and how each took it.
    async fn tell_all(&self, by: &Actor) -> Result<(Vec<Freeze>, Vec<(String, Result<(), String>)>), Fault> {
        let in_force = self.freezes().await?;
        let live = self.parts().journal.live().await?;
        let mut telling = JoinSet::new();
        for stored in &live {
            let Some((command, actor)) = news(stored, &in_force, by) else { continue };
            let (runner, id) = (self.clone(), stored.state.id.0.clone());
            telling.spawn(async move {
                let outcome = runner.command(&id, command, actor).await;
                (id, outcome)
            });
        }
        let mut outcomes = Vec::new();
        while let Some(done) = telling.join_next().await {
            match done {
                Ok((id, Ok(_))) => outcomes.push((id, Ok(()))),
                // Its end is decided, so no step is left to take; or it was told meanwhile.
                Ok((_, Err(CommandError::Refused(_) | CommandError::NotFound(_)))) => {}
                Ok((id, Err(error @ CommandError::NotWritten(_)))) => outcomes.push((id, Err(error.to_string()))),
                Err(broken) => outcomes.push(("a live rollout".to_owned(), Err(broken.to_string()))),
            }
        }
        outcomes.sort();
        Ok((in_force, outcomes))
    }
}

/// What a rollout has to be told, and by whom.
fn news(stored: &Stored, in_force: &[Freeze], by: &Actor) -> Option<(Command, Actor)> {
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

/// Compares what is kept with what was told until the runner stops, and tells what was not.
pub(super) async fn follow_freezes(runner: Runner) {
    let daemon = Actor { name: "tidegate".to_owned(), via: "daemon".to_owned() };
    let stopped = runner.stopped();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            () = look(&runner, &daemon) => {}
        }
        tokio::select! {
            () = &mut stopped => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn look(runner: &Runner, daemon: &Actor) {
    let in_force = match runner.freezes().await {
        Ok(in_force) => in_force,
        Err(fault) => return tracing::warn!(%fault, "which freezes are in force is not known; asked again"),
    };
    let mut told = runner.shared().freezing.write().await;
    if told.as_ref() == Some(&in_force) {
        return;
    }
    *told = match runner.tell_all(daemon).await {
        Ok((in_force, outcomes)) if outcomes.iter().all(|(_, outcome)| outcome.is_ok()) => Some(in_force),
        Ok(_) => None,
        Err(fault) => {
            tracing::warn!(%fault, "live rollouts could not be told of freezes; tried again");
            None
        }
    };
}
