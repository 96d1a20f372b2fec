//! How a rollout looks in a terminal: a few lines that are redrawn in place, or one plain line for each change.

use crate::rollout::view::RolloutView;
use std::fmt::Write;

/// Cells of the weights bar.
const BAR_CELLS: usize = 40;

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
        text += block;
        self.lines = block.matches('\n').count();
        text
    }
}

/// The block of a rollout: name, weights, phase, evidence.
#[must_use]
pub fn block(view: &RolloutView, now_ms: i64) -> String {
    let weight = view.weights.get(&view.canary).copied().unwrap_or(0);
    let mut text = String::new();
    let revision = view.revision.as_ref().map(|revision| format!("  {revision}")).unwrap_or_default();
    let _ = writeln!(text, "\x1b[1m{}\x1b[0m  {}{revision}", view.policy, view.id);
    let _ = writeln!(text, "  {:>3} % {} {}  {} {:>3} %", 100 - weight, view.stable, bar(weight), view.canary, weight);
    let _ = writeln!(text, "  {}", phase_line(view, now_ms));
    let _ = writeln!(text, "  {}", cut(&view.verdict, 110));
    if !view.finished && view.decided_at.is_none() {
        let evidence = &view.evidence;
        let _ = writeln!(text, "  proof {}   against {}", gauge(evidence.proof, '+'), gauge(evidence.against, '!'));
    }
    if let Some(trouble) = &view.trouble {
        let _ = writeln!(text, "  \x1b[33m{}\x1b[0m", cut(trouble, 110));
    }
    text
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

fn bar(weight: u8) -> String {
    // A canary with any weight shows at least one cell.
    let cells = (usize::from(weight) * BAR_CELLS).div_ceil(100);
    format!("\x1b[34m{}\x1b[32m{}\x1b[0m", "█".repeat(BAR_CELLS - cells), "█".repeat(cells))
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
    let steps: Vec<String> = view
        .steps
        .iter()
        .enumerate()
        .map(|(index, weight)| match view.step {
            Some(step) if step == index + 1 => format!("\x1b[1m[{weight}]\x1b[0m"),
            _ => weight.to_string(),
        })
        .collect();
    let left = view.until_ms.map(|until| (until - now_ms).max(0));
    let left = left.map(|ms| format!("   {}", countdown(&view.phase, ms))).unwrap_or_default();
    let reason = if view.phase == "paused" { view.reason.clone().unwrap_or_default() } else { String::new() };
    format!("\x1b[{colour}m{:<12}\x1b[0m steps {}{left} {}", view.phase, steps.join(" → "), cut(&reason, 80))
}

fn countdown(phase: &str, left_ms: i64) -> String {
    let seconds = (left_ms + 999) / 1000;
    match phase {
        "baking" => format!("bakes {seconds} s more"),
        "judging" => format!("waits for proof, {seconds} s at most"),
        "holding" => format!("ends in {seconds} s"),
        "shifting" | "verifying" | "rolling_back" => format!("{seconds} s at most"),
        _ => String::new(),
    }
}

/// One plain line that says where it stands.
#[must_use]
pub fn line(view: &RolloutView) -> String {
    let weight = view.weights.get(&view.canary).copied().unwrap_or(0);
    let step = view.step.map(|step| format!(" step {step}/{}", view.steps.len())).unwrap_or_default();
    let why = view.reason.as_deref().unwrap_or(&view.verdict);
    format!(
        "{} {} {}{step}: {} {weight} %, {} {} %; {why}",
        view.id,
        view.policy,
        view.phase,
        view.canary,
        view.stable,
        100 - weight
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrawn_block_goes_up_by_its_own_height() {
        let mut screen = Redrawn::default();
        assert_eq!(screen.draw("a\nb\n"), "a\nb\n");
        assert_eq!(screen.draw("c\n"), "\x1b[2F\x1b[Jc\n");
        assert_eq!(screen.draw("d\n"), "\x1b[1F\x1b[Jd\n");
    }

    #[test]
    fn a_small_canary_shows() {
        assert_eq!(bar(1).matches('█').count(), BAR_CELLS);
        assert!(bar(1).ends_with("\x1b[32m█\x1b[0m"));
        assert!(bar(0).ends_with("\x1b[32m\x1b[0m"));
    }
}
