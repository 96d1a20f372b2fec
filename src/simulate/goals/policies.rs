//! The policies that are measured. Budgets are out of the way: the tables are about verdicts.

use crate::policy::compile;
use crate::policy::plan::Plan;
use crate::simulate::engine::prepared;

const HEAD: &str = "version: 1\nname: goals\nroute: { mesh: shop, router: r, route: t }\nversions: [v1, v2]\n\
                    blast_radius: { failed_requests: 1000000 }\n";
/// Errors with 0.65 of the evidence, as where latency is judged beside them.
const GATES: &str = "gates:\n\
                     - { name: errors, metric: error_rate, compare: stable, tolerate: { ratio: 1.0, add: 0pp } }\n\
                     - { name: latency, metric: latency, compare: stable, tolerate: 10% }\n";
const BY_CLOCK: &str = "step_defaults: { min: 60s, max: 60s, on_inconclusive: advance }\n";

/// A minute at each weight.
pub(super) fn ramp() -> Plan {
    plan(&format!("steps: [10, 25, 50, 75, 100]\n{BY_CLOCK}{GATES}"))
}

/// The same from 1 % on.
pub(super) fn ramp_from_one() -> Plan {
    plan(&format!("steps: [1, 5, 10, 25, 50, 75, 100]\n{BY_CLOCK}{GATES}"))
}

/// A minute at each weight; nothing slower than stable is tolerated.
pub(super) fn strict() -> Plan {
    plan(&format!("steps: [10, 25, 50, 75, 100]\n{BY_CLOCK}{}", GATES.replace("10%", "0%")))
}

/// One weight in percent for as long as a simulation lasts.
pub(super) fn fixed(weight: u8) -> Plan {
    plan(&format!("steps: [{weight}, 100]\nstep_defaults: {{ min: 11h, max: 11h }}\n{GATES}"))
}

/// Each step as soon as it is proven, within five minutes.
pub(super) fn paced() -> Plan {
    plan(&format!(
        "steps:\n\
         - {{ weight: 5, prove_no_worse_than: 2pp }}\n\
         - {{ weight: 10, prove_no_worse_than: 1pp }}\n\
         - {{ weight: 25, prove_no_worse_than: 0.5pp }}\n\
         - {{ weight: 50, prove_no_worse_than: 0.5pp }}\n\
         - 100\n\
         step_defaults: {{ min: 10s, max: 5m, on_inconclusive: advance }}\n{GATES}"
    ))
}

fn plan(text: &str) -> Plan {
    match compile("goals.yaml", &format!("{HEAD}{text}")) {
        Ok(compiled) => prepared(&compiled.plan).0,
        // They are constants, and a test compiles each.
        Err(problems) => unreachable!("a policy of the goals is not valid: {problems:?}"),
    }
}
