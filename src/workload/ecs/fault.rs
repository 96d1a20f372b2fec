//! What the errors of ECS mean: whose fault they are, what to do, and whether trying again may help.

use crate::base::fault::Fault;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// Name under which faults are reported.
pub(super) const SOURCE: &str = "ecs";
/// So much of what AWS says is passed on, in characters: enough for an ARN or two, and no page of text.
const LONGEST_MESSAGE: usize = 400;
/// Codes of too many calls; the SDK has tried again by then.
const THROTTLED: [&str; 6] = [
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "RequestThrottled",
];
/// Codes of credentials that are valid no longer, and of a request that is too old by AWS's clock.
const EXPIRED: [&str; 3] = ["ExpiredTokenException", "ExpiredToken", "RequestExpired"];
/// Codes of credentials that AWS does not know. A signature that is too old by AWS's clock has one of them.
const UNKNOWN_KEY: [&str; 5] = [
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "IncompleteSignature",
];
/// Codes of a missing permission.
const DENIED: [&str; 4] = ["AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "NotAuthorized"];

/// How AWS begins to name an action that a role may not take.
const NOT_AUTHORIZED: &str = "not authorized to perform: ";

/// A call that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failed<'a> {
    /// Name of the operation.
    pub(super) operation: &'a str,
    /// Whether it changes something.
    pub(super) writes: bool,
    /// What it was about, for people.
    pub(super) place: &'a str,
}

impl Failed<'_> {
    /// What an error of the SDK comes to.
    pub(super) fn fault<E>(&self, error: &SdkError<E, HttpResponse>) -> Fault
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let Self { operation, place, .. } = self;
        let about = format!("{operation} of {place}");
        if causes(error).any(|cause| cause.is::<CredentialsError>()) {
            let todo = "no credentials for AWS, so nothing was sent; give the daemon a role or keys";
            return Fault::transient(SOURCE, format!("{about}: {todo}: {}", bounded(&chain(error))));
        }
        match error {
            SdkError::ConstructionFailure(_) => Fault::permanent(SOURCE, format!("{about}: {}", chain(error))),
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_user() => {
                Fault::transient(SOURCE, format!("{about}: no connection: {}", chain(error)))
            }
            SdkError::ServiceError(service) => {
                let (status, code) = (service.raw().status().as_u16(), service.err().code().unwrap_or("no code"));
                self.answered(status, code, service.err().message().unwrap_or("no message"))
            }
            _ => self.unanswered(&chain(error)),
        }
    }

    /// No answer came, so a write may have been done.
    fn unanswered(&self, why: &str) -> Fault {
        let Self { operation, place, writes } = self;
        let text = format!("{operation} of {place}: no answer: {}", bounded(why));
        if *writes { Fault::unknown(SOURCE, text) } else { Fault::transient(SOURCE, text) }
    }

    /// AWS refused.
    fn answered(&self, status: u16, code: &str, message: &str) -> Fault {
        let Self { operation, place, .. } = self;
        let says = bounded(message);
        if THROTTLED.contains(&code) || status == 429 {
            let text = format!("{operation} of {place}: AWS limits the calls of this account: {code}: {says}");
            return Fault::transient(SOURCE, text);
        }
        // Several callers register revisions of one family at the same time: ECS says so with the code for everything.
        if status >= 500 || message.contains("Too many concurrent attempts") {
            return Fault::transient(SOURCE, format!("{operation} of {place}: {code}: {says}"));
        }
        if EXPIRED.contains(&code) || (UNKNOWN_KEY.contains(&code) && message.contains("Signature expired")) {
            let todo = "renew the AWS credentials of the daemon, or look at its clock";
            return Fault::transient(SOURCE, format!("{operation} of {place}: {todo}: {code}: {says}"));
        }
        if UNKNOWN_KEY.contains(&code) {
            let todo = "AWS does not know the credentials of the daemon: correct them";
            return Fault::permanent(SOURCE, format!("{operation} of {place}: {todo}: {code}: {says}"));
        }
        // What a role may pass on, or a tag, is refused with the code for everything.
        if DENIED.contains(&code) || message.contains(NOT_AUTHORIZED) {
            return Fault::permanent(SOURCE, self.denied(message));
        }
        Fault::permanent(SOURCE, format!("{operation} of {place}: {}{code}: {says}", remedy(code, message)))
    }

    /// A missing permission: AWS's text names it where it is another one than that of the call, such as `iam:PassRole`.
    fn denied(&self, message: &str) -> String {
        let own = format!("ecs:{}", self.operation);
        let action = word_after(message, NOT_AUTHORIZED).unwrap_or(&own);
        let resource = if action == own { None } else { word_after(message, "on resource: ") };
        let resource = resource.unwrap_or(self.place);
        let todo = "add it to the role that the daemon runs with (docs/aws.md lists all)";
        format!("not allowed: {action} on {resource}; {todo}; AWS says: {}", bounded(message))
    }
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

/// The word behind a phrase.
fn word_after<'a>(text: &'a str, phrase: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(phrase)?;
    rest.split_whitespace().next()
}

/// A text with an end.
fn bounded(text: &str) -> String {
    if text.chars().count() <= LONGEST_MESSAGE {
        return text.to_owned();
    }
    text.chars().take(LONGEST_MESSAGE).chain("…".chars()).collect()
}

/// An error and what caused it.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// An error and what caused it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
