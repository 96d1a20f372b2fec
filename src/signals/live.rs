//! Live counts of the proxies that run in this process, read at the moment they are asked for.
//!
//! It holds a function rather than a proxy, so that this module does not depend on the data plane.

use crate::base::fault::Fault;
use crate::base::tally::Report;
use crate::ports::Telemetry;
use async_trait::async_trait;

/// Telemetry of in-process proxies.
pub struct LocalTelemetry {
    proxies: Vec<Read>,
}

/// Reads a proxy's counts; with `true` it acknowledges that they are judged by.
type Read = Box<dyn Fn(bool) -> Report + Send + Sync>;

impl LocalTelemetry {
    /// Of one proxy: `report` reads its counts, as `Reporter::report` of the proxy does, and as `Reporter::acknowledge` does
    /// where it is given `true`.
    #[must_use]
    pub fn new(report: impl Fn(bool) -> Report + Send + Sync + 'static) -> Self {
        Self { proxies: vec![Box::new(report)] }
    }

    /// Adds another proxy of this process.
    #[must_use]
    pub fn and(mut self, report: impl Fn(bool) -> Report + Send + Sync + 'static) -> Self {
        self.proxies.push(Box::new(report));
        self
    }
}

#[async_trait]
impl Telemetry for LocalTelemetry {
    async fn reports(&self) -> Result<Vec<Report>, Fault> {
        Ok(self.proxies.iter().map(|report| report(false)).collect())
    }

    async fn acknowledged(&self) -> Result<Vec<Report>, Fault> {
        Ok(self.proxies.iter().map(|report| report(true)).collect())
    }
}
