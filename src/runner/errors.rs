//! Why a runner does not do what it was asked for.

use super::windows::Closed;
use crate::base::fault::Fault;
use crate::ports::{Freeze, JournalError, PolicyFault};
use crate::rollout::event::Command;
use crate::rollout::state::Refusal;
use crate::rollout::view::RolloutView;

/// Why a rollout was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No such policy, or not a valid one.
    #[error(transparent)]
    Policy(#[from] PolicyFault),
    /// The route could not be read.
    #[error("the route could not be read: {0}")]
    Route(Fault),
    /// A freeze covers the policy.
    #[error("nothing of policy `{policy}` starts: {freeze}")]
    Frozen {
        /// The policy.
        policy: String,
        /// What covers it.
        freeze: Box<Freeze>,
    },
    /// No window of the policy is open, and nobody said why it must begin all the same.
    #[error("nothing begins: {0}")]
    OutsideWindows(Box<Closed>),
    /// The route cannot take a rollout now.
    #[error(transparent)]
    Refused(Refusal),
    /// Another one is live, or the store did not take it.
    #[error(transparent)]
    Journal(JournalError),
}

/// Why a command was not followed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No such rollout.
    #[error("there is no rollout `{0}`")]
    NotFound(String),
    /// Not in this phase.
    #[error(transparent)]
    Refused(Refusal),
    /// It could not be written down, so nothing was done.
    #[error("not done, since it could not be written down: {0}")]
    NotWritten(String),
}

pub(super) fn nobody_drives(command: &Command, view: &RolloutView) -> CommandError {
    if !view.finished {
        let text = format!("rollout {} is not driven by this process now; try again, or look at its log", view.id);
        return CommandError::NotWritten(text);
    }
    let RolloutView { id, policy, phase, .. } = view;
    CommandError::Refused(Refusal {
        message: format!("cannot {} rollout {id} of {policy}: it has ended ({phase})", command.verb()),
        hint: format!("`tidegate rollout start {policy}` starts another"),
    })
}

/// Why a rollout was not retried.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// There is nothing to retry.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The new one cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
}
