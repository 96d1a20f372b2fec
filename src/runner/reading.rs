//! One round of readings of a rollout: its route from the mesh, its counts from the data plane, both bounded in time.

use crate::base::fault::Fault;
use crate::base::ids::RouteRef;
use crate::ports::{LiveCounts, Traffic};
use crate::rollout::effect::PreviewRoute;
use crate::rollout::event::{LiveReading, Observation, RouteReading, TimingAsk};
use std::sync::Arc;
use std::time::Duration;

/// A reading that takes longer than this says nothing about now. Below the live telemetry's `hold_after`.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What readings are taken from.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) traffic: Arc<dyn Traffic>,
    pub(super) live: Arc<dyn LiveCounts>,
}

impl Reader {
    /// `preview` is the route of a preview to look for beside.
    pub(super) async fn read(
        &self,
        route: &RouteRef,
        (canary, stable): (&str, &str),
        ask: &TimingAsk,
        preview: Option<&PreviewRoute>,
    ) -> Observation {
        let looked = async {
            match preview {
                Some(preview) => Some(self.look(preview, stable).await),
                None => None,
            }
        };
        // At once, so that all of it is of one moment: how long a weight may take to settle counts from a reading's beginning.
        let (route_reading, live, looked) =
            tokio::join!(self.route(route), self.live(route, canary, stable, ask), looked);
        let preview = looked.map(|looked| looked.map(|looked| looked.map(|looked| looked.beside(&live))));
        Observation { route: Some(route_reading), live: Some(live), preview, ..Observation::default() }
    }

    async fn route(&self, route: &RouteRef) -> Result<RouteReading, Fault> {
        match tokio::time::timeout(TIMEOUT, self.traffic.read(route)).await {
            Ok(answer) => answer.map(|(reading, _)| reading),
            Err(_) => Err(Fault::transient("app mesh", "no answer in time")),
        }
    }

    async fn live(&self, route: &RouteRef, canary: &str, stable: &str, ask: &TimingAsk) -> Result<LiveReading, Fault> {
        match tokio::time::timeout(TIMEOUT, self.live.read(route, canary, stable, ask)).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::transient("live telemetry", "no answer in time")),
        }
    }
}
