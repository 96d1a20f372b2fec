//! Several sources of reports as one: native proxies and Envoys.

use crate::base::fault::Fault;
use crate::base::ids::RouteRef;
use crate::base::tally::Report;
use crate::ports::Telemetry;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Sources that are asked side by side.
pub struct Together {
    sources: Vec<Arc<dyn Telemetry>>,
}

impl Together {
    /// Of these; each proxy reports to one of them alone.
    #[must_use]
    pub fn new(sources: Vec<Arc<dyn Telemetry>>) -> Self {
        Self { sources }
    }
}

#[async_trait]
impl Telemetry for Together {
    async fn reports(&self) -> Result<Vec<Report>, Fault> {
        joined(futures_util::future::join_all(self.sources.iter().map(|source| source.reports())).await)
    }

    async fn acknowledged(&self, judged: &BTreeSet<RouteRef>) -> Result<Vec<Report>, Fault> {
        joined(futures_util::future::join_all(self.sources.iter().map(|source| source.acknowledged(judged))).await)
    }
}

/// What those have that answer. One that does not is as proxies are that do not: only where nobody has anything, its fault
/// says why.
fn joined(answers: Vec<Result<Vec<Report>, Fault>>) -> Result<Vec<Report>, Fault> {
    let (mut all, mut first) = (Vec::new(), None);
    for answer in answers {
        match answer {
            Ok(reports) => all.extend(reports),
            Err(fault) => first = first.or(Some(fault)),
        }
    }
    match first.filter(|_| all.is_empty()) {
        Some(fault) => Err(fault),
        None => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Source(Result<Vec<&'static str>, ()>);

    #[async_trait]
    impl Telemetry for Source {
        async fn reports(&self) -> Result<Vec<Report>, Fault> {
            let named = |name: &&str| Report { proxy: (*name).to_owned(), ..Report::default() };
            let fault = || Fault::transient("live telemetry", "gone");
            self.0.as_ref().map(|names| names.iter().map(named).collect()).map_err(|()| fault())
        }
    }

    async fn asked(sources: Vec<Result<Vec<&'static str>, ()>>) -> Result<Vec<String>, Fault> {
        let sources = sources.into_iter().map(|source| Arc::new(Source(source)) as Arc<dyn Telemetry>);
        let reports = Together::new(sources.collect()).reports().await?;
        Ok(reports.into_iter().map(|report| report.proxy).collect())
    }

    #[tokio::test]
    async fn one_that_does_not_answer_hides_nobody() {
        assert_eq!(asked(vec![Ok(vec!["a"]), Ok(vec!["b", "c"])]).await.unwrap(), ["a", "b", "c"]);
        assert_eq!(asked(vec![Err(()), Ok(vec!["b"])]).await.unwrap(), ["b"]);
        assert!(asked(vec![Err(()), Ok(vec![])]).await.unwrap_err().to_string().contains("gone"));
        assert!(asked(vec![Ok(vec![]), Ok(vec![])]).await.unwrap().is_empty());
    }
}
