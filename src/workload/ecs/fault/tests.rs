//! Answers of AWS as faults.

use super::*;
use crate::base::fault::FaultKind;

fn failed(operation: &str, writes: bool) -> Failed<'_> {
    Failed { operation, writes, place: "service b in cluster prod" }
}

#[test]
fn each_answer_is_somebodys_fault() {
    let rows = [
        (400, "ThrottlingException", "Rate exceeded", FaultKind::Transient, "AWS limits the calls"),
        (429, "Whatever", "slow down", FaultKind::Transient, "AWS limits the calls"),
        (503, "ServiceUnavailable", "later", FaultKind::Transient, "ServiceUnavailable: later"),
        (400, "RequestExpired", "old", FaultKind::Transient, "look at its clock"),
        (400, "InvalidSignatureException", "Signature expired: x", FaultKind::Transient, "look at its clock"),
        (400, "InvalidSignatureException", "does not match", FaultKind::Permanent, "correct them"),
        (400, "ServiceNotActiveException", "Service was not ACTIVE.", FaultKind::Permanent, "is being deleted or was"),
        (400, "ClientException", "TaskDefinition is inactive", FaultKind::Permanent, "was deregistered"),
        (
            400,
            "LimitExceededException",
            "too many",
            FaultKind::Permanent,
            "of service b in cluster prod: LimitExceeded",
        ),
    ];
    for (status, code, message, kind, text) in rows {
        for writes in [false, true] {
            let fault = failed("UpdateService", writes).answered(status, code, message);
            assert_eq!(fault.kind, kind, "{code}");
            assert!(fault.message.contains(text), "{code}: {fault}");
            assert!(fault.message.contains(message), "what AWS says is passed on: {fault}");
        }
    }
}

#[test]
fn only_a_write_without_an_answer_may_have_been_done() {
    assert_eq!(failed("UpdateService", true).unanswered("timeout").kind, FaultKind::Unknown);
    assert_eq!(failed("DescribeServices", false).unanswered("timeout").kind, FaultKind::Transient);
}

#[test]
fn a_denial_names_the_action_that_was_denied() {
    let text = failed("UpdateService", true).answered(400, "AccessDeniedException", "no").message;
    assert!(
        text.starts_with("not allowed: ecs:UpdateService on service b in cluster prod; add it to the role"),
        "{text}"
    );
    let message = "User: u is not authorized to perform: ecs:TagResource on resource: arn:x because";
    let text = failed("RegisterTaskDefinition", true).answered(400, "AccessDeniedException", message).message;
    assert!(text.starts_with("not allowed: ecs:TagResource on arn:x; add it to the role"), "{text}");
}

#[test]
fn a_page_of_text_is_cut() {
    let fault = failed("UpdateService", true).answered(400, "ClientException", &"é".repeat(2000));
    assert!(fault.message.chars().count() < 500 && fault.message.ends_with('…'), "{}", fault.message.len());
}
