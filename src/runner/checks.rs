//! Health checks of a rollout: asks both versions for each gate on health at its interval, bounded in time.
//!
//! Apart from the other readings, so that a version that does not answer delays none of them.

use super::driver::Message;
use crate::clock::Clock;
use crate::judge::points::PointReading;
use crate::policy::plan::{Gate, GateRule, HealthProbe};
use crate::ports::{Checked, Health, Stored};
use crate::rollout::event::{ArmReading, Event, Observation, PointsReading};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Asking all endpoints of a version takes no longer than this, or says nothing.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What checks are made with.
#[derive(Clone)]
pub(super) struct Checker {
    pub(super) health: Arc<dyn Health>,
    pub(super) clock: Arc<dyn Clock>,
}

/// One gate's question about the two versions.
#[derive(Clone)]
struct Question {
    gate: String,
    mesh: String,
    canary: String,
    stable: String,
    probe: HealthProbe,
    interval: Duration,
}

impl Checker {
    /// Begins the checks of every gate on health; they end when they are aborted, or with the driver's queue.
    pub(super) fn watch(&self, stored: &Stored, inbox: &mpsc::Sender<Message>) -> Vec<AbortHandle> {
        let watch = |question| tokio::spawn(self.clone().ask_on(question, inbox.clone())).abort_handle();
        questions(stored).into_iter().map(watch).collect()
    }

    async fn ask_on(self, question: Question, inbox: mpsc::Sender<Message>) {
        loop {
            // A task of its own: should an adapter panic, the next check is made all the same.
            let (checker, asked) = (self.clone(), question.clone());
            let answered = tokio::spawn(async move { checker.ask(&asked).await }).await;
            let broken = || ArmReading { point: PointReading::Failed, note: Some("the check broke off".to_owned()) };
            let reading = answered.unwrap_or_else(|_| PointsReading {
                gate: question.gate.clone(),
                canary: broken(),
                stable: broken(),
            });
            let observation = Observation { points: vec![reading], ..Observation::default() };
            if inbox.send(Message::Event(Event::Observed(observation))).await.is_err() {
                return;
            }
            tokio::time::sleep(question.interval).await;
        }
    }

    async fn ask(&self, question: &Question) -> PointsReading {
        let (canary, stable) = tokio::join!(self.arm(question, &question.canary), self.arm(question, &question.stable));
        PointsReading { gate: question.gate.clone(), canary, stable }
    }

    async fn arm(&self, question: &Question, node: &str) -> ArmReading {
        let asked = self.health.check(&question.mesh, node, &question.probe);
        match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Ok(Checked { asked: 0, .. })) => {
                ArmReading { point: PointReading::Missing, note: Some(format!("{node} has no endpoint")) }
            }
            Ok(Ok(checked)) => {
                let note = checked.first.map(|first| format!("{} of {}: {first}", checked.failed, checked.asked));
                ArmReading { point: PointReading::of(self.clock.now(), checked.failed as f64), note }
            }
            Ok(Err(fault)) => ArmReading { point: PointReading::Failed, note: Some(fault.to_string()) },
            Err(_) => ArmReading { point: PointReading::Failed, note: Some("no answer in time".to_owned()) },
        }
    }
}

fn questions(stored: &Stored) -> Vec<Question> {
    let (plan, canary) = (&stored.plan, stored.state.canary);
    let question = |gate: &Gate| match &gate.rule {
        GateRule::Health { probe, interval, .. } => Some(Question {
            gate: gate.name.clone(),
            mesh: plan.route.mesh.clone(),
            canary: plan.node(canary).to_owned(),
            stable: plan.node(canary.other()).to_owned(),
            probe: probe.clone(),
            interval: interval.duration(),
        }),
        GateRule::ErrorRateAgainstStable { .. }
        | GateRule::LatencyAgainstStable { .. }
        | GateRule::ErrorRateLimit { .. }
        | GateRule::LatencyLimit { .. }
        | GateRule::Signal(_) => None,
    };
    plan.gates.iter().filter_map(question).collect()
}
