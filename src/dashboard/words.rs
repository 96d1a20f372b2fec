//! Words of the page: phases, spans of time, and numbers, as people say them.

use crate::policy::plan::SignalUnit;
use crate::rollout::view::{GateVerdict, RolloutView, amount};

/// How something is shown: by a word, a sign and a colour, so that none of them is needed alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Badge {
    /// The word.
    pub label: &'static str,
    /// Class of the style sheet.
    pub tone: &'static str,
    /// A sign beside the word, for the eye only.
    pub sign: &'static str,
}

/// The phase as a heading.
#[must_use]
pub(super) fn phase_label(phase: &str) -> &'static str {
    phase_badge(phase).label
}

/// The phase with its tone.
#[must_use]
pub(super) fn phase_badge(phase: &str) -> Badge {
    let (label, tone, sign) = match phase {
        "pending" => ("Pending", "quiet", "…"),
        "deploying" => ("Deploying", "busy", "↑"),
        "shifting" => ("Shifting", "busy", "⇄"),
        "verifying" => ("Verifying", "busy", "⇄"),
        "baking" => ("Baking", "busy", "◔"),
        "judging" => ("Judging", "busy", "◑"),
        "awaiting_approval" => ("Awaiting approval", "warn", "?"),
        "paused" => ("Paused", "warn", "‖"),
        "rolling_back" => ("Rolling back", "bad", "↩"),
        "holding" => ("Holding", "busy", "◕"),
        "cleaning" => ("Cleaning up", "busy", "◕"),
        "succeeded" => ("Succeeded", "good", "✓"),
        "rolled_back" => ("Rolled back", "bad", "↩"),
        "aborted" => ("Aborted", "bad", "✕"),
        "superseded" => ("Superseded", "quiet", "»"),
        "stuck" => ("Stuck", "bad", "!"),
        _ => ("Unknown phase", "quiet", "?"),
    };
    Badge { label, tone, sign }
}

/// What a gate comes to.
#[must_use]
pub(super) fn gate_badge(verdict: GateVerdict, dry_run: bool) -> Badge {
    let (label, tone, sign) = match (verdict, dry_run) {
        (GateVerdict::Good, _) => ("good so far", "good", "✓"),
        (GateVerdict::Fails, false) => ("fails", "bad", "✕"),
        (GateVerdict::Fails, true) => ("would fail", "warn", "✕"),
        (GateVerdict::Holds, false) => ("holds", "warn", "‖"),
        (GateVerdict::Holds, true) => ("would hold", "quiet", "‖"),
        (GateVerdict::Error, _) => ("no answer", "warn", "!"),
        (GateVerdict::Idle, _) => ("not here", "quiet", "·"),
    };
    Badge { label, tone, sign }
}

/// What ends when the countdown does.
#[must_use]
pub(super) fn countdown_label(view: &RolloutView) -> &'static str {
    match view.phase.as_str() {
        "deploying" => "Rolled back unless it is up in",
        "shifting" | "verifying" => "Must be in force within",
        "baking" => "Bakes for",
        "judging" => "Waits for proof for at most",
        "awaiting_approval" => "Waits for people for at most",
        "holding" => "Ends in",
        "cleaning" => "Keeps the version before for",
        "stuck" => "Tried again in",
        "rolling_back" => "Written again in",
        _ => "For at most",
    }
}

/// A span as a countdown shows it; the page's script says the same each second.
#[must_use]
pub(super) fn span(left_ms: i64) -> String {
    let seconds = left_ms.max(0).saturating_add(999) / 1000;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest} s"),
        (0, _) => format!("{minutes} min {rest:02} s"),
        _ => format!("{hours} h {minutes:02} min"),
    }
}

/// A gate's figure, or a dash where there is none.
#[must_use]
pub(super) fn figure(unit: SignalUnit, value: Option<f64>) -> String {
    let percent = |percent: f64| {
        let decimals = if percent.abs() < 1.0 { 1e3 } else { 1e2 };
        format!("{} %", (percent * decimals).round() / decimals)
    };
    match (unit, value) {
        (_, None) => "–".to_owned(),
        // Beside its neighbour a share is compared and not computed with.
        (SignalUnit::Share, Some(value)) => percent(value * 100.0),
        (SignalUnit::Percent, Some(value)) => percent(value),
        (SignalUnit::Number | SignalUnit::Seconds, Some(value)) => amount(unit, value),
    }
}

/// A share of 0 to 1 in whole percents, never 100 for less than everything.
#[must_use]
pub(super) fn percent(share: f64) -> u8 {
    // Between 0 and 100, so nothing is lost.
    (share.clamp(0.0, 1.0) * 100.0).floor() as u8
}

/// A name as one segment of an address: whatever is not plain is written as `%XX`.
#[must_use]
pub(super) fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string().replace("%2D", "-")
}

/// `2026-11-23 07:12:35` of an RFC 3339 time in UTC.
#[must_use]
pub(super) fn moment(rfc3339: &str) -> String {
    rfc3339.split('.').next().unwrap_or_default().replace('T', " ")
}

/// `07:12:35` of the same.
#[must_use]
pub(super) fn clock_time(rfc3339: &str) -> String {
    moment(rfc3339).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_at_a_glance() {
        for (ms, text) in [
            (-5, "0 s"),
            (0, "0 s"),
            (1, "1 s"),
            (59_000, "59 s"),
            (59_001, "1 min 00 s"),
            (125_000, "2 min 05 s"),
            (3_725_000, "1 h 02 min"),
            (i64::MAX, "2562047788015 h 12 min"),
        ] {
            assert_eq!(span(ms), text, "{ms}");
        }
    }

    #[test]
    fn figures_are_as_exact_as_they_are_useful() {
        for (unit, value, text) in [
            (SignalUnit::Share, Some(1.0 / 3.0), "33.33 %"),
            (SignalUnit::Share, Some(0.000_123_4), "0.012 %"),
            (SignalUnit::Share, Some(0.0), "0 %"),
            (SignalUnit::Percent, Some(99.999), "100 %"),
            (SignalUnit::Number, Some(1234.5), "1234.5"),
            (SignalUnit::Seconds, Some(0.25), "250 ms"),
            (SignalUnit::Seconds, None, "–"),
        ] {
            assert_eq!(figure(unit, value), text);
        }
    }

    #[test]
    fn times_are_cut_and_not_parsed() {
        assert_eq!(moment("2026-11-23T07:12:35.896Z"), "2026-11-23 07:12:35");
        assert_eq!(clock_time("2026-11-23T07:12:35.896Z"), "07:12:35");
        assert_eq!((moment(""), clock_time("")), (String::new(), String::new()));
    }

    #[test]
    fn every_phase_of_the_interface_has_a_word() {
        let phases = "pending deploying shifting verifying baking judging awaiting_approval paused rolling_back holding \
                      cleaning succeeded rolled_back aborted stuck superseded";
        for phase in phases.split_whitespace() {
            assert_ne!(phase_label(phase), "Unknown phase", "{phase}");
        }
    }
}
