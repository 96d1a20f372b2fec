//! Signals from outside the mesh, through the real adapters: CloudWatch and X-Ray against our double of them, Prometheus and
//! HTTP services against a server of the test that answers what a row says, health checks against real listeners.
//!
//! The double checks every request and every answer against the service models of botocore; `tests/peers/README.md` says
//! where it differs from AWS. Time is an argument everywhere.

mod cloudwatch;
mod health;
mod history;
mod http;
mod moto;
mod outside;
mod prometheus;
mod real_prometheus;
pub(crate) mod server;
mod webhook;
mod xray;

use tidegate::base::fault::{Fault, FaultKind};
use tidegate::base::time::Timestamp;
use tidegate::ports::SignalPoint;
use tidegate::signals::Answer;

/// When the release got its first traffic: a full hour, in seconds since 1970.
const BEGAN_S: i64 = 1_800_000_000;

/// So many seconds after that.
const fn at(seconds: i64) -> Timestamp {
    Timestamp((BEGAN_S + seconds) * 1000)
}

/// Points as seconds after the beginning.
fn seen(answer: &Answer) -> Vec<(i64, f64)> {
    let relative = |point: &SignalPoint| (point.at.0 / 1000 - BEGAN_S, point.value);
    answer.as_ref().unwrap_or_else(|fault| panic!("{fault}")).iter().map(relative).collect()
}

/// Shows what a person reads (with `--no-capture`), and compares.
#[expect(clippy::print_stdout, reason = "what a user reads: shown with --no-capture")]
fn expect_fault(what: &str, answer: Answer, kind: FaultKind, text: &str) -> Fault {
    let fault = answer.map_or_else(|fault| fault, |points| panic!("{what}: {points:?}"));
    println!("{what}\n    {fault}");
    assert_eq!(fault.kind, kind, "{what}: {fault}");
    assert!(fault.message.contains(text), "{what}: {fault}");
    fault
}
