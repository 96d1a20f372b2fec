//! What the errors of CloudWatch mean beyond what all of AWS's do.

use crate::aws::Failed;

/// Name under which faults are reported.
pub(super) const SOURCE: &str = "cloudwatch";

/// A call of CloudWatch that failed. None of them changes anything.
pub(super) const fn failed<'a>(operation: &'a str, place: &'a str) -> Failed<'a> {
    Failed { service: SOURCE, operation, writes: false, place, remedy }
}

/// What to do about a refusal, where that is known; ends in `: `.
fn remedy(code: &str, _: &str) -> &'static str {
    match code {
        "ValidationError" | "ValidationException" | "InvalidParameterValue" | "InvalidParameterCombination" => {
            "CloudWatch does not take this question; correct `cloudwatch` in the policy: "
        }
        _ => "",
    }
}
