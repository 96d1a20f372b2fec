//! What a route does beyond App Mesh, to a request that it was found for. Requests of routes without extensions never come
//! here.

use super::counters::Totals;
use super::route::{RequestView, header_fits};
use super::worker::{Local, Placement, Worker};
use crate::mesh::snapshot::Extensions;
use crate::mesh::snapshot::extension::Fault;
use http::StatusCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// What an answer in a service's place says, in Envoy's words.
pub(super) const ABORTED: &str = "fault filter abort";

/// What extensions have to do with one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Extra {
    /// Whether it is kept from the judge.
    pub(super) is_unjudged: bool,
    /// It is held back for so long.
    delay: Option<Duration>,
    /// Then it is answered with this status, and nobody asked.
    abort: Option<StatusCode>,
}

/// Where a request goes, and what happens to it there; `None` where every weight is 0.
pub(super) fn place(
    worker: &Worker,
    local: Rc<Local>,
    (route, extensions): (usize, &Extensions),
    request: &RequestView<'_>,
) -> Option<Placement> {
    let mut placement = Placement::drawn(local, route, worker.draw())?;
    let mut extra = Extra::default();
    if let Some(fault) = &extensions.fault {
        let node = &placement.route().targets[placement.target].node;
        extra.inject(fault, node, request, [worker.draw(), worker.draw()]);
    }
    placement.extra = Some(Box::new(extra));
    Some(placement)
}

impl Extra {
    /// Decides what a fault does to a request that goes to `node`.
    fn inject(&mut self, fault: &Fault, node: &str, request: &RequestView<'_>, [first, second]: [u64; 2]) {
        let is_meant = fault.target.as_ref().is_none_or(|target| target == node)
            && fault.header.as_ref().is_none_or(|header| header_fits(header, request));
        if !is_meant {
            return;
        }
        self.delay = fault.delay.filter(|delay| delay.share.takes(first)).map(|delay| delay.time.duration());
        let abort = fault.abort.filter(|abort| abort.share.takes(second));
        self.abort = abort.and_then(|abort| StatusCode::from_u16(abort.status).ok());
        // A fault of one version is that version's; one of all says nothing about any.
        self.is_unjudged |= fault.target.is_none() && (self.delay.is_some() || self.abort.is_some());
    }

    /// Lets the request meet its fault, if it has one.
    ///
    /// # Errors
    /// The status that it is answered with.
    pub(super) async fn meet(&self, worker: &Worker) -> Result<(), StatusCode> {
        if self.delay.is_none() && self.abort.is_none() {
            return Ok(());
        }
        Totals::count(&worker.view.totals.faults);
        if let Some(delay) = self.delay {
            sleep(delay).await;
        }
        self.abort.map_or(Ok(()), Err)
    }
}
