//! What a proxy counted and which configuration it has, for whoever judges by it.

use super::shared::Shared;
use super::{counters, fused};
use crate::base::ids::RouteRef;
use crate::base::tally::{Acknowledges, Report};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reads a proxy's counts; cheap to clone, and outlives the handle.
#[derive(Clone)]
pub struct Reporter(Arc<Shared>);

impl Reporter {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Everything counted up to now, by all workers together.
    #[must_use]
    pub fn report(&self) -> Report {
        self.read(Acknowledges::Nothing)
    }

    /// The same for whoever judges all of it: fuses take it for the sign that somebody does.
    #[must_use]
    pub fn acknowledge(&self) -> Report {
        self.read(Acknowledges::Everything)
    }

    /// The same, as a sign to these fuses.
    #[must_use]
    pub fn read(&self, acknowledges: Acknowledges<'_>) -> Report {
        let series = counters::series(self.0.workers.iter().map(|worker| &worker.table));
        let unjudged = counters::series(self.0.workers.iter().map(|worker| &worker.unjudged));
        let raw = counters::series(self.0.workers.iter().map(|worker| &worker.raw));
        let mut report = Report { proxy: self.0.name.clone(), series, unjudged, raw, ..Report::default() };
        // Read by all workers from the next request on, unless one is still at an older snapshot.
        let current = self.0.current();
        report.fuses = fused::reports(&current, acknowledges, self.0.started.elapsed());
        if self.0.applied_generation() >= current.generation {
            report.applied = current.routes.iter().map(|route| (route.route.id.clone(), route.route.version)).collect();
        }
        report
    }

    /// As a query of the admin pages asks for it: `acknowledge=MESH/ROUTER/ROUTE` for each route that is judged, or `acknowledge`
    /// for all.
    pub(super) fn asked(&self, query: &[(String, String)]) -> Report {
        let values = || query.iter().filter(|(key, _)| key == "acknowledge").map(|(_, value)| value.as_str());
        if values().any(str::is_empty) {
            return self.acknowledge();
        }
        let routes: BTreeSet<RouteRef> = values().filter_map(route).collect();
        self.read(Acknowledges::Routes(&routes))
    }

    /// Opens the access log's file anew, by its name.
    pub fn reopen_logs(&self) {
        self.0.logs.reopen();
    }

    /// The configuration version that every worker routes by now.
    #[must_use]
    pub fn applied_version(&self) -> u64 {
        self.0.applied_version()
    }
}

/// A route by its name.
fn route(name: &str) -> Option<RouteRef> {
    let mut parts = name.split('/').map(str::to_owned);
    let (mesh, router, route) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(RouteRef { mesh, router, route })
}
