//! A rollout's report: its journal replayed into the page for people, as a file.

use crate::base::fault::Fault;
use crate::dashboard::{Track, report_page};
use crate::ports::Journal;
use crate::rollout::view::RolloutView;
use crate::runner::history::{Replayed, replay};

/// Inputs that are replayed for a report: a day of readings, and a quarter of a minute of work.
const INPUTS_MAX: u64 = 100_000;
/// Points of its charts: a chart is some hundred pixels wide.
const POINTS: u64 = 512;
/// Rollouts looked through for a policy's newest.
const ROLLOUTS_MAX: u32 = 100_000;

/// The report of a rollout, by its identifier or by its policy's name, whose newest is meant; `None` where there is none.
///
/// # Errors
/// The store's fault, and a journal that is too long or was written by another engine.
pub async fn report(journal: &dyn Journal, id: &str) -> Result<Option<String>, Fault> {
    let Some(id) = named(journal, id).await? else { return Ok(None) };
    let begin = (Track::default(), None);
    let taken: fn(&mut (Track, Option<RolloutView>), &RolloutView, Option<String>) = |taken, view, asked| {
        taken.0.take(view, asked.as_deref());
        taken.1 = Some(view.clone());
    };
    match replay(journal, &id, (INPUTS_MAX, POINTS), begin, taken).await? {
        Some(Replayed::Whole((track, Some(view)))) => {
            let page = report_page(&view, &track);
            page.map(Some).map_err(|error| Fault::permanent("report", format!("the page could not be made: {error}")))
        }
        Some(Replayed::Whole((_, None))) | None => Ok(None),
        Some(Replayed::Not) => Err(Fault::permanent(
            "report",
            format!("the journal of rollout {id} has more than {INPUTS_MAX} inputs, or another engine wrote it"),
        )),
    }
}

async fn named(journal: &dyn Journal, id: &str) -> Result<Option<String>, Fault> {
    if journal.get(&crate::base::ids::RolloutId(id.to_owned())).await?.is_some() {
        return Ok(Some(id.to_owned()));
    }
    let all = journal.list(ROLLOUTS_MAX).await?;
    let of_policy = all.into_iter().filter(|stored| stored.plan.name == id);
    Ok(of_policy.max_by_key(|stored| stored.state.started_at).map(|stored| stored.state.id.0))
}
