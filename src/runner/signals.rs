//! Signals from outside of a rollout: asks the sources for the gates' points, bounded in time.
//!
//! Gates of one interval ask together, about both versions in one call, so that a source which takes many questions at
//! once is called once. Apart from the other readings, so that a source that does not answer delays none of them.

use super::driver::Message;
use crate::base::fault::Fault;
use crate::base::time::{Millis, Timestamp};
use crate::clock::Clock;
use crate::judge::points::PointReading;
use crate::policy::plan::SignalQuery;
use crate::ports::{SignalPoint, SignalQuestion, Signals, Stored};
use crate::rollout::event::{ArmReading, Event, Observation, PointsReading};
use crate::rollout::signals::{Asked, Counting, asked};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

/// A round of questions takes no longer than this, or says nothing: a few calls of each source with their own retries.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Points of one answer that are taken in, the newest: two hours of minutes, for a daemon that was away.
const MAX_POINTS: usize = 120;
/// What a start is refused with, and what a gate of a rollout that was begun elsewhere says.
pub(super) const NO_SIGNALS: &str = "this daemon asks no signals from outside";

/// What signals are asked with.
#[derive(Clone)]
pub(super) struct Asker {
    /// `None` where they are not to be asked.
    pub(super) signals: Option<Arc<dyn Signals>>,
    pub(super) clock: Arc<dyn Clock>,
}

/// A gate in a round, with the newest point that was read of each version.
#[derive(Debug, Clone)]
struct Gate {
    asked: Asked,
    /// Of the canary and of stable; for a comparison both are that of the last pair.
    last: [Option<Timestamp>; 2],
}

type Answer = Result<Vec<SignalPoint>, String>;

impl Asker {
    /// Begins the questions of every gate on signals; they end when they are aborted, or with the driver's queue. `from` is
    /// since when points count, while they do.
    pub(super) fn watch(
        &self,
        stored: &Stored,
        from: &watch::Sender<Option<Counting>>,
        inbox: &mpsc::Sender<Message>,
    ) -> Vec<AbortHandle> {
        let mut rounds: BTreeMap<Millis, Vec<Gate>> = BTreeMap::new();
        for asked in asked(&stored.plan, &stored.state) {
            // A pair is read when both of its points are.
            let last = if asked.compared { [asked.last[0]; 2] } else { asked.last };
            rounds.entry(asked.interval).or_default().push(Gate { asked, last });
        }
        let ask = |(every, gates): (Millis, Vec<Gate>)| {
            let round = Round { asker: self.clone(), gates, every: every.duration() };
            tokio::spawn(round.ask_on(from.subscribe(), inbox.clone())).abort_handle()
        };
        rounds.into_iter().map(ask).collect()
    }
}

/// Gates that ask together.
struct Round {
    asker: Asker,
    gates: Vec<Gate>,
    every: Duration,
}

impl Round {
    async fn ask_on(mut self, mut counts: watch::Receiver<Option<Counting>>, inbox: mpsc::Sender<Message>) {
        loop {
            // Nothing is asked while nothing would be made of it. An error would mean that the driver is gone.
            let counts = counts.wait_for(|counting| counting.is_some_and(|counting| self.asks_in(&counting)));
            let Ok(counting) = counts.await.map(|counting| *counting) else { return };
            let points = self.round(counting.unwrap_or_default()).await;
            let observation = Observation { points, ..Observation::default() };
            if inbox.send(Message::Event(Event::Observed(observation))).await.is_err() {
                return;
            }
            tokio::time::sleep(self.every).await;
        }
    }

    fn asks_in(&self, counting: &Counting) -> bool {
        self.gates.iter().any(|gate| gate.asked.counts(counting))
    }

    /// One question of every gate that counts about every version.
    async fn round(&mut self, counting: Counting) -> Vec<PointsReading> {
        let from = counting.from;
        let now = self.asker.clock.now();
        let mut questions = Vec::new();
        let mut places = Vec::new();
        for gate in self.gates.iter().filter(|gate| gate.asked.counts(&counting)) {
            let arms = [Some(&gate.asked.canary), gate.asked.stable.as_ref()];
            places.push([0, 1].map(|arm| match arms[arm] {
                None => Place::Unasked,
                Some(Err(why)) => Place::Unaskable(why.clone()),
                Some(Ok(query)) => {
                    questions.push(question(query, gate, gate.last[arm], from, now));
                    Place::Question(questions.len() - 1)
                }
            }));
        }
        let mut answers = self.answers(questions).await;
        let mut readings = Vec::new();
        let asked = self.gates.iter_mut().filter(|gate| gate.asked.counts(&counting));
        for (gate, places) in asked.zip(places) {
            let [canary, stable] = places.map(|place| match place {
                Place::Unasked => None,
                Place::Unaskable(why) => Some(Err(why)),
                Place::Question(index) => Some(std::mem::replace(&mut answers[index], Ok(Vec::new()))),
            });
            readings.extend(gate.read(canary.unwrap_or_else(|| Ok(Vec::new())), stable, now));
        }
        readings
    }

    /// An answer to each question, whatever happens.
    async fn answers(&self, questions: Vec<SignalQuestion>) -> Vec<Answer> {
        let count = questions.len();
        let Some(signals) = self.asker.signals.clone() else { return vec![Err(NO_SIGNALS.to_owned()); count] };
        if count == 0 {
            return Vec::new();
        }
        // A task of its own: should an adapter panic, the next round is asked all the same.
        let task = tokio::spawn(async move { signals.points(&questions).await });
        let ended = AbortOnDrop(task.abort_handle());
        let all = match tokio::time::timeout(TIMEOUT, task).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(_)) => return vec![Err("the question broke off".to_owned()); count],
            Err(_) => return vec![Err("no answer in time".to_owned()); count],
        };
        drop(ended);
        let each = all.into_iter().map(|answer| answer.map_err(|fault: Fault| fault.to_string()));
        each.chain(std::iter::repeat_with(|| Err("the source left the question out".to_owned()))).take(count).collect()
    }
}

/// Ends a question that nobody waits for any more.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where the answer about a version comes from.
enum Place {
    /// It is not asked about apart.
    Unasked,
    /// It cannot be asked about.
    Unaskable(String),
    /// Index of the question.
    Question(usize),
}

fn question(
    query: &SignalQuery,
    gate: &Gate,
    last: Option<Timestamp>,
    from: Timestamp,
    now: Timestamp,
) -> SignalQuestion {
    // An alarm is asked how it is, however long it has been so.
    let after = if gate.asked.is_now { Timestamp::default() } else { last.map_or(from, |last| last.max(from)) };
    SignalQuestion { query: query.clone(), after, since: from, now }
}

impl Gate {
    /// The readings that follow from the answers about the canary and about stable.
    fn read(&mut self, canary: Answer, stable: Option<Answer>, now: Timestamp) -> Vec<PointsReading> {
        let is_now = self.asked.is_now;
        let newest = |answer: Answer| {
            answer.map(|points| {
                let mut points: Vec<SignalPoint> = points.into_iter().filter(|point| !point.value.is_nan()).collect();
                if is_now {
                    points.drain(..points.len().saturating_sub(1));
                    points.iter_mut().for_each(|point| point.at = now);
                }
                points.sort_by_key(|point| point.at);
                points.drain(..points.len().saturating_sub(MAX_POINTS));
                points
            })
        };
        let (canary, stable) = (newest(canary), stable.map(newest));
        match (canary, stable) {
            (Ok(canary), Some(Ok(stable))) if self.asked.compared => self.pairs(&canary, &stable),
            (canary, stable) if self.asked.compared => {
                vec![self.reading(whole(&canary), stable.as_ref().map_or_else(missing, whole))]
            }
            (canary, stable) => self.apart(&canary, stable),
        }
    }

    fn reading(&self, canary: ArmReading, stable: ArmReading) -> PointsReading {
        PointsReading { gate: self.asked.gate.clone(), canary, stable }
    }

    /// Points of the same time together: a canary's without one of stable's waits for it, and is asked for again.
    fn pairs(&mut self, canary: &[SignalPoint], stable: &[SignalPoint]) -> Vec<PointsReading> {
        // Asked in one breath, points are of one time when they are nearer to each other than to the next ones.
        let near = self.asked.interval.min(self.asked.span).0 / 2;
        let mut rest = stable.iter().peekable();
        let mut readings = Vec::new();
        for point in canary {
            while rest.next_if(|beside| point.at.since(beside.at).0 > near).is_some() {}
            if let Some(beside) = rest.next_if(|beside| beside.at.since(point.at).0 <= near) {
                readings.push(self.reading(taken(point), taken(&SignalPoint { at: point.at, ..beside.clone() })));
                // The earlier of both: whichever clock its source goes by, the next pair is newer.
                self.last = [Some(point.at.min(beside.at)); 2];
            }
        }
        if readings.is_empty() {
            let note = match (canary.is_empty(), stable.is_empty()) {
                (true, true) => "no point of either version",
                (true, false) => "no point of the canary",
                (false, true) => "no point of stable",
                (false, false) => "no two points of the same time",
            };
            let missing = ArmReading { point: PointReading::Missing, note: Some(note.to_owned()) };
            readings.push(self.reading(missing.clone(), missing));
        }
        readings
    }

    /// Points of each version by themselves, as many readings as the longer answer has.
    fn apart(&mut self, canary: &Answer, stable: Option<Answer>) -> Vec<PointsReading> {
        let count = |answer: &Answer| answer.as_ref().map_or(0, Vec::len);
        let stable = stable.unwrap_or_else(|| Ok(Vec::new()));
        let arms = [canary, &stable];
        for (last, answer) in self.last.iter_mut().zip(arms) {
            let newest = answer.as_ref().ok().and_then(|points| points.last()).map(|point| point.at);
            *last = newest.or(*last);
        }
        // A question about the canary that failed, failed once.
        let count = if canary.is_err() { 1 } else { count(canary).max(count(&stable)).max(1) };
        (0..count).rev().map(|back| self.reading(nth(canary, back), nth(&stable, back))).collect()
    }
}

fn taken(point: &SignalPoint) -> ArmReading {
    ArmReading { point: PointReading::of(point.at, point.value), note: point.note.clone() }
}

const fn missing() -> ArmReading {
    ArmReading { point: PointReading::Missing, note: None }
}

/// An answer without its points.
fn whole(answer: &Answer) -> ArmReading {
    match answer {
        Ok(_) => missing(),
        Err(why) => ArmReading { point: PointReading::Failed, note: Some(why.clone()) },
    }
}

/// The point so many before the last; an answer that has fewer begins with its first one several times, which says nothing
/// new.
fn nth(answer: &Answer, back: usize) -> ArmReading {
    match answer {
        Ok(points) => points.iter().rev().nth(back).or_else(|| points.first()).map_or_else(missing, taken),
        Err(_) => whole(answer),
    }
}
