//! Instant queries of Prometheus and of what speaks its API (`POST /api/v1/query`).

use super::fetch::{self, Fetched};
use super::{Answer, Asked, at_a_time};
use crate::aws::bounded;
use crate::base::fault::Fault;
use crate::base::secret::Redacted;
use crate::base::time::Timestamp;
use crate::ports::SignalPoint;
use reqwest::Url;
use serde_json::Value;

/// Queries at the same time: a Prometheus evaluates 20 by default, and others ask it too.
const AT_A_TIME: usize = 4;
/// So many labels of series are named where there should be one.
const SERIES_SHOWN: usize = 2;
/// Name under which faults are reported.
const SOURCE: &str = "prometheus";
/// Where the address of the configured one stands.
const URL_KEY: &str = "prometheus.url of the configuration";

/// Where Prometheus is.
#[derive(Debug, Clone, Default)]
pub struct PrometheusSettings {
    /// Base URL, with the path prefix where it has one; without it every query must name its own.
    pub url: Option<String>,
    /// Sent to that URL's origin as a bearer token, and to no other.
    pub token: Option<Redacted<String>>,
}

/// What a policy asks.
#[derive(Debug, Clone, Copy)]
pub struct PromQuery<'a> {
    /// In PromQL.
    pub query: &'a str,
    /// Which Prometheus; the configured one without it.
    pub url: Option<&'a str>,
}

/// Prometheus.
#[derive(Debug, Clone)]
pub struct Prometheus {
    client: reqwest::Client,
    url: Option<Url>,
    token: Option<Redacted<String>>,
}

impl Prometheus {
    /// With the address and token of the configuration.
    ///
    /// # Errors
    /// A permanent fault: the address is no URL of HTTP, or no HTTP client can be made on this system.
    pub fn new(settings: &PrometheusSettings) -> Result<Self, Fault> {
        let url = settings.url.as_deref().map(|url| fetch::url(SOURCE, url, URL_KEY)).transpose()?;
        Ok(Self { client: fetch::client(SOURCE)?, url, token: settings.token.clone() })
    }

    /// Answers each question in its order.
    pub async fn points(&self, asked: &[Asked<'_, PromQuery<'_>>]) -> Vec<Answer> {
        at_a_time(AT_A_TIME, asked.iter().map(|asked| self.point(*asked)).collect()).await
    }

    async fn point(&self, asked: Asked<'_, PromQuery<'_>>) -> Answer {
        let mut url = match (asked.query.url, &self.url) {
            (Some(url), _) => fetch::url(SOURCE, url, "prometheus.url of the policy")?,
            (None, Some(url)) => url.clone(),
            (None, None) => {
                let text = "no Prometheus is configured: set `prometheus.url` in the daemon's configuration file, or name \
                            `prometheus.url` in the policy";
                return Err(Fault::permanent(SOURCE, text));
            }
        };
        let is_ours = self.url.as_ref().is_some_and(|ours| ours.origin() == url.origin());
        let path = format!("{}/api/v1/query", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let place = format!("query `{}` at {}", bounded(asked.query.query), url.origin().ascii_serialization());
        // The server gives up when nobody waits any more.
        let timeout = format!("{}s", fetch::TIMEOUT.as_secs());
        let mut request = self.client.post(url).form(&[("query", asked.query.query), ("timeout", timeout.as_str())]);
        if let (true, Some(token)) = (is_ours, &self.token) {
            request = request.bearer_auth(token.reveal());
        }
        let fetched = fetch::fetch(SOURCE, request, &place).await?;
        let point = read(&fetched, &place)?;
        Ok(point.into_iter().filter(|point| point.at > asked.after).collect())
    }
}

/// The number of an answer; `None` where there is none.
fn read(fetched: &Fetched, place: &str) -> Result<Option<SignalPoint>, Fault> {
    let answer = match (fetched.json(), fetched.status.is_success()) {
        (Ok(answer), _) => answer,
        (Err(_), false) => return Err(fetched.fault(SOURCE, place, &fetched.beginning())),
        (Err(why), true) => return Err(Fault::transient(SOURCE, format!("{place}: the answer is {why}"))),
    };
    let kind = answer["errorType"].as_str().unwrap_or_default();
    let said = answer["error"].as_str().map_or_else(|| fetched.beginning(), bounded);
    match answer["status"].as_str() {
        Some("success") if fetched.status.is_success() => {}
        // The query took too long, was cancelled, or Prometheus is starting or stopping.
        Some("error") if ["timeout", "canceled", "unavailable", "internal"].contains(&kind) => {
            return Err(Fault::transient(SOURCE, format!("{place}: {kind}: {said}")));
        }
        Some("error") if kind == "bad_data" => {
            let todo = "correct `prometheus.query` in the policy";
            return Err(Fault::permanent(SOURCE, format!("{place}: {todo}: {kind}: {said}")));
        }
        // For example `execution`: a many-to-many match, or more samples than it loads.
        Some("error") => return Err(fetched.fault(SOURCE, place, &format!("{kind}: {said}"))),
        _ if fetched.status.is_success() => {
            let text = format!("{place}: that is no answer of Prometheus: {}", fetched.beginning());
            return Err(Fault::permanent(SOURCE, text));
        }
        _ => return Err(fetched.fault(SOURCE, place, &said)),
    }
    if let Some(warning) = answer["warnings"].as_array().and_then(|warnings| warnings.first()) {
        let warning = bounded(warning.as_str().unwrap_or_default());
        let text = format!("{place}: Prometheus has doubts about the data: {warning}");
        return Err(Fault::transient(SOURCE, text));
    }
    number(&answer["data"], place)
}

fn number(data: &Value, place: &str) -> Result<Option<SignalPoint>, Fault> {
    let permanent = |why: String| Err(Fault::permanent(SOURCE, format!("{place}: {why}")));
    let result = &data["result"];
    match (data["resultType"].as_str(), result.as_array().map(Vec::as_slice)) {
        (Some("scalar"), Some(_)) => sample(result, place),
        (Some("vector"), Some([])) => Ok(None),
        (Some("vector"), Some([element])) => match &element["value"] {
            Value::Null => {
                permanent("it yields a histogram: take `histogram_quantile` or `histogram_fraction` of it".into())
            }
            value => sample(value, place),
        },
        (Some("vector"), Some(several)) => {
            let shown: Vec<String> =
                several.iter().take(SERIES_SHOWN).map(|element| bounded(&element["metric"].to_string())).collect();
            let todo = "make one of them, with `sum`, `avg` or `max` around it, or more labels";
            permanent(format!("it yields {} series, such as {}: {todo}", several.len(), shown.join(" and ")))
        }
        (Some("matrix"), _) => {
            permanent("it yields a range: take a function such as `rate` or `avg_over_time` of it".into())
        }
        (Some("string"), _) => permanent("it yields a text, and no number".into()),
        _ => permanent(format!("that is no answer of Prometheus: {}", bounded(&data.to_string()))),
    }
}

/// `[seconds since 1970, "number"]`. What is not a number, or endless, is no point: 0/0 is what a rate without requests is.
fn sample(value: &Value, place: &str) -> Result<Option<SignalPoint>, Fault> {
    let (seconds, text) = (value[0].as_f64(), value[1].as_str());
    let parsed = text.and_then(|text| text.replace("Inf", "inf").parse::<f64>().ok());
    match (seconds, parsed) {
        (Some(seconds), Some(value)) if value.is_finite() => {
            Ok(Some(SignalPoint { at: Timestamp((seconds * 1000.0).round() as i64), value }))
        }
        (Some(_), Some(_)) => Ok(None),
        _ => {
            let text = format!("{place}: that is no sample of Prometheus: {}", bounded(&value.to_string()));
            Err(Fault::permanent(SOURCE, text))
        }
    }
}
