//! What people at Slack may do, and doing it.
//!
//! | verb | who |
//! |---|---|
//! | `status`, `pause`, `abort` | whoever `[people]` knows at Slack, as a user or as a member of a group |
//! | `resume`, `promote` | of these, who may approve a step of the rollout; all of them where it has no approvals |
//! | `approve`, `reject` | who may approve the step that is asked about, but for the author |

use super::super::ApiState;
use super::super::rollouts::REASON_MAX_CHARS;
use crate::base::fault::Fault;
use crate::rollout::event::{Actor, Command, Voice};
use crate::rollout::view::{ApprovalView, RolloutView};
use crate::runner::handle::CommandError;

/// Rollouts that `status` shows.
const SHOWN_MAX: usize = 10;

/// Something that a person at Slack wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deed {
    pub(super) verb: &'static str,
    /// Identifier of a rollout, or name of a policy; empty for all of them.
    pub(super) which: String,
    /// The step that they were asked about, where it was a button.
    pub(super) step: Option<usize>,
    pub(super) reason: String,
    pub(super) full: bool,
    /// Identifiers of the person and the channel at Slack.
    pub(super) user: String,
    pub(super) channel: String,
    pub(super) is_button: bool,
}

/// Does it. Answers in the words that the person reads, as well when it came to nothing.
pub(super) async fn done(state: &ApiState, deed: &Deed) -> Result<String, String> {
    let who = Who::find(state, &deed.user).await;
    if deed.verb == "status" {
        who.known("see how rollouts stand")?;
        return status(state, &deed.which).await;
    }
    let found = state.runner.get(&deed.which).await.map_err(|fault| fault.to_string())?;
    let view = found
        .ok_or_else(|| format!("There is no rollout `{}`, and no policy of that name has had one.", deed.which))?;
    let command = match deed.verb {
        "approve" | "reject" => answer(&who, deed, &view)?,
        "pause" | "abort" => {
            who.known(deed.verb)?;
            let reason = deed.reason();
            if deed.verb == "pause" { Command::Pause { reason } } else { Command::Abort { reason } }
        }
        _ => {
            who.known(deed.verb)?;
            let approvers = state.runner.approvers(&view.id).await.map_err(|fault| fault.to_string())?;
            who.one_of(deed.verb, &approvers)?;
            match deed.verb {
                "resume" => Command::Resume,
                _ => Command::Promote { full: deed.full, reason: deed.reason() },
            }
        }
    };
    match state.runner.command(&view.id, command, who.actor).await {
        Ok(after) => Ok(format!("{}: done. {}", deed.verb, sentence(&after))),
        Err(CommandError::Refused(refusal)) => Err(format!("{} ({})", refusal.message, refusal.hint)),
        Err(error) => Err(error.to_string()),
    }
}

/// A yes or no, when the question is still the one that they were asked.
fn answer(who: &Who, deed: &Deed, view: &RolloutView) -> Result<Command, String> {
    let RolloutView { id, policy, .. } = view;
    let over = || format!("Nobody is asked about {policy} ({id}) any more: {}", sentence(view));
    let approval = view.approval.as_ref().filter(|_| deed.step.is_none() || deed.step == view.step);
    let approval = approval.filter(|_| !view.finished).ok_or_else(over)?;
    let (person, voice) = who.speaks(approval)?;
    let (person, reason) = (Some(person), deed.reason());
    Ok(match deed.verb {
        "approve" => Command::Approve { person, reason, voice },
        _ => Command::Reject { person, reason },
    })
}

impl Deed {
    /// Why, for the audit trail.
    fn reason(&self) -> String {
        let given: String = self.reason.trim().chars().take(REASON_MAX_CHARS).collect();
        if given.is_empty() { "asked in Slack".to_owned() } else { given }
    }
}

/// A person at Slack.
struct Who {
    user: String,
    actor: Actor,
    /// Their names in `[people]`.
    known_as: Vec<String>,
    /// Names of groups that they are in.
    groups: Vec<String>,
    /// Set where it could not be found out which groups they are in.
    unsure: Option<Fault>,
}

impl Who {
    async fn find(state: &ApiState, user: &str) -> Self {
        let door = &state.slack;
        let known_as = door.people.known_as("slack", user);
        let (mut groups, mut unsure) = (Vec::new(), None);
        for (name, group) in door.people.groups() {
            let Some(chat) = &door.chat else { break };
            match chat.is_member(group, user).await {
                Ok(true) => groups.push(name.to_owned()),
                Ok(false) => {}
                Err(fault) => {
                    tracing::warn!(%fault, group = name, "who is in a group of Slack could not be looked up");
                    unsure = Some(fault);
                }
            }
        }
        let name = known_as.first().cloned().unwrap_or_else(|| user.to_owned());
        Self { user: user.to_owned(), actor: Actor { name, via: "slack".to_owned() }, known_as, groups, unsure }
    }

    /// Whether they are anybody here.
    fn known(&self, verb: &str) -> Result<(), String> {
        if !self.known_as.is_empty() || !self.groups.is_empty() {
            return Ok(());
        }
        let todo =
            format!("ask for `slack_user = \"{}\"` under `[people.NAME]` of the daemon's configuration", self.user);
        Err(self.because(format!("You may not {verb}: this daemon does not know you. {todo}.")))
    }

    /// Whether they are among these, or there are none.
    fn one_of(&self, verb: &str, names: &[String]) -> Result<(), String> {
        let is_one = names.iter().any(|name| self.known_as.contains(name) || self.groups.contains(name));
        if names.is_empty() || is_one {
            return Ok(());
        }
        Err(self.because(format!("You may not {verb} this rollout. Who may: {}.", names.join(", "))))
    }

    /// The name in which they answer a question: their own before a group's, and one in which they have not answered yet.
    fn speaks(&self, approval: &ApprovalView) -> Result<(String, Voice), String> {
        let named = |names: &[String], fresh: bool| {
            let fits = |name: &&String| names.contains(name) && (!fresh || !approval.given.contains(name));
            approval.from.iter().find(fits).cloned()
        };
        let own = named(&self.known_as, true).or_else(|| named(&self.known_as, false));
        let member = own.is_none();
        let person = own.or_else(|| named(&self.groups, false));
        let known_as = self.known_as.clone();
        match person {
            Some(person) => Ok((person, Voice { known_as, member })),
            None => {
                let who = self.actor.name.as_str();
                Err(self.because(format!("`{who}` is not among those who may: {}.", approval.from.join(", "))))
            }
        }
    }

    /// With why that may not be so.
    fn because(&self, text: String) -> String {
        match &self.unsure {
            Some(fault) => {
                format!("{text} Your groups could not be looked up ({fault}); try again, or use `tidegate rollout`.")
            }
            None => text,
        }
    }
}

async fn status(state: &ApiState, which: &str) -> Result<String, String> {
    if !which.is_empty() {
        let view = state.runner.get(which).await.map_err(|fault| fault.to_string())?;
        return view.map(|view| sentence(&view)).ok_or_else(|| format!("There is no rollout `{which}`."));
    }
    let all = state.runner.list().await.map_err(|fault| fault.to_string())?;
    let live: Vec<String> = all.iter().filter(|view| !view.finished).map(sentence).collect();
    Ok(match (live.len(), all.first()) {
        (0, None) => "No rollout yet.".to_owned(),
        (0, Some(last)) => format!("No rollout is live. The last one: {}", sentence(last)),
        (number, _) if number > SHOWN_MAX => {
            format!("{}\n… and {} more", live[..SHOWN_MAX].join("\n"), number - SHOWN_MAX)
        }
        _ => live.join("\n"),
    })
}

/// How a rollout stands, in a line.
fn sentence(view: &RolloutView) -> String {
    let RolloutView { policy, id, phase, verdict, .. } = view;
    let weight = view.weights.get(&view.canary).copied().unwrap_or(0);
    let revision = view.revision.as_deref().map(|revision| format!(" {revision}")).unwrap_or_default();
    let waits = view.approval.as_ref().map(|approval| {
        format!(" ({} of {} approvals; asked: {})", approval.given.len(), approval.need, approval.from.join(", "))
    });
    let frozen = view.frozen.as_deref().map(|why| format!(" [{why}]")).unwrap_or_default();
    let why = view.reason.as_deref().unwrap_or(verdict);
    let phase = phase.replace('_', " ");
    let text = format!("{policy}{revision} ({id}): {phase} at {weight} %{}{frozen}: {why}", waits.unwrap_or_default());
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
