//! What every client of AWS shares: its bounds, and what AWS's errors mean (whose fault they are, what to do, and whether
//! trying again may help).
//!
//! Codes come in two forms: those of the JSON and CBOR protocols, and those of the older query protocol, which services
//! that once spoke it still answer with.

use crate::base::fault::{Fault, causes, chain};
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One call may take so long, what the SDK repeats included. Whoever asked tries again later. The engine's holding phase is
/// longer, so that a write of weights that timed out cannot land after it.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// One connection may take so long to be made: half of the above, so that a second attempt fits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// So often the SDK sends a request that was throttled or met a server error.
const ATTEMPTS: u32 = 3;
/// The SDK's second is too long for `CALL_TIMEOUT`.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// So much of what AWS says is passed on, in characters: enough for an ARN or two, and no page of text.
const LONGEST_MESSAGE: usize = 400;
/// Codes of too many calls; the SDK has tried again by then.
const THROTTLED: [&str; 7] = [
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
];
/// Codes of credentials that are valid no longer, and of a request that is too old by AWS's clock.
const EXPIRED: [&str; 3] = ["ExpiredTokenException", "ExpiredToken", "RequestExpired"];
/// Codes of credentials that AWS does not know. A signature that is too old by AWS's clock has one of them.
const UNKNOWN_KEY: [&str; 7] = [
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "IncompleteSignature",
];
/// Codes of a missing permission.
const DENIED: [&str; 4] = ["AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "NotAuthorized"];

/// How AWS begins to name an action that a role may not take.
const NOT_AUTHORIZED: &str = "not authorized to perform: ";

/// What to do about a refusal by its code and message, where that is known, ending in `: `; empty where it is not.
pub type Remedy = fn(&str, &str) -> &'static str;

/// How long calls may take.
#[must_use]
pub fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().operation_timeout(CALL_TIMEOUT).connect_timeout(CONNECT_TIMEOUT).build()
}

/// How often calls are repeated by the SDK.
#[must_use]
pub fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_BACKOFF)
}

/// An HTTP client over rustls with the system's certificates.
#[must_use]
pub fn https() -> SharedHttpClient {
    let ring = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    aws_smithy_http_client::Builder::new().tls_provider(ring).build_https()
}

/// The configuration of one service's client, in the making: `builder!(aws_sdk_ecs, config)`. Region, credentials and
/// endpoint are those of a shared set, and so is its HTTP client where it has one; timeouts and retries are those of this
/// module. A macro, since each service's crate has types of its own.
macro_rules! builder {
    ($sdk:ident, $config:expr) => {{
        let config: &aws_types::SdkConfig = $config;
        $sdk::config::Builder::from(config)
            .timeout_config($crate::aws::timeouts())
            .retry_config($crate::aws::retries())
            .http_client(config.http_client().unwrap_or_else($crate::aws::https))
            .behavior_version(config.behavior_version().unwrap_or_else($sdk::config::BehaviorVersion::latest))
    }};
}
pub(crate) use builder;

/// How often each of a client's operations was called. Clones count together; what the SDK repeats by itself counts once.
#[derive(Debug, Clone)]
pub struct Made<const N: usize> {
    names: [&'static str; N],
    counts: Arc<[AtomicU64; N]>,
}

impl<const N: usize> Made<N> {
    /// Of these operations, none of them called yet.
    #[must_use]
    pub fn new(names: [&'static str; N]) -> Self {
        Self { names, counts: Arc::new(std::array::from_fn(|_| AtomicU64::new(0))) }
    }

    /// One more call of an operation; nothing happens with a name that is not among those.
    pub fn note(&self, operation: &str) {
        if let Some(index) = self.names.iter().position(|name| *name == operation) {
            self.counts[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Operations that were called, each with how often.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        self.names.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

/// A call that failed.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    /// Name under which faults are reported; without its spaces the prefix of the service's actions in IAM.
    pub service: &'static str,
    /// Name of the operation.
    pub operation: &'a str,
    /// Whether it changes something.
    pub writes: bool,
    /// What it was about, for people.
    pub place: &'a str,
    /// What the service's own codes ask for.
    pub remedy: Remedy,
}

impl Failed<'_> {
    /// What an error of the SDK comes to.
    pub fn fault<E>(&self, error: &SdkError<E, HttpResponse>) -> Fault
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let Self { service, operation, place, .. } = *self;
        let about = format!("{operation} of {place}");
        if causes(error).any(|cause| cause.is::<CredentialsError>()) {
            let todo = "no credentials for AWS, so nothing was sent; give the daemon a role or keys";
            return Fault::transient(service, format!("{about}: {todo}: {}", bounded(&chain(error))));
        }
        match error {
            SdkError::ConstructionFailure(_) => Fault::permanent(service, format!("{about}: {}", chain(error))),
            SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_user() => {
                Fault::transient(service, format!("{about}: no connection: {}", chain(error)))
            }
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                match answer.err().code() {
                    Some(code) => self.answered(status, code, answer.err().message().unwrap_or("no message")),
                    None => self.unreadable(status, &chain(error)),
                }
            }
            SdkError::ResponseError(answer) => self.unreadable(answer.raw().status().as_u16(), &chain(error)),
            _ => self.unanswered(&chain(error)),
        }
    }

    /// No answer came, so a write may have been done.
    fn unanswered(&self, why: &str) -> Fault {
        let Self { service, operation, place, writes, .. } = *self;
        let text = format!("{operation} of {place}: no answer: {}", bounded(why));
        if writes { Fault::unknown(service, text) } else { Fault::transient(service, text) }
    }

    /// Something answered that does not speak as the service does: a proxy in between, or another server.
    fn unreadable(&self, status: u16, why: &str) -> Fault {
        let Self { service, operation, place, writes, .. } = *self;
        let todo = "look at what stands between the daemon and AWS, and at AWS_ENDPOINT_URL";
        let text = format!(
            "{operation} of {place}: answered with status {status}, and not as AWS does: {todo}: {}",
            bounded(why)
        );
        match status {
            400..500 => Fault::permanent(service, text),
            _ if writes => Fault::unknown(service, text),
            _ => Fault::transient(service, text),
        }
    }

    /// AWS refused.
    fn answered(&self, status: u16, code: &str, message: &str) -> Fault {
        let Self { service, operation, place, .. } = *self;
        let says = bounded(message);
        if THROTTLED.contains(&code) || status == 429 {
            let text = format!("{operation} of {place}: AWS limits the calls of this account: {code}: {says}");
            return Fault::transient(service, text);
        }
        // Several callers register revisions of one family at the same time: ECS says so with the code for everything.
        if status >= 500 || message.contains("Too many concurrent attempts") {
            return Fault::transient(service, format!("{operation} of {place}: {code}: {says}"));
        }
        if EXPIRED.contains(&code) || (UNKNOWN_KEY.contains(&code) && message.contains("Signature expired")) {
            let todo = "renew the AWS credentials of the daemon, or look at its clock";
            return Fault::transient(service, format!("{operation} of {place}: {todo}: {code}: {says}"));
        }
        if UNKNOWN_KEY.contains(&code) {
            let todo = "AWS does not know the credentials of the daemon: correct them";
            return Fault::permanent(service, format!("{operation} of {place}: {todo}: {code}: {says}"));
        }
        // What a role may pass on, or a tag, is refused with the code for everything.
        if is_denial(code, message) {
            return Fault::permanent(service, self.denied(message));
        }
        Fault::permanent(service, format!("{operation} of {place}: {}{code}: {says}", (self.remedy)(code, message)))
    }

    /// A missing permission: AWS's text names it where it is another one than that of the call, such as `iam:PassRole`.
    fn denied(&self, message: &str) -> String {
        // The prefix of actions is the name without spaces.
        let own = format!("{}:{}", self.service.replace(' ', ""), self.operation);
        let action = word_after(message, NOT_AUTHORIZED).unwrap_or(&own);
        let resource = if action == own { None } else { word_after(message, "on resource: ") };
        let resource = resource.unwrap_or(self.place);
        let todo = "add it to the role that the daemon runs with (docs/aws.md lists all)";
        format!("not allowed: {action} on {resource}; {todo}; AWS says: {}", bounded(message))
    }
}

/// Whether AWS refused what was asked, and not who asked: another question may be answered.
pub fn is_about_the_question<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata,
{
    let SdkError::ServiceError(answer) = error else { return false };
    let (status, Some(code)) = (answer.raw().status().as_u16(), answer.err().code()) else { return false };
    let is_about_the_caller = [&THROTTLED[..], &EXPIRED, &UNKNOWN_KEY].iter().any(|codes| codes.contains(&code));
    let message = answer.err().message().unwrap_or_default();
    (400..500).contains(&status) && status != 429 && !is_about_the_caller && !is_denial(code, message)
}

/// Whether AWS refused a call for there being too many; the SDK has tried again by then.
pub fn is_throttled<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata,
{
    let SdkError::ServiceError(answer) = error else { return false };
    answer.raw().status().as_u16() == 429 || answer.err().code().is_some_and(|code| THROTTLED.contains(&code))
}

fn is_denial(code: &str, message: &str) -> bool {
    DENIED.contains(&code) || message.contains(NOT_AUTHORIZED)
}

/// The word behind a phrase.
fn word_after<'a>(text: &'a str, phrase: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(phrase)?;
    rest.split_whitespace().next()
}

/// A text of others with an end: 400 characters at most.
#[must_use]
pub fn bounded(text: &str) -> String {
    if text.chars().count() <= LONGEST_MESSAGE {
        return text.to_owned();
    }
    text.chars().take(LONGEST_MESSAGE).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests;
