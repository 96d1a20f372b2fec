//! Previews of rollouts: what is asked before one begins, and how its route stands in the mesh and in the proxies.

use super::errors::StartError;
use super::handle::Runner;
use super::reading::Reader;
use crate::base::fault::Fault;
use crate::policy::plan::Plan;
use crate::rollout::effect::PreviewRoute;
use crate::rollout::event::{LiveReading, PreviewReading, TimingAsk};
use crate::rollout::preview;
use crate::rollout::state::{Refusal, State};
use std::time::Duration;

/// A reading that takes longer than this says nothing about now.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The same before a start, where somebody waits for the answer: three calls of the mesh.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// What a plan with a preview is refused with.
pub(super) const NO_PREVIEWS: &str = "this daemon makes no routes: its mesh takes none";

impl Runner {
    /// Refuses a start whose preview could not be made.
    pub(super) async fn may_preview(&self, plan: &Plan, state: &State) -> Result<(), StartError> {
        let Some(route) = preview::route(plan, state) else { return Ok(()) };
        let refused = |message: String, hint: String| StartError::Refused(Refusal { message, hint });
        let Some(previews) = self.parts().traffic.previews() else {
            let hint = "run the service with a mesh that has an API, or take `preview` out".to_owned();
            return Err(refused(format!("policy `{}` has a preview: {NO_PREVIEWS}", plan.name), hint));
        };
        let asked = tokio::time::timeout(START_TIMEOUT, previews.obstacle(&route)).await;
        let asked = asked.unwrap_or_else(|_| Err(Fault::transient("app mesh", "no answer in time")));
        match asked.map_err(StartError::Route)? {
            None => Ok(()),
            Some(obstacle) => {
                let message = format!("no preview of policy `{}`: {}", plan.name, obstacle.message);
                Err(refused(message, obstacle.hint))
            }
        }
    }
}

/// The preview's route as the mesh has it, and what the proxies say of it.
pub(super) struct Looked {
    reading: PreviewReading,
    version: u64,
    counted: Option<LiveReading>,
}

impl Looked {
    /// With how many proxies do not have it yet. `live` is what they say of the plan's route.
    pub(super) fn beside(self, live: &Result<LiveReading, Fault>) -> PreviewReading {
        let behind = live.as_ref().ok().zip(self.counted.as_ref()).map(|(live, now)| behind(live, now, self.version));
        PreviewReading { behind, ..self.reading }
    }
}

impl Reader {
    /// Looks at the preview's route, of which there may be none.
    pub(super) async fn look(&self, preview: &PreviewRoute, stable: &str) -> Result<Option<Looked>, Fault> {
        let Some(previews) = self.traffic.previews() else { return Err(Fault::permanent("app mesh", NO_PREVIEWS)) };
        let late = |_| Err(Fault::transient("app mesh", "no answer in time"));
        let (route, ask) = (preview.route(), TimingAsk::default());
        let read = tokio::time::timeout(TIMEOUT, previews.read(preview));
        let counted = tokio::time::timeout(TIMEOUT, self.live.read(&route, &preview.canary, stable, &ask));
        let (read, counted) = tokio::join!(read, counted);
        let Some((reading, version)) = read.unwrap_or_else(late)? else { return Ok(None) };
        Ok(Some(Looked { reading, version, counted: counted.ok().and_then(Result::ok) }))
    }
}

/// How many proxies have the plan's route and not yet this version of the preview's.
fn behind(live: &LiveReading, counted: &LiveReading, version: u64) -> u32 {
    let has = |proxy: &str| {
        let known = counted.proxies.iter().find(|known| known.proxy == proxy);
        known.and_then(|known| known.applied).is_some_and(|applied| applied >= version)
    };
    let concerned = live.proxies.iter().filter(|proxy| proxy.applied.is_some());
    u32::try_from(concerned.filter(|proxy| !has(&proxy.proxy)).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::event::ProxyCounts;

    fn reading(proxies: &[(&str, Option<u64>)]) -> LiveReading {
        let proxy = |(name, applied): &(&str, Option<u64>)| ProxyCounts {
            proxy: (*name).to_owned(),
            applied: *applied,
            serving: false,
            versions: Vec::new(),
            fuse: None,
        };
        LiveReading { proxies: proxies.iter().map(proxy).collect(), ..LiveReading::default() }
    }

    #[test]
    fn every_proxy_with_the_plans_route_must_have_the_previews() {
        let live = reading(&[("a", Some(7)), ("b", Some(7)), ("elsewhere", None)]);
        for (counted, expected) in [
            (&[("a", Some(1)), ("b", Some(1))][..], 0),
            (&[("a", Some(2)), ("b", None)][..], 1),
            (&[("a", Some(1))][..], 1),
            (&[("a", Some(0)), ("b", None)][..], 2),
        ] {
            assert_eq!(behind(&live, &reading(counted), 1), expected, "{counted:?}");
        }
        assert_eq!(behind(&reading(&[]), &reading(&[]), 1), 0, "nobody reports");
    }
}
