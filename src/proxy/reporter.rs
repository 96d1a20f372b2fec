//! What a proxy counted and which configuration it has, for whoever judges by it.

use super::shared::Shared;
use super::{counters, fused};
use crate::base::tally::Report;
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
        self.read(false)
    }

    /// The same for whoever judges by it: fuses take it for the sign that somebody does.
    #[must_use]
    pub fn acknowledge(&self) -> Report {
        self.read(true)
    }

    fn read(&self, acknowledges: bool) -> Report {
        let series = counters::series(self.0.workers.iter().map(|worker| &worker.table));
        let unjudged = counters::series(self.0.workers.iter().map(|worker| &worker.unjudged));
        let raw = counters::series(self.0.workers.iter().map(|worker| &worker.raw));
        let mut report = Report { proxy: self.0.name.clone(), series, unjudged, raw, ..Report::default() };
        // Read by all workers from the next request on, unless one is still at an older snapshot.
        let current = self.0.current();
        report.fuses = fused::reports(&current, acknowledges.then(|| self.0.started.elapsed()));
        if self.0.applied_generation() >= current.generation {
            report.applied = current.routes.iter().map(|route| (route.route.id.clone(), route.route.version)).collect();
        }
        report
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
