//! What the errors of ECS mean beyond what all of AWS's do.

use crate::aws::Failed;

/// Name under which faults are reported.
pub(super) const SOURCE: &str = "ecs";

/// A call of ECS that failed.
pub(super) const fn failed<'a>(operation: &'a str, writes: bool, place: &'a str) -> Failed<'a> {
    Failed { service: SOURCE, operation, writes, place, remedy }
}

/// What to do about a refusal, where that is known; ends in `: `.
fn remedy(code: &str, message: &str) -> &'static str {
    match code {
        "ClusterNotFoundException" => "no such cluster in this account and region; correct `workload.ecs.cluster`: ",
        "ServiceNotFoundException" => "no such service; correct `workload.ecs.services`: ",
        "ServiceNotActiveException" => "the service is being deleted or was: ",
        _ if message.contains("Unable to describe task definition") => "the task definition does not exist: ",
        _ if message.contains("inactive") => "the task definition was deregistered: ",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::remedy;

    #[test]
    fn what_is_missing_in_ecs_is_named() {
        for (code, message, todo) in [
            ("ServiceNotActiveException", "Service was not ACTIVE.", "is being deleted or was"),
            ("ClientException", "TaskDefinition is inactive", "was deregistered"),
            ("ClientException", "Unable to describe task definition.", "does not exist"),
            ("ClientException", "anything else", ""),
        ] {
            assert!(remedy(code, message).contains(todo), "{code}");
            assert_eq!(remedy(code, message).is_empty(), todo.is_empty(), "{code}");
        }
    }
}
