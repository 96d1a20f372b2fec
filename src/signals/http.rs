//! A number in the JSON that any HTTP service answers, found by a JSON pointer.

use super::fetch;
use super::{Answer, Asked, at_a_time};
use crate::aws::bounded;
use crate::base::fault::Fault;
use crate::ports::SignalPoint;
use serde_json::Value;

/// Requests at the same time.
const AT_A_TIME: usize = 4;
/// So many keys are named where the one that is asked for is missing.
const KEYS_SHOWN: usize = 8;
/// Name under which faults are reported.
const SOURCE: &str = "http";

/// What a policy asks.
#[derive(Debug, Clone, Copy)]
pub struct HttpQuery<'a> {
    /// Where.
    pub url: &'a str,
    /// JSON pointer to the number; empty for the whole answer.
    pub value: &'a str,
}

/// HTTP services.
#[derive(Debug, Clone)]
pub struct HttpNumber {
    client: reqwest::Client,
}

impl HttpNumber {
    /// With nothing configured: policies name what they ask.
    ///
    /// # Errors
    /// A permanent fault when no HTTP client can be made on this system.
    pub fn new() -> Result<Self, Fault> {
        Ok(Self { client: fetch::client(SOURCE)? })
    }

    /// Answers each question in its order.
    pub async fn points(&self, asked: &[Asked<'_, HttpQuery<'_>>]) -> Vec<Answer> {
        at_a_time(AT_A_TIME, asked.iter().map(|asked| self.point(*asked)).collect()).await
    }

    /// A number has no time of its own, so that of asking is its.
    async fn point(&self, asked: Asked<'_, HttpQuery<'_>>) -> Answer {
        let HttpQuery { url, value: pointer } = *asked.query;
        if asked.now <= asked.after {
            return Ok(Vec::new());
        }
        let url = fetch::url(SOURCE, url, "http.url of the policy")?;
        // Without the query of the address, which may hold a key.
        let place = format!("{}{}", url.origin().ascii_serialization(), url.path());
        let request = self.client.get(url).header("accept", "application/json");
        let fetched = fetch::fetch(SOURCE, request, &place).await?;
        if !fetched.status.is_success() {
            return Err(fetched.fault(SOURCE, &place, &fetched.beginning()));
        }
        let answer = fetched.json().map_err(|why| Fault::transient(SOURCE, format!("{place}: the answer is {why}")))?;
        let permanent = |why: String| Err(Fault::permanent(SOURCE, format!("{place}: {why}; correct `http.value`")));
        match answer.pointer(pointer) {
            // The service knows the number, and has none now.
            Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Number(number)) => match number.as_f64().filter(|value| value.is_finite()) {
                Some(value) => Ok(vec![SignalPoint::of(asked.now, value)]),
                None => permanent(format!("`{pointer}` is {number}, which is beyond all numbers")),
            },
            Some(other) => permanent(format!("`{pointer}` is no number: {}", bounded(&other.to_string()))),
            None => permanent(format!("there is no `{pointer}` in the answer{}", beside(&answer, pointer))),
        }
    }
}

/// What is there instead: the keys of the deepest part of a pointer that exists.
fn beside(answer: &Value, pointer: &str) -> String {
    let above = pointer.match_indices('/').map(|(at, _)| &pointer[..at]).rev();
    let found = above.map(|above| (above, answer.pointer(above))).find_map(|(above, value)| Some((above, value?)));
    match found {
        Some((above, Value::Object(members))) => {
            let keys: Vec<&str> = members.keys().take(KEYS_SHOWN).map(String::as_str).collect();
            bounded(&format!(" (`{above}` has: {})", keys.join(", ")))
        }
        Some((above, Value::Array(elements))) => format!(" (`{above}` has {} elements)", elements.len()),
        _ => String::new(),
    }
}
