//! The collector of OpenTelemetry (`tests/peers/otlp_receiver.py`) as a process, and what tests ask of it.

use super::aws_double::python_peer;
use serde_json::{Value, json};
use tokio::process::Child;

/// One process of it. Dropping it ends it: its standard input closes.
pub(crate) struct OtlpReceiver {
    _child: Child,
    http: reqwest::Client,
    pub(crate) url: String,
}

impl OtlpReceiver {
    /// Starts one, unless the peer is missing.
    pub(crate) async fn start() -> Option<Self> {
        let (child, url) = python_peer("otlp_receiver.py").await?;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Some(Self { _child: child, http, url })
    }

    /// What the next calls are answered instead.
    pub(crate) async fn answer(&self, rule: Value) {
        let answer = self.http.post(format!("{}/_answer", self.url)).body(rule.to_string()).send().await.unwrap();
        assert!(answer.status().is_success());
    }

    /// Calls so far, with headers and message.
    pub(crate) async fn calls(&self) -> Vec<Value> {
        let answer = self.http.get(format!("{}/_received", self.url)).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// Spans so far, each with its attributes as one object, and those of whose they are as `resource`.
    pub(crate) async fn spans(&self) -> Vec<Value> {
        let mut spans = Vec::new();
        for call in self.calls().await {
            for whose in call["message"]["resourceSpans"].as_array().unwrap() {
                let resource = object(&whose["resource"]["attributes"]);
                for scope in whose["scopeSpans"].as_array().unwrap() {
                    for span in scope["spans"].as_array().unwrap() {
                        let mut span = span.clone();
                        span["attributes"] = object(&span["attributes"]);
                        span["resource"] = resource.clone();
                        spans.push(span);
                    }
                }
            }
        }
        spans
    }
}

fn object(attributes: &Value) -> Value {
    let mut all = json!({});
    for attribute in attributes.as_array().unwrap() {
        let value = attribute["value"].as_object().unwrap().values().next().unwrap();
        let before = all.as_object_mut().unwrap().insert(attribute["key"].as_str().unwrap().to_owned(), value.clone());
        assert_eq!(before, None, "{attribute} is there twice");
    }
    all
}
