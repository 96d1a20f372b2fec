//! What CloudWatch has of a past span of days, for replays: asked once, with patience and in parts.

use super::fault::SOURCE;
use super::plan::{self, Batch, Entry, Span};
use super::{AT_A_TIME, CloudWatch, place};
use crate::base::fault::{Fault, FaultKind};
use crate::base::time::Timestamp;
use crate::policy::plan::CloudwatchQuery;
use crate::signals::{Answer, at_a_time};
use std::time::Duration;

/// Points of one call: as many as CloudWatch answers on one page.
const PART_POINTS: u64 = 100_000;
/// Pages of a call all the same: whoever stands before CloudWatch may cut them shorter.
const MOST_PAGES: usize = 200;
/// Waits before a call that was limited, or not answered in full, is made again. Half a minute in all: somebody waits for it.
const WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(3), Duration::from_secs(8), Duration::from_secs(16)];

impl CloudWatch {
    /// Points of each metric or expression from one instant to another, in its order; an alarm has none. What CloudWatch keeps
    /// no more is missing.
    pub async fn history(&self, queries: &[CloudwatchQuery], from: Timestamp, until: Timestamp) -> Vec<Answer> {
        let entries = queries.iter().enumerate().filter_map(|(index, query)| {
            let period = plan::period(query)?;
            let span =
                Span { from: Timestamp(plan::floor(from.0, period)), to: Timestamp(plan::floor(until.0, period)) };
            Entry::of(query, index, span, false)
        });
        let parts = plan::batches(entries).into_iter().flat_map(|batch| batch.parts(PART_POINTS));
        let calls = parts.map(|part| self.part(part)).collect();
        let mut answers: Vec<Answer> = queries.iter().map(|_| Ok(Vec::new())).collect();
        for (index, answer) in at_a_time(AT_A_TIME, calls).await.into_iter().flatten() {
            match (&mut answers[index], answer) {
                (Ok(all), Ok(points)) => all.extend(points),
                (all @ Ok(_), Err(fault)) => *all = Err(fault),
                // The first reason is as good as any.
                (Err(_), _) => {}
            }
        }
        answers
    }

    /// One part, with the index of each query. What may pass is asked for again.
    async fn part(&self, part: Batch<'_>) -> Vec<(usize, Answer)> {
        for wait in WAITS {
            let answers = self.part_once(&part).await;
            let passes = |answer: &Answer| answer.as_ref().is_err_and(|fault| fault.kind == FaultKind::Transient);
            if !answers.iter().any(|(_, answer)| passes(answer)) {
                return answers;
            }
            tracing::debug!(?wait, "asked again for a part of the history");
            tokio::time::sleep(wait).await;
        }
        self.part_once(&part).await
    }

    async fn part_once(&self, part: &Batch<'_>) -> Vec<(usize, Answer)> {
        let all = |fault: Fault| part.entries.iter().map(|entry| (entry.index, Err(fault.clone()))).collect();
        match self.calls.pages_of_metric_data(part, MOST_PAGES).await {
            Ok(gathered) => {
                let of = |(number, entry): (usize, &Entry<'_>)| {
                    (entry.index, gathered.answer(&part.id(number), &place(entry.query)))
                };
                part.entries.iter().enumerate().map(of).collect()
            }
            Err(refusal) if refusal.of_a_question && part.entries.len() > 1 => {
                let text = format!("one of the questions of this call is refused: {}", refusal.fault.message);
                all(Fault::permanent(SOURCE, text))
            }
            Err(refusal) => all(refusal.fault),
        }
    }
}
