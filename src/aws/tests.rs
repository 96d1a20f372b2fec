//! Answers of AWS as faults.

use super::*;
use crate::base::fault::FaultKind;

fn failed(operation: &str, writes: bool) -> Failed<'_> {
    Failed {
        service: "ecs",
        operation,
        writes,
        place: "service b in cluster prod",
        remedy: |code, _| {
            if code == "ServiceNotActiveException" { "the service is being deleted or was: " } else { "" }
        },
    }
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
        (400, "Throttling", "Rate exceeded", FaultKind::Transient, "AWS limits the calls"),
        (400, "ExpiredToken", "old", FaultKind::Transient, "renew the AWS credentials"),
        (403, "InvalidClientTokenId", "invalid", FaultKind::Permanent, "does not know the credentials"),
        (403, "SignatureDoesNotMatch", "Signature expired: x", FaultKind::Transient, "look at its clock"),
        (403, "AccessDenied", "no", FaultKind::Permanent, "not allowed: ecs:UpdateService"),
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

#[test]
fn an_answer_of_somebody_else_is_told_from_one_of_aws() {
    for (status, writes, kind) in [
        (404, false, FaultKind::Permanent),
        (502, false, FaultKind::Transient),
        (502, true, FaultKind::Unknown),
        (200, false, FaultKind::Transient),
    ] {
        let fault = failed("DescribeServices", writes).unreadable(status, "<html>");
        assert_eq!(fault.kind, kind, "{status}");
        assert!(fault.message.contains(&format!("answered with status {status}, and not as AWS does")), "{fault}");
    }
}
