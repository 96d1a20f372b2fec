//! Gives each question of a round to its source, all sources at the same time, and puts the answers in order.

use super::cloudwatch::CloudWatch;
use super::http::{HttpNumber, HttpQuery};
use super::prometheus::{PromQuery, Prometheus};
use super::webhook::Webhook;
use super::xray::Xray;
use super::{Answer, Asked};
use crate::base::fault::Fault;
use crate::policy::plan::{CloudwatchQuery, SignalQuery, WebhookQuery, XrayQuery};
use crate::ports::{SignalPoint, SignalQuestion, Signals};
use async_trait::async_trait;

/// What is said where a daemon was started without a source.
const NO_AWS: &str =
    "this daemon asks nothing of AWS: `tidegate serve` does, in the region `aws.region` of its configuration";
const NO_PROMETHEUS: &str = "this daemon asks no Prometheus: set `prometheus.url` in its configuration file";
const NO_HTTP: &str = "this daemon asks no services by HTTP: `tidegate serve` does";

/// The sources that are configured. A question for another one is answered with a permanent fault that names the key.
#[derive(Debug, Default)]
pub struct Outside {
    /// Amazon CloudWatch.
    pub cloudwatch: Option<CloudWatch>,
    /// AWS X-Ray.
    pub xray: Option<Xray>,
    /// Prometheus.
    pub prometheus: Option<Prometheus>,
    /// HTTP services that policies name.
    pub http: Option<HttpNumber>,
    /// Services that policies name and that say yes or no.
    pub webhook: Option<Webhook>,
}

/// A round's questions by source, each with its position in the round.
#[derive(Default)]
struct Round<'a> {
    cloudwatch: Part<&'a CloudwatchQuery>,
    xray: Part<&'a XrayQuery>,
    prometheus: Part<PromQuery<'a>>,
    http: Part<HttpQuery<'a>>,
    webhook: Part<&'a WebhookQuery>,
}

/// Positions, and what is asked there.
struct Part<Q>(Vec<(usize, Q)>);

impl<Q> Default for Part<Q> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<Q> Part<Q> {
    /// Each question as its source takes it.
    fn asked<'q, T>(&'q self, round: &[SignalQuestion], query: impl Fn(&'q Q) -> &'q T) -> Vec<Asked<'q, T>> {
        let asked = |(index, asked): &'q (usize, Q)| {
            let SignalQuestion { after, since, now, .. } = round[*index];
            Asked { query: query(asked), after, since, now }
        };
        self.0.iter().map(asked).collect()
    }

    /// Puts a source's answers where they belong. A source that answers too few has broken its promise, and says nothing.
    fn settle(&self, answers: Vec<Answer>, all: &mut [Answer]) {
        for ((index, _), answer) in self.0.iter().zip(answers) {
            all[*index] = answer;
        }
    }
}

impl<'a> Round<'a> {
    fn of(questions: &'a [SignalQuestion]) -> Self {
        let mut round = Self::default();
        for (index, question) in questions.iter().enumerate() {
            match &question.query {
                SignalQuery::Cloudwatch(query) => round.cloudwatch.0.push((index, query)),
                SignalQuery::Xray(query) => round.xray.0.push((index, query)),
                SignalQuery::Prometheus { query, url, step } => {
                    round.prometheus.0.push((index, PromQuery { query, url: url.as_deref(), step: *step }));
                }
                SignalQuery::Webhook(query) => round.webhook.0.push((index, query)),
                SignalQuery::Http { url, value } => round.http.0.push((index, HttpQuery { url, value })),
            }
        }
        round
    }
}

#[async_trait]
impl Signals for Outside {
    async fn points(&self, questions: &[SignalQuestion]) -> Vec<Result<Vec<SignalPoint>, Fault>> {
        let round = Round::of(questions);
        let cloudwatch = async {
            let asked = round.cloudwatch.asked(questions, |query| *query);
            match &self.cloudwatch {
                Some(source) => source.points(&asked).await,
                None => absent(asked.len(), "cloudwatch", NO_AWS),
            }
        };
        let xray = async {
            let asked = round.xray.asked(questions, |query| *query);
            match &self.xray {
                Some(source) => source.points(&asked).await,
                None => absent(asked.len(), "xray", NO_AWS),
            }
        };
        let prometheus = async {
            let asked = round.prometheus.asked(questions, |query| query);
            match &self.prometheus {
                Some(source) => source.points(&asked).await,
                None => absent(asked.len(), "prometheus", NO_PROMETHEUS),
            }
        };
        let http = async {
            let asked = round.http.asked(questions, |query| query);
            match &self.http {
                Some(source) => source.points(&asked).await,
                None => absent(asked.len(), "http", NO_HTTP),
            }
        };
        let webhook = async {
            let asked = round.webhook.asked(questions, |query| *query);
            match &self.webhook {
                Some(source) => source.points(&asked).await,
                None => absent(asked.len(), "webhook", NO_HTTP),
            }
        };
        let (cloudwatch, xray, prometheus, http, webhook) = tokio::join!(cloudwatch, xray, prometheus, http, webhook);
        let unanswered = || Err(Fault::transient("signals", "the source did not answer this question"));
        let mut answers: Vec<Answer> = questions.iter().map(|_| unanswered()).collect();
        round.cloudwatch.settle(cloudwatch, &mut answers);
        round.xray.settle(xray, &mut answers);
        round.prometheus.settle(prometheus, &mut answers);
        round.http.settle(http, &mut answers);
        round.webhook.settle(webhook, &mut answers);
        answers
    }
}

/// The answers of a source that is not there.
fn absent(questions: usize, source: &str, why: &str) -> Vec<Answer> {
    (0..questions).map(|_| Err(Fault::permanent(source, why))).collect()
}
