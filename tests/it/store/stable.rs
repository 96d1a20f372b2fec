//! What a store tells of the release that stable runs.

use super::{Rollout, id};
use crate::kit::{on_route, plan};
use tidegate::ports::Journal;
use tidegate::rollout::event::{Command, Event, Outcome};
use tidegate::rollout::state::{Ending, EndingKind, Phase};

/// Seen at 0 % again and again, and once with everything: that one made its release stable.
pub(super) async fn the_last_rollout_that_ended_well_is_found_behind_those_that_did_not(journal: &dyn Journal) {
    let plan = plan(&[10, 100]);
    assert_eq!(journal.last_succeeded(&plan.route).await.expect("readable"), None);
    let mut well = Rollout::begin(journal, &plan, "r-well", 0).await.expect("written");
    well.settle(1).await.expect("written");
    let full = Command::Promote { full: true, reason: "because".into() };
    well.order(2, full).await.expect("written");
    let mut finished =
        well.commit(3, Event::Settled { effect: well.last_effect(), outcome: Outcome::Applied { version: 9 } });
    finished.state.phase = Phase::Succeeded;
    let (kind, reason) = (EndingKind::Succeeded, "every step passed".to_owned());
    finished.state.ending = Some(Ending { kind, reason, decided_at: finished.state.at, at_step: None });
    journal.commit(&finished).await.expect("written");
    // More than are read at once.
    for n in 1..25 {
        let mut badly = Rollout::begin(journal, &plan, &format!("r-{n}"), n * 20).await.expect("written");
        badly.finish(n * 20 + 1).await;
    }
    let found = journal.last_succeeded(&plan.route).await.expect("readable").expect("one ended well");
    assert_eq!((found.state.id, found.state.revision), (id("r-well"), Some("abc".to_owned())));
    let other = on_route(plan, "pay");
    assert_eq!(journal.last_succeeded(&other.route).await.expect("readable"), None);
}
