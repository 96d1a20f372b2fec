//! How gates take part: their parts of the bound, where they act, and what their failure does.

use crate::judge::verdict::percent;
use crate::policy::plan::{Gate, OnFailure, Plan, listed};
use crate::rollout::compare::parts;
use std::fmt::Write;

/// A line for everything that is not as usual; parts wherever there are several.
pub(super) fn told(plan: &Plan) -> String {
    let mut text = String::new();
    let parts = parts(plan);
    if parts.len() > 1 {
        let each: Vec<String> = parts.iter().map(|(gate, part)| format!("{} {}", gate.name, percent(*part))).collect();
        let _ = writeln!(text, "  Parts of that bound: {}.", each.join(", "));
    }
    for gate in plan.gates.iter().filter(|gate| !gate.during.is_empty()) {
        let _ = writeln!(
            text,
            "  Gate {} acts {} only; what happens elsewhere does not count for it.",
            gate.name,
            listed(&gate.during)
        );
    }
    let deciding = || plan.gates.iter().filter(|gate| !gate.dry_run);
    for gate in deciding() {
        let _ = match (gate.on_failure, plan.on_failure) {
            (Some(OnFailure::Pause), OnFailure::Rollback) => writeln!(
                text,
                "  Gate {} never rolls back: its failure keeps the weight and waits for a person. The others still may.",
                gate.name
            ),
            (Some(OnFailure::Rollback), OnFailure::Pause) => {
                writeln!(text, "  Gate {} does not wait for a person: its failure rolls back at once.", gate.name)
            }
            (None | Some(_), _) => Ok(()),
        };
    }
    let rolls_back = |gate: &Gate| gate.on_failure.unwrap_or(plan.on_failure) == OnFailure::Rollback;
    let critical: Vec<&str> =
        parts.iter().map(|(gate, _)| *gate).filter(|gate| rolls_back(gate)).map(|g| g.name.as_str()).collect();
    if !critical.is_empty() && critical.len() < parts.len() {
        let _ = writeln!(
            text,
            "  What {} shown without the others rolls back; what all that compare requests have shown only together pauses.",
            match critical.as_slice() {
                [one] => format!("{one} has"),
                several => format!("{} have together", several.join(", ")),
            }
        );
    }
    text
}
