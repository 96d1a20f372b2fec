//! Live counts of the proxies that run in this process, read at the moment they are asked for.
//!
//! It holds a function rather than a proxy, so that this module does not depend on the data plane.

use crate::base::fault::Fault;
use crate::base::ids::RouteRef;
use crate::base::tally::{Acknowledges, Report};
use crate::ports::Telemetry;
use async_trait::async_trait;
use std::collections::BTreeSet;

/// Telemetry of in-process proxies.
pub struct LocalTelemetry {
    proxies: Vec<Read>,
}

/// Reads a proxy's counts, and acknowledges that they are judged by.
type Read = Box<dyn Fn(Acknowledges<'_>) -> Report + Send + Sync>;

impl LocalTelemetry {
    /// Of one proxy: `report` reads its counts, as `Reporter::read` of the proxy does.
    #[must_use]
    pub fn new(report: impl Fn(Acknowledges<'_>) -> Report + Send + Sync + 'static) -> Self {
        Self { proxies: vec![Box::new(report)] }
    }

    /// Adds another proxy of this process.
    #[must_use]
    pub fn and(mut self, report: impl Fn(Acknowledges<'_>) -> Report + Send + Sync + 'static) -> Self {
        self.proxies.push(Box::new(report));
        self
    }
}

#[async_trait]
impl Telemetry for LocalTelemetry {
    async fn reports(&self) -> Result<Vec<Report>, Fault> {
        Ok(self.proxies.iter().map(|report| report(Acknowledges::Nothing)).collect())
    }

    async fn acknowledged(&self, judged: &BTreeSet<RouteRef>) -> Result<Vec<Report>, Fault> {
        Ok(self.proxies.iter().map(|report| report(Acknowledges::Routes(judged))).collect())
    }
}
