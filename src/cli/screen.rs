//! How a rollout looks in a terminal: a few lines that are redrawn in place, or one plain line for each change.

use crate::rollout::view::{ApprovalView, GateVerdict, RolloutView};
use std::fmt::Write;

/// Columns that the block is laid out for. A narrower terminal cuts lines off instead of wrapping them: a wrapped line
/// would be two to go up, and the next drawing would leave one behind.
const COLUMNS: usize = 80;
/// Cells of the weights bar, where the names leave room for them.
const BAR_CELLS: usize = 40;
/// Columns of a node's name at most.
const NAME_COLUMNS: usize = 22;
/// Columns of a phase; `awaiting_approval` takes more.
const PHASE_COLUMNS: usize = 12;

/// Draws a few lines over themselves.
#[derive(Debug, Default)]
pub struct Redrawn {
    lines: usize,
}

impl Redrawn {
    /// Text that replaces what was drawn before.
    #[must_use]
    pub fn draw(&mut self, block: &str) -> String {
        let mut text = String::new();
        if self.lines > 0 {
            // Up to the first line of the block, then clear to the end of the screen (ECMA-48 CPL and ED).
            let _ = write!(text, "\x1b[{}F\x1b[J", self.lines);
        }
        // Without automatic wrapping while it is written (DEC private mode 7).
        let _ = write!(text, "\x1b[?7l{block}\x1b[?7h");
        self.lines = block.matches('\n').count();
        text
    }
}

/// The block of a rollout: name, weights, phase, evidence. No line is wider than 80 columns.
#[must_use]
pub fn block(view: &RolloutView, now_ms: i64) -> String {
    let policy = cut(&view.policy, 40);
    let revision = view.revision.as_deref().unwrap_or_default();
    let revision = cut(revision, COLUMNS.saturating_sub(policy.chars().count() + view.id.chars().count() + 4));
    let mut text = String::new();
    let _ = writeln!(text, "\x1b[1m{policy}\x1b[0m  {}  {revision}", view.id);
    let _ = writeln!(text, "{}", weights_line(view));
    let _ = writeln!(text, "{}", phase_line(view, now_ms));
    if let Some(ApprovalView { from, need, given, .. }) = &view.approval {
        let _ =
            write!(text, "{}", wrapped(&format!("{} of {need} approvals; asked: {}", given.len(), from.join(", "))));
    }
    if let Some(frozen) = &view.frozen {
        let _ = write!(text, "\x1b[33m{}\x1b[0m", wrapped(frozen));
    }
    if let Some(windows) = &view.windows {
        let _ = write!(text, "{}", wrapped(windows));
    }
    if let Some(reason) = view.reason.as_deref().filter(|_| view.phase == "paused") {
        let _ = write!(text, "{}", wrapped(reason));
    }
    let _ = write!(text, "{}", wrapped(&view.verdict));
    if !view.finished && view.decided_at.is_none() {
        let evidence = &view.evidence;
        let _ = writeln!(text, "  proof {}   against {}", gauge(evidence.proof, '+'), gauge(evidence.against, '!'));
    }
    if let Some(noise) = view.noise.as_deref().filter(|_| !view.finished) {
        let _ = write!(text, "{}", wrapped(noise));
    }
    for gate in view.gates.iter().filter(|gate| gate.verdict == GateVerdict::Idle && !view.finished) {
        let _ = write!(text, "{}", wrapped(&format!("{} {}", gate.name, gate.text)));
    }
    for gate in view.gates.iter().filter(|gate| gate.dry_run && gate.verdict != GateVerdict::Idle) {
        let would = match gate.verdict {
            GateVerdict::Good => "good",
            GateVerdict::Fails => "would fail the release",
            GateVerdict::Holds => "would hold the release",
            GateVerdict::Error => "would hold the release, its source cannot be asked",
            GateVerdict::Idle => "does not act now",
        };
        let _ = write!(text, "{}", wrapped(&format!("{} (dry run) {would}: {}", gate.name, gate.text)));
    }
    if let Some(fuses) = &view.fuses {
        let _ = write!(text, "{}", wrapped(&format!("fuses: {fuses}")));
    }
    if let Some(trouble) = &view.trouble {
        let _ = write!(text, "\x1b[33m{}\x1b[0m", wrapped(trouble));
    }
    text
}

/// Text from outside without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn cut(text: &str, most: usize) -> String {
    let text = plain(text);
    if text.chars().count() <= most { text } else { text.chars().take(most.saturating_sub(1)).chain(['…']).collect() }
}

/// Two indented lines at most, broken between words.
fn wrapped(text: &str) -> String {
    let room = COLUMNS - 2;
    let text = plain(text);
    let mut first = String::new();
    let mut rest = Vec::new();
    for word in text.split_whitespace() {
        let width = first.chars().count() + 1 + word.chars().count();
        if rest.is_empty() && (first.is_empty() || width <= room) {
            first += if first.is_empty() { "" } else { " " };
            first += word;
        } else {
            rest.push(word);
        }
    }
    let second = if rest.is_empty() { String::new() } else { format!("  {}\n", cut(&rest.join(" "), room)) };
    format!("  {}\n{second}", cut(&first, room))
}

fn weights_line(view: &RolloutView) -> String {
    let weight = view.weights.get(&view.canary).copied().unwrap_or(0);
    let (stable, canary) = (cut(&view.stable, NAME_COLUMNS), cut(&view.canary, NAME_COLUMNS));
    // Both numbers, both names and the gaps between them.
    let taken = 17 + stable.chars().count() + canary.chars().count();
    let cells = COLUMNS.saturating_sub(taken).min(BAR_CELLS);
    format!("  {:>3} % {stable} {}  {canary} {weight:>3} %", 100 - weight, bar(weight, cells))
}

fn bar(weight: u8, of: usize) -> String {
    // A canary with any weight shows at least one cell.
    let cells = (usize::from(weight) * of).div_ceil(100);
    format!("\x1b[34m{}\x1b[32m{}\x1b[0m", "█".repeat(of - cells), "█".repeat(cells))
}

fn gauge(part: f64, mark: char) -> String {
    let cells = (part * 10.0).floor().clamp(0.0, 10.0) as usize;
    format!("[{}{}] {:>3.0} %", mark.to_string().repeat(cells), " ".repeat(10 - cells), (part * 100.0).floor())
}

fn phase_line(view: &RolloutView, now_ms: i64) -> String {
    let colour = match view.phase.as_str() {
        "succeeded" => "32",
        "rolled_back" | "rolling_back" | "aborted" | "stuck" => "31",
        "paused" => "33",
        _ => "36",
    };
    let left = view.until_ms.map(|until| (until - now_ms).max(0));
    let left = left.map(|ms| format!("   {}", countdown(&view.phase, ms))).unwrap_or_default();
    let taken = view.phase.len().max(PHASE_COLUMNS) + 3 + left.chars().count();
    let steps = steps_text(view, COLUMNS.saturating_sub(taken));
    format!("  \x1b[{colour}m{:<PHASE_COLUMNS$}\x1b[0m {steps}{left}", view.phase)
}

/// Which of the weight steps it is at, from 1; none once its end is decided, or with its weight taken away.
fn weight_step(view: &RolloutView) -> Option<usize> {
    // By the weight, since `step` counts approvals as well.
    let weight = view.weights.get(&view.canary)?;
    view.step?;
    view.steps.iter().position(|step| step == weight).map(|index| index + 1)
}

/// `steps 1 → [10] → 100` where there is room for it, else `step 2 of 3`.
fn steps_text(view: &RolloutView, room: usize) -> String {
    let at = weight_step(view);
    let each = |(index, weight): (usize, &u8)| match at {
        Some(step) if step == index + 1 => format!("[{weight}]"),
        _ => weight.to_string(),
    };
    let preview = view.preview.iter().map(|_| "[preview]".to_owned());
    let all: Vec<String> = preview.chain(view.steps.iter().enumerate().map(each)).collect();
    let text = format!("steps {}", all.join(" → "));
    match at {
        _ if text.chars().count() <= room => text.replace('[', "\x1b[1m[").replace(']', "]\x1b[0m"),
        Some(step) => format!("step {step} of {}", view.steps.len()),
        None => format!("{} steps", view.steps.len()),
    }
}

fn countdown(phase: &str, left_ms: i64) -> String {
    let seconds = (left_ms + 999) / 1000;
    match phase {
        "baking" => format!("bakes {seconds} s more"),
        "judging" => format!("waits for proof, {seconds} s at most"),
        "holding" => format!("ends in {seconds} s"),
        "shifting" | "verifying" | "rolling_back" | "awaiting_approval" => format!("{seconds} s at most"),
        _ => String::new(),
    }
}

/// One plain line that says where it stands.
#[must_use]
pub fn line(view: &RolloutView) -> String {
    let weight = view.weights.get(&view.canary).copied().unwrap_or(0);
    let step = match (&view.preview, weight_step(view)) {
        (Some(_), _) => " preview".to_owned(),
        (None, Some(step)) => format!(" step {step}/{}", view.steps.len()),
        (None, None) => String::new(),
    };
    let why = view.frozen.as_deref().or(view.reason.as_deref()).unwrap_or(&view.verdict);
    format!(
        "{} {} {}{step}: {} {weight} %, {} {} %; {}",
        view.id,
        view.policy,
        view.phase,
        view.canary,
        view.stable,
        100 - weight,
        plain(why)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::event::Actor;
    use crate::rollout::view::{EvidenceView, GateView};
    use std::collections::BTreeMap;

    #[test]
    fn a_redrawn_block_goes_up_by_its_own_height() {
        let mut screen = Redrawn::default();
        assert_eq!(screen.draw("a\nb\n"), "\x1b[?7la\nb\n\x1b[?7h");
        assert_eq!(screen.draw("c\n"), "\x1b[2F\x1b[J\x1b[?7lc\n\x1b[?7h");
        assert_eq!(screen.draw("d\n"), "\x1b[1F\x1b[J\x1b[?7ld\n\x1b[?7h");
    }

    #[test]
    fn a_small_canary_shows() {
        assert_eq!(bar(1, 40).matches('█').count(), 40);
        assert!(bar(1, 40).ends_with("\x1b[32m█\x1b[0m"));
        assert!(bar(0, 40).ends_with("\x1b[32m\x1b[0m"));
    }

    fn view(length: usize, phase: &str) -> RolloutView {
        let long = |text: &str| text.repeat(length);
        let evidence = EvidenceView {
            canary_requests: 1,
            canary_errors: 0,
            stable_requests: 1,
            stable_errors: 0,
            against: 0.2,
            proof: 1.0,
            ..EvidenceView::default()
        };
        RolloutView {
            id: "r-0123456789abcdef".to_owned(),
            policy: long("policy"),
            route: "shop/router/route".to_owned(),
            phase: phase.to_owned(),
            finished: false,
            step: Some(1),
            steps: (1..=10 * u8::try_from(length).unwrap()).collect(),
            canary: long("canary"),
            stable: long("stable"),
            weights: BTreeMap::from([(long("canary"), 10), (long("stable"), 90)]),
            revision: Some(long("revision ")),
            image: None,
            instances: None,
            outcome: None,
            started_by: Actor { name: "anna".to_owned(), via: "os_user".to_owned() },
            started_at: String::new(),
            phase_since: String::new(),
            until: None,
            until_ms: Some(60_000),
            verdict: long("canary 0/63 failed (0 %), stable 0/535 (0 %): no worse than +5pp not proven yet "),
            evidence,
            noise: None,
            gates: vec![GateView {
                name: long("slo"),
                dry_run: true,
                verdict: GateVerdict::Holds,
                against: None,
                text: long("canary 1/63 failed "),
                figures: None,
            }],
            approval: Some(ApprovalView {
                from: vec![long("alice")],
                need: 2,
                given: Vec::new(),
                slack: None,
                on_timeout: "rollback".into(),
            }),
            frozen: Some(long("frozen by anna: payday ")),
            paused_since: None,
            windows: Some(long("began outside of its windows: the fix ")),
            preview: None,
            reason: Some(long("paused by anna: \x1b[2Jsomething\nis odd ")),
            decided_at: None,
            decided_at_ms: None,
            trouble: Some("x".repeat(200 * length)),
            fuses: None,
            fuse: None,
            changed_at: String::new(),
            changed_at_ms: 0,
            seq: 1,
        }
    }

    /// Without the escape sequences that the block itself has.
    fn visible(block: &str) -> String {
        ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[36m"]
            .iter()
            .fold(block.to_owned(), |text, sequence| text.replace(sequence, ""))
    }

    #[test]
    fn no_line_is_wider_than_the_screen_and_nothing_from_outside_moves_the_cursor() {
        for length in 1..9 {
            for phase in ["judging", "paused", "awaiting_approval", "succeeded"] {
                let text = visible(&block(&view(length, phase), 0));
                assert!(!text.contains('\x1b'), "{text:?}");
                for line in text.lines() {
                    assert!(line.chars().count() <= COLUMNS, "{line}");
                }
            }
        }
    }

    #[test]
    fn a_short_rollout_reads_like_this() {
        let short = RolloutView { steps: vec![10, 50, 100], trouble: None, approval: None, ..view(1, "judging") };
        assert_eq!(
            visible(&block(&short, 0)).replace('█', "#"),
            "policy  r-0123456789abcdef  revision \n   \
             90 % stable ########################################  canary  10 %\n  \
             judging      steps [10] → 50 → 100   waits for proof, 60 s at most\n  \
             frozen by anna: payday\n  \
             began outside of its windows: the fix\n  \
             canary 0/63 failed (0 %), stable 0/535 (0 %): no worse than +5pp not proven\n  \
             yet\n  \
             proof [++++++++++] 100 %   against [!!        ]  20 %\n  \
             slo (dry run) would hold the release: canary 1/63 failed\n"
        );
    }
}
