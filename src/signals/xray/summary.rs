//! Summaries of traces to one number.
//!
//! A trace that is in progress has no outcome yet, so it counts nowhere. Those that hang are among them: when more than a
//! tenth of a span's traces is in progress, what the others say is not what the version did, and there is no number.

use crate::base::time::Timestamp;
use crate::policy::plan::XrayMeasure;
use aws_sdk_xray::types::TraceSummary;

/// Of so many traces one may be in progress. It bounds what a rate can be wrong by to a tenth, and passes the few that any
/// span of a busy service has at its end.
const ONE_UNFINISHED_IN: usize = 10;

/// Traces of a span that were read.
#[derive(Debug, Default)]
pub(super) struct Summaries {
    finished: usize,
    unfinished: usize,
    faults: usize,
    errors: usize,
    throttles: usize,
    /// In seconds, of those that have one.
    response_times: Vec<f64>,
}

/// What a span comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Value(f64),
    /// Not as many finished traces as a point needs, and not one.
    TooFew,
    Unfinished {
        unfinished: usize,
        all: usize,
    },
}

impl Summaries {
    /// Takes in a page; traces that began outside the span belong to another one.
    pub(super) fn add(&mut self, page: &[TraceSummary], from: Timestamp, to: Timestamp) {
        for summary in page {
            let began = summary.start_time().and_then(|at| at.to_millis().ok());
            if began.is_some_and(|at| at < from.0 || at >= to.0) {
                continue;
            }
            if summary.is_partial() == Some(true) {
                self.unfinished += 1;
                continue;
            }
            self.finished += 1;
            self.faults += usize::from(summary.has_fault() == Some(true));
            self.errors += usize::from(summary.has_error() == Some(true));
            self.throttles += usize::from(summary.has_throttle() == Some(true));
            self.response_times.extend(summary.response_time().filter(|seconds| seconds.is_finite()));
        }
    }

    /// The number that a policy asks for, of so many traces at least.
    pub(super) fn measure(mut self, measure: XrayMeasure, least: u32) -> Verdict {
        let all = self.finished + self.unfinished;
        if self.unfinished * ONE_UNFINISHED_IN > all {
            return Verdict::Unfinished { unfinished: self.unfinished, all };
        }
        if self.finished < least as usize {
            return Verdict::TooFew;
        }
        let share = |count: usize| (self.finished > 0).then(|| count as f64 / self.finished as f64);
        let value = match measure {
            XrayMeasure::FaultRate => share(self.faults),
            XrayMeasure::ErrorRate => share(self.errors),
            XrayMeasure::ThrottleRate => share(self.throttles),
            XrayMeasure::ResponseTime { quantile } => quantile_of(&mut self.response_times, quantile),
            // Neither is a number of one version's traces.
            XrayMeasure::NewExceptions | XrayMeasure::NewEdges => None,
        };
        value.map_or(Verdict::TooFew, Verdict::Value)
    }
}

/// The smallest value that at least the given part of all does not exceed; `None` of none.
fn quantile_of(values: &mut [f64], quantile: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (quantile * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1).min(values.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_xray::primitives::DateTime;

    fn trace(seconds: f64) -> TraceSummary {
        TraceSummary::builder().start_time(DateTime::from_secs(5)).response_time(seconds).build()
    }

    fn read(traces: &[TraceSummary]) -> Summaries {
        let mut summaries = Summaries::default();
        summaries.add(traces, Timestamp(0), Timestamp(10_000));
        summaries
    }

    fn partial() -> TraceSummary {
        TraceSummary::builder().is_partial(true).has_fault(true).build()
    }

    #[test]
    fn each_measure_counts_its_own() {
        let flagged = |fault, error, throttle| {
            TraceSummary::builder().has_fault(fault).has_error(error).has_throttle(throttle).response_time(1.0).build()
        };
        let traces = [flagged(true, false, false), flagged(false, true, true), flagged(false, true, false), trace(3.0)];
        for (measure, value) in [
            (XrayMeasure::FaultRate, 0.25),
            (XrayMeasure::ErrorRate, 0.5),
            (XrayMeasure::ThrottleRate, 0.25),
            (XrayMeasure::ResponseTime { quantile: 0.75 }, 1.0),
            (XrayMeasure::ResponseTime { quantile: 0.76 }, 3.0),
            (XrayMeasure::ResponseTime { quantile: 0.0 }, 1.0),
            (XrayMeasure::ResponseTime { quantile: 1.0 }, 3.0),
        ] {
            assert_eq!(read(&traces).measure(measure, 1), Verdict::Value(value), "{measure:?}");
        }
    }

    #[test]
    fn no_trace_is_no_rate_of_zero() {
        assert_eq!(read(&[]).measure(XrayMeasure::FaultRate, 1), Verdict::TooFew);
        assert_eq!(read(&[]).measure(XrayMeasure::ResponseTime { quantile: 0.5 }, 1), Verdict::TooFew);
        let without_time = TraceSummary::builder().has_fault(true).build();
        let measure = XrayMeasure::ResponseTime { quantile: 0.5 };
        assert_eq!(read(&[without_time]).measure(measure, 1), Verdict::TooFew);
    }

    #[test]
    fn traces_in_progress_count_nowhere_and_too_many_are_no_answer() {
        let mut traces = vec![trace(1.0); 9];
        traces.push(partial());
        assert_eq!(read(&traces).measure(XrayMeasure::FaultRate, 1), Verdict::Value(0.0));
        traces.push(partial());
        let expected = Verdict::Unfinished { unfinished: 2, all: 11 };
        assert_eq!(read(&traces).measure(XrayMeasure::FaultRate, 1), expected);
        assert_eq!(
            read(&[partial()]).measure(XrayMeasure::FaultRate, 1),
            Verdict::Unfinished { unfinished: 1, all: 1 }
        );
    }

    #[test]
    fn fewer_traces_than_are_asked_for_are_no_point() {
        let traces = vec![trace(1.0); 9];
        for (least, expected) in [(0, Verdict::Value(0.0)), (9, Verdict::Value(0.0)), (10, Verdict::TooFew)] {
            assert_eq!(read(&traces).measure(XrayMeasure::FaultRate, least), expected, "{least}");
        }
    }

    #[test]
    fn a_trace_on_the_border_is_in_one_span() {
        let at = |ms| TraceSummary::builder().start_time(DateTime::from_millis(ms)).build();
        let traces = [at(-1), at(0), at(9_999), at(10_000)];
        assert_eq!(read(&traces).finished, 2);
    }
}
