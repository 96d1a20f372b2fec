//! What people at Slack may do, and doing it.
//!
//! | verb | who |
//! |---|---|
//! | `status`, `pause`, `abort` | whoever `[people]` knows at Slack, as a user or as a member of a group |
//! | `resume`, `promote` | of these, who may approve a step of the rollout; all of them where it has no approvals |
//! | `approve`, `reject` | who may approve the step that is asked about, but for the author |

use super::super::ApiState;
use super::super::rollouts::{REASON_MAX_CHARS, abort_pending};
use crate::base::fault::Fault;
use crate::rollout::event::{Actor, Command, Voice};
use crate::rollout::view::{ApprovalView, RolloutView};
use crate::runner::handle::CommandError;
use std::time::Duration;

/// Rollouts that `status` shows.
const SHOWN_MAX: usize = 10;
/// Groups are looked up for so long, all at once: Slack wants its answer within three seconds.
const LOOKUP: Duration = Duration::from_secs(2);

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
    let mut who = Who::new(state, &deed.user);
    if deed.verb == "status" {
        who.known(state, "see how rollouts stand").await?;
        return status(state, &deed.which).await;
    }
    if deed.verb == "abort"
        && let Ok(Some(pending)) = state.inbox.pending(&deed.which).await
    {
        who.known(state, deed.verb).await?;
        let given_up = abort_pending(state, &pending.id, &who.actor, &deed.reason()).await;
        return match given_up.map_err(|error| error.0.detail)? {
            Some(view) => Ok(format!("abort: done. {}", sentence(&view))),
            None => Err("It has just begun; abort it again.".to_owned()),
        };
    }
    let found = state.runner.get(&deed.which).await.map_err(|fault| fault.to_string())?;
    let view = found
        .ok_or_else(|| format!("There is no rollout `{}`, and no policy of that name has had one.", deed.which))?;
    let command = match deed.verb {
        "approve" | "reject" => answer(state, &mut who, deed, &view).await?,
        "pause" | "abort" => {
            who.known(state, deed.verb).await?;
            let reason = deed.reason();
            if deed.verb == "pause" { Command::Pause { reason } } else { Command::Abort { reason } }
        }
        _ => {
            let approvers = state.runner.approvers(&view.id).await.map_err(|fault| fault.to_string())?;
            match approvers.is_empty() {
                true => who.known(state, deed.verb).await?,
                false => who.one_of(state, deed.verb, &approvers).await?,
            }
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
async fn answer(state: &ApiState, who: &mut Who, deed: &Deed, view: &RolloutView) -> Result<Command, String> {
    let RolloutView { id, policy, .. } = view;
    let over = || format!("Nobody is asked about {policy} ({id}) any more: {}", sentence(view));
    let approval = view.approval.as_ref().filter(|_| deed.step.is_none() || deed.step == view.step);
    let approval = approval.filter(|_| !view.finished).ok_or_else(over)?;
    let (person, voice) = who.speaks(state, approval).await?;
    let (person, reason) = (Some(person), deed.reason());
    Ok(match deed.verb {
        "approve" => Command::Approve { person, reason, step: view.step, voice },
        _ => Command::Reject { person, reason, step: view.step },
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
    fn new(state: &ApiState, user: &str) -> Self {
        let known_as = state.slack.people.known_as("slack", user);
        let name = known_as.first().cloned().unwrap_or_else(|| user.to_owned());
        let actor = Actor { name, via: "slack".to_owned() };
        Self { user: user.to_owned(), actor, known_as, groups: Vec::new(), unsure: None }
    }

    /// Looks up which of these groups they are in: those that are not asked about need no answer of Slack.
    async fn look_up(&mut self, state: &ApiState, wanted: impl Fn(&str) -> bool) {
        let Some(chat) = &state.slack.chat else { return };
        let asked = state.slack.people.groups().filter(|(name, _)| wanted(name));
        let asked = asked.map(|(name, group)| async {
            let late = || Fault::transient("slack", format!("no answer within {} s", LOOKUP.as_secs()));
            let answer = tokio::time::timeout(LOOKUP, chat.is_member(group, &self.user)).await;
            (name.to_owned(), answer.unwrap_or_else(|_| Err(late())))
        });
        for (name, answer) in futures_util::future::join_all(asked).await {
            match answer {
                Ok(true) => self.groups.push(name),
                Ok(false) => {}
                Err(fault) => {
                    tracing::warn!(%fault, group = name, "who is in a group of Slack could not be looked up");
                    self.unsure = Some(fault);
                }
            }
        }
    }

    /// Whether they are anybody here.
    async fn known(&mut self, state: &ApiState, verb: &str) -> Result<(), String> {
        if self.known_as.is_empty() {
            self.look_up(state, |_| true).await;
        }
        if !self.known_as.is_empty() || !self.groups.is_empty() {
            return Ok(());
        }
        let todo =
            format!("ask for `slack_user = \"{}\"` under `[people.NAME]` of the daemon's configuration", self.user);
        Err(self.because(format!("You may not {verb}: this daemon does not know you. {todo}.")))
    }

    /// Whether they are among these.
    async fn one_of(&mut self, state: &ApiState, verb: &str, names: &[String]) -> Result<(), String> {
        let has = |own: &[String]| names.iter().any(|name| own.contains(name));
        if !has(&self.known_as) {
            self.look_up(state, |name| names.iter().any(|wanted| wanted == name)).await;
        }
        if has(&self.known_as) || has(&self.groups) {
            return Ok(());
        }
        Err(self.because(format!("You may not {verb} this rollout. Who may: {}.", names.join(", "))))
    }

    /// The name in which they answer a question: their own before a group's, and one in which they have not answered yet.
    async fn speaks(&mut self, state: &ApiState, approval: &ApprovalView) -> Result<(String, Voice), String> {
        let named = |names: &[String], fresh: bool| {
            let fits = |name: &&String| names.contains(name) && (!fresh || !approval.given.contains(name));
            approval.from.iter().find(fits).cloned()
        };
        let own = named(&self.known_as, true).or_else(|| named(&self.known_as, false));
        let member = own.is_none();
        if member {
            self.look_up(state, |name| approval.from.iter().any(|wanted| wanted == name)).await;
        }
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
    let mut live: Vec<String> = all.iter().filter(|view| !view.finished).map(sentence).collect();
    let pending = state.inbox.all_pending().await.map_err(|fault| fault.to_string())?;
    live.extend(pending.iter().filter(|start| all.iter().all(|view| view.id != start.id)).map(sentence));
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
