//! AWS error codes and their statuses (App Mesh API 2019-01-25, the `errors` of each operation). Codes live only here.

use crate::mesh::model::Key;
use std::fmt;

/// Codes that an operation may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The request is malformed or breaks a rule.
    BadRequest,
    /// Not allowed.
    Forbidden,
    /// Something that it names is not there.
    NotFound,
    /// The name is taken, the client token was used for something else, or the generation is stale.
    Conflict,
    /// Something else needs it.
    ResourceInUse,
    /// A quota is full. 400, not 429, as the model has it.
    LimitExceeded,
    /// More than 50 tags.
    TooManyTags,
    /// Slow down.
    TooManyRequests,
    /// A fault of ours.
    InternalServerError,
    /// The store does not answer; try again.
    ServiceUnavailable,
    /// No such operation. Not in the model: what AWS front ends answer for an unknown path.
    UnknownOperation,
    /// The request is not signed. This and the three below are not in the model either: every service of AWS answers them.
    MissingAuthenticationToken,
    /// Its signature lacks something, or is of another form.
    IncompleteSignature,
    /// Nobody has this access key.
    UnrecognizedClient,
    /// The signature is not the one that the key makes, or not for here and now.
    InvalidSignature,
}

impl ErrorCode {
    /// Value of `x-amzn-ErrorType`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequestException",
            Self::Forbidden => "ForbiddenException",
            Self::NotFound => "NotFoundException",
            Self::Conflict => "ConflictException",
            Self::ResourceInUse => "ResourceInUseException",
            Self::LimitExceeded => "LimitExceededException",
            Self::TooManyTags => "TooManyTagsException",
            Self::TooManyRequests => "TooManyRequestsException",
            Self::InternalServerError => "InternalServerErrorException",
            Self::ServiceUnavailable => "ServiceUnavailableException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Self::IncompleteSignature => "IncompleteSignatureException",
            Self::UnrecognizedClient => "UnrecognizedClientException",
            Self::InvalidSignature => "InvalidSignatureException",
        }
    }

    /// HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::LimitExceeded | Self::TooManyTags => 400,
            Self::Forbidden
            | Self::MissingAuthenticationToken
            | Self::IncompleteSignature
            | Self::UnrecognizedClient
            | Self::InvalidSignature => 403,
            Self::NotFound | Self::UnknownOperation => 404,
            Self::Conflict | Self::ResourceInUse => 409,
            Self::TooManyRequests => 429,
            Self::InternalServerError => 500,
            Self::ServiceUnavailable => 503,
        }
    }
}

/// One thing wrong with a request, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path in the body: `spec.httpRoute.action.weightedTargets[1].weight`.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// How many violations one message tells. A person reads the first few; the rest would only fill a log.
const VIOLATIONS_TOLD: usize = 50;

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Code.
    pub code: ErrorCode,
    /// For the caller; names everything that is wrong.
    pub message: String,
    /// Where in the body, when it is somewhere there; for `NotFound` of a target the member that names it.
    pub violations: Vec<Violation>,
}

impl ApiError {
    /// An error that is not about one place in the body.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), violations: Vec::new() }
    }

    /// The same error, about one place in the body.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.violations.push(Violation { path: path.into(), message: self.message.clone() });
        self
    }

    /// A malformed request, with all that is wrong with it.
    #[must_use]
    pub fn invalid(violations: Vec<Violation>) -> Self {
        let mut message = String::new();
        for violation in violations.iter().take(VIOLATIONS_TOLD) {
            if !message.is_empty() {
                message.push_str("; ");
            }
            message.push_str(&violation.to_string());
        }
        if violations.len() > VIOLATIONS_TOLD {
            message.push_str(&format!("; and {} more", violations.len() - VIOLATIONS_TOLD));
        }
        Self { code: ErrorCode::BadRequest, message, violations }
    }

    /// The resource is not there, in the words of AWS.
    #[must_use]
    pub fn not_found(key: &Key, account: &str) -> Self {
        let title = key.kind.title();
        let message = match key.owner() {
            None => format!("Mesh with name {} is not present for account {account}", key.name),
            Some(parent) if !key.parent.is_empty() => format!(
                "{title} with name {} is not present under {} {} in mesh {} for account {account}",
                key.name,
                parent.kind.title(),
                key.parent,
                key.mesh
            ),
            Some(_) => {
                format!("{title} with name {} is not present under mesh {} for account {account}", key.name, key.mesh)
            }
        };
        Self::new(ErrorCode::NotFound, message)
    }
}
