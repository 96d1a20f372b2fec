//! Queries of Prometheus and of what speaks its API: of now (`POST /api/v1/query`), or of a range with a point at each step
//! since the last one (`POST /api/v1/query_range`), so that what a daemon slept through is not lost.

use super::fetch::{self, Fetched};
use super::{Answer, Asked, at_a_time};
use crate::aws::bounded;
use crate::base::fault::Fault;
use crate::base::secret::Redacted;
use crate::base::time::{Millis, Timestamp};
use crate::ports::SignalPoint;
use reqwest::Url;
use serde_json::Value;

/// Queries at the same time: a Prometheus evaluates 20 by default, and others ask it too.
const AT_A_TIME: usize = 4;
/// So many labels of series are named where there should be one.
const SERIES_SHOWN: usize = 2;
/// So many steps are asked for, the newest: as many points as a rollout takes in at once. Prometheus gives 11,000.
const MOST_STEPS: i64 = 120;
/// Name under which faults are reported.
const SOURCE: &str = "prometheus";
/// What to do about an answer that is no number.
const HISTOGRAM: &str = "it yields a histogram: take `histogram_quantile` or `histogram_fraction` of it";
/// Where the address of the configured one stands.
const URL_KEY: &str = "prometheus.url of the configuration";

/// Where Prometheus is.
#[derive(Debug, Clone, Default)]
pub struct PrometheusSettings {
    /// Base URL, with the path prefix where it has one; without it every query must name its own.
    pub url: Option<String>,
    /// Sent to that URL's origin as a bearer token, and to no other.
    pub token: Option<Redacted<String>>,
    /// Sent there as a user's name and password instead.
    pub login: Option<(String, Redacted<String>)>,
}

/// What a policy asks.
#[derive(Debug, Clone, Copy)]
pub struct PromQuery<'a> {
    /// In PromQL.
    pub query: &'a str,
    /// Which Prometheus; the configured one without it.
    pub url: Option<&'a str>,
    /// Time between two points of a range; the point of now without it.
    pub step: Option<Millis>,
}

/// Prometheus.
#[derive(Debug, Clone)]
pub struct Prometheus {
    client: reqwest::Client,
    url: Option<Url>,
    token: Option<Redacted<String>>,
    login: Option<(String, Redacted<String>)>,
}

impl Prometheus {
    /// With the address and token of the configuration.
    ///
    /// # Errors
    /// A permanent fault: the address is no URL of HTTP, or no HTTP client can be made on this system.
    pub fn new(settings: &PrometheusSettings) -> Result<Self, Fault> {
        let url = settings.url.as_deref().map(|url| fetch::url(SOURCE, url, URL_KEY)).transpose()?;
        let (token, login) = (settings.token.clone(), settings.login.clone());
        Ok(Self { client: fetch::client(SOURCE)?, url, token, login })
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
        let range = match asked.query.step.map(|step| range(asked.after, asked.now, step)) {
            // No step has passed since the last point.
            Some(None) => return Ok(Vec::new()),
            range => range.flatten(),
        };
        let is_ours = self.url.as_ref().is_some_and(|ours| ours.origin() == url.origin());
        let operation = if range.is_some() { "query_range" } else { "query" };
        let path = format!("{}/api/v1/{operation}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let place = format!("query `{}` at {}", bounded(asked.query.query), url.origin().ascii_serialization());
        // The server gives up when nobody waits any more.
        let timeout = format!("{}s", fetch::TIMEOUT.as_secs());
        let mut form = vec![("query", asked.query.query.to_owned()), ("timeout", timeout)];
        if let Some([start, end, step]) = range {
            form.extend([("start", start.to_string()), ("end", end.to_string()), ("step", step.to_string())]);
        }
        let mut request = self.client.post(url).form(&form);
        match (is_ours, &self.token, &self.login) {
            (true, Some(token), _) => request = request.bearer_auth(token.reveal()),
            (true, None, Some((user, password))) => request = request.basic_auth(user, Some(password.reveal())),
            _ => {}
        }
        let fetched = fetch::fetch(SOURCE, request, &place).await?;
        let points = read(&fetched, &place, range.is_some())?;
        Ok(points.into_iter().filter(|point| point.at > asked.after).collect())
    }
}

/// First and last moment and step of a range in seconds: the multiples of the step after a point, the newest of them;
/// `None` where there is none. Multiples, so that both versions have their points at the same times.
fn range(after: Timestamp, now: Timestamp, step: Millis) -> Option<[i64; 3]> {
    let step = i64::try_from(step.0 / 1000).unwrap_or(i64::MAX).max(1);
    let last = now.0.div_euclid(1000).div_euclid(step);
    let first = after.0.div_euclid(1000).div_euclid(step).saturating_add(1).max(last.saturating_sub(MOST_STEPS - 1));
    (first <= last).then_some([first.saturating_mul(step), last.saturating_mul(step), step])
}

/// The numbers of an answer; none where there are none.
fn read(fetched: &Fetched, place: &str, is_range: bool) -> Result<Vec<SignalPoint>, Fault> {
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
    if is_range { series(&answer["data"], place) } else { Ok(number(&answer["data"], place)?.into_iter().collect()) }
}

/// The points of a range: one series, or none.
fn series(data: &Value, place: &str) -> Result<Vec<SignalPoint>, Fault> {
    let found = data["result"].as_array().map(Vec::as_slice);
    match (data["resultType"].as_str(), found) {
        (Some("matrix"), Some([])) => Ok(Vec::new()),
        (Some("matrix"), Some([one])) => match one["values"].as_array() {
            Some(values) => values.iter().filter_map(|value| sample(value, place).transpose()).collect(),
            None => Err(Fault::permanent(SOURCE, format!("{place}: {HISTOGRAM}"))),
        },
        (Some("matrix"), Some(several)) => Err(Fault::permanent(SOURCE, format!("{place}: {}", of_several(several)))),
        _ => {
            let text = format!("{place}: that is no answer of Prometheus: {}", bounded(&data.to_string()));
            Err(Fault::permanent(SOURCE, text))
        }
    }
}

/// What to do about more series than one.
fn of_several(several: &[Value]) -> String {
    let shown = several.iter().take(SERIES_SHOWN).map(|element| bounded(&element["metric"].to_string()));
    let shown = shown.collect::<Vec<_>>().join(" and ");
    let todo = "make one of them, with `sum`, `avg` or `max` around it, or more labels";
    format!("it yields {} series, such as {shown}: {todo}", several.len())
}

fn number(data: &Value, place: &str) -> Result<Option<SignalPoint>, Fault> {
    let permanent = |why: String| Err(Fault::permanent(SOURCE, format!("{place}: {why}")));
    let result = &data["result"];
    match (data["resultType"].as_str(), result.as_array().map(Vec::as_slice)) {
        (Some("scalar"), Some(_)) => sample(result, place),
        (Some("vector"), Some([])) => Ok(None),
        (Some("vector"), Some([element])) => match &element["value"] {
            Value::Null => permanent(HISTOGRAM.into()),
            value => sample(value, place),
        },
        (Some("vector"), Some(several)) => permanent(of_several(several)),
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
            Ok(Some(SignalPoint::of(Timestamp((seconds * 1000.0).round() as i64), value)))
        }
        (Some(_), Some(_)) => Ok(None),
        _ => {
            let text = format!("{place}: that is no sample of Prometheus: {}", bounded(&value.to_string()));
            Err(Fault::permanent(SOURCE, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_multiples_of_its_step_since_the_last_point() {
        let rows = [
            (0, 61, 15, Some([15, 60, 15])),
            (15, 61, 15, Some([30, 60, 15])),
            (60, 61, 15, None),
            (59, 60, 15, Some([60, 60, 15])),
            (0, 60, 0, Some([1, 60, 1])),
            // Two hours of minutes, the newest.
            (0, 86_400, 60, Some([79_260, 86_400, 60])),
            (90, 60, 15, None),
        ];
        for (after, now, step, expected) in rows {
            let found = range(Timestamp(after * 1000), Timestamp(now * 1000 + 999), Millis::from_seconds(step));
            assert_eq!(found, expected, "{after} {now} {step}");
        }
    }
}
