//! Orders that the page offers: those that the state allows, each with what it will do in a sentence.
//!
//! The engine has the word: what it refuses is said in the dialog.

use super::track::weight_of;
use crate::rollout::view::RolloutView;

/// What the one who looks may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    /// Whether they may give orders at all.
    pub may_act: bool,
    /// Those among the people of the present approval in whose name they may speak.
    pub speaks_for: Vec<String>,
}

/// One button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Button {
    /// The verb of the API.
    pub verb: &'static str,
    /// Its address.
    pub address: String,
    /// The word on it.
    pub label: &'static str,
    /// Class of the style sheet.
    pub tone: &'static str,
    /// Heading of the dialog.
    pub title: String,
    /// What will happen.
    pub says: String,
    /// The word on the button that does it.
    pub yes: &'static str,
    /// `required`, `optional` or `none`.
    pub reason: &'static str,
    /// Whether `full` is offered.
    pub full: bool,
    /// Names to choose from, a line each.
    pub people: String,
    /// Number of the step that it is about; empty where that is no matter.
    pub step: String,
}

/// The orders that the state allows, the safe way out last.
#[must_use]
pub(super) fn buttons(view: &RolloutView, rights: &Rights) -> Vec<Button> {
    if !rights.may_act || view.finished {
        return Vec::new();
    }
    let orders = Orders { view, rights };
    let each = [orders.approve(), orders.reject(), orders.promote(), orders.pause(), orders.resume(), orders.abort()];
    each.into_iter().flatten().collect()
}

struct Orders<'a> {
    view: &'a RolloutView,
    rights: &'a Rights,
}

impl Orders<'_> {
    fn button(&self, verb: &'static str, label: &'static str, tone: &'static str, says: String) -> Button {
        Button {
            verb,
            address: format!("/v1/rollouts/{}/{verb}", super::words::segment(&self.view.id)),
            label,
            tone,
            title: format!("{label} {}?", self.view.policy),
            says,
            yes: label,
            reason: "optional",
            full: false,
            people: String::new(),
            step: String::new(),
        }
    }

    fn is_at_a_step(&self) -> bool {
        self.view.step.is_some()
    }

    fn is_paused(&self) -> bool {
        self.view.phase == "paused"
    }

    fn pause(&self) -> Option<Button> {
        let says = format!(
            "It stays at {} % until somebody resumes it. The gates go on judging and may roll it back.",
            weight_of(self.view)
        );
        (self.is_at_a_step() && !self.is_paused()).then(|| self.button("pause", "Pause", "plain", says))
    }

    fn resume(&self) -> Option<Button> {
        let says = "It goes on with the step that it is at; the step's clock starts anew.".to_owned();
        let fits = self.is_paused() && self.view.frozen.is_none();
        fits.then(|| Button { reason: "none", ..self.button("resume", "Resume", "go", says) })
    }

    fn promote(&self) -> Option<Button> {
        let view = self.view;
        // One that is given waits for silence or a gate, which a person may overrule.
        let is_asked = view.approval.as_ref().is_some_and(|approval| approval.given.len() < approval.need as usize);
        let fits = self.is_at_a_step() && view.frozen.is_none() && !is_asked && view.phase != "deploying";
        let weight = weight_of(view);
        let says = match view.steps.iter().find(|step| **step > weight) {
            Some(next) => format!(
                "The next step is taken now, without waiting for proof: {} gets {next} % of the traffic, unless the policy \
                 asks people first.",
                view.canary
            ),
            None => "Its last step ends now, without waiting for the rest of its time.".to_owned(),
        };
        let full = weight < 100;
        fits.then(|| Button { reason: "required", full, ..self.button("promote", "Promote", "plain", says) })
    }

    fn abort(&self) -> Option<Button> {
        let view = self.view;
        let says = match view.phase.as_str() {
            "pending" => "The start is given up: no rollout begins.".to_owned(),
            _ => format!(
                "{} gets no traffic any more, at once: {} takes all of it. The rollout ends.",
                view.canary, view.stable
            ),
        };
        let is_held_success = view.outcome.as_deref() == Some("succeeded");
        let fits = self.is_at_a_step() || is_held_success || ["stuck", "pending"].contains(&view.phase.as_str());
        fits.then(|| self.button("abort", "Abort", "danger", says))
    }

    fn approve(&self) -> Option<Button> {
        let approval = self.view.approval.as_ref()?;
        let people: Vec<&str> =
            self.speakers().filter(|person| !approval.given.iter().any(|given| given == person)).collect();
        let missing = usize::try_from(approval.need).unwrap_or(usize::MAX).saturating_sub(approval.given.len());
        let says = match missing {
            0 | 1 => "This is the last approval that is needed: the next step is taken.".to_owned(),
            more => format!("One of {more} approvals that are missing; the weight stays until all are there."),
        };
        let fits = !people.is_empty() && missing > 0;
        fits.then(|| Button {
            people: people.join("\n"),
            step: self.step(),
            ..self.button("approve", "Approve", "go", says)
        })
    }

    fn reject(&self) -> Option<Button> {
        self.view.approval.as_ref()?;
        let people: Vec<&str> = self.speakers().collect();
        let says =
            format!("{} gets no traffic any more, at once, and the rollout ends as rolled back.", self.view.canary);
        let fits = !people.is_empty();
        fits.then(|| Button {
            people: people.join("\n"),
            step: self.step(),
            ..self.button("reject", "Reject", "danger", says)
        })
    }

    /// The step that people are asked about, so that a dialog that was left open answers no other question.
    fn step(&self) -> String {
        self.view.step.map(|step| step.to_string()).unwrap_or_default()
    }

    /// People of the approval in whose name the one who looks may speak.
    fn speakers(&self) -> impl Iterator<Item = &str> {
        self.rights.speaks_for.iter().map(String::as_str)
    }
}
