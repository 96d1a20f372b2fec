//! What is asked for with a start, and who somebody is by the names of `[people]`.

use super::handle::Runner;
use crate::base::fault::Fault;
use crate::base::ids::RolloutId;
use crate::base::people::People;
use crate::policy::plan::Step;
use crate::rollout::event::{Actor, Command, Voice};
use crate::rollout::state::State;

/// What is asked for with a start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartRequest {
    /// Name of the policy.
    pub policy: String,
    /// Slot that takes the release.
    pub to: Option<String>,
    /// What is released, for people.
    pub revision: Option<String>,
    /// The image to deploy.
    pub image: Option<String>,
    /// Index of the step to begin with; 0 but for a retry.
    pub first_step: usize,
    /// Who else its author is, by names of `[people]` and as actors: whoever started the one that this is a retry of.
    pub authors: Vec<String>,
    /// Why it may begin although no window of its policy is open.
    pub outside_windows: Option<String>,
}

/// A command with what is known of whoever gives it, where that counts and is not known yet.
pub(super) fn voiced(command: Command, actor: &Actor, people: &People) -> Command {
    match command {
        Command::Approve { person, reason, step, voice } if voice.is_unknown() => {
            let voice = Voice { known_as: people.known_as(&actor.via, &actor.name), member: false };
            Command::Approve { person, reason, step, voice }
        }
        other => other,
    }
}

/// Who started a rollout, for one that is a retry of it.
pub(super) fn authors(state: &State) -> Vec<String> {
    state.author.iter().cloned().chain([state.started_by.to_string()]).collect()
}

/// Everybody who may not approve a rollout that somebody starts.
pub(super) fn all_authors(request: &StartRequest, actor: &Actor, people: &People) -> Vec<String> {
    let mut authors = people.known_as(&actor.via, &actor.name);
    authors.extend(request.authors.iter().filter(|author| !authors.contains(author)).cloned().collect::<Vec<_>>());
    authors
}

impl Runner {
    /// Everybody who may approve some step of a rollout, by the names in its policy as it was when it began.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn approvers(&self, id: &str) -> Result<Vec<String>, Fault> {
        let stored = self.parts().journal.get(&RolloutId(id.to_owned())).await?;
        let steps = stored.map(|stored| stored.plan.steps).unwrap_or_default();
        let mut names: Vec<String> = Vec::new();
        for step in steps {
            let Step::Approval(approval) = step else { continue };
            names.extend(approval.from.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>());
        }
        Ok(names)
    }
}
