//! What a virtual node does as a client, and how it logs (App Mesh API 2019-01-25, `Backend`, `ClientPolicy`,
//! `Logging`).

use serde::Deserialize;

/// `Backend`: a union with one member so far.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Backend {
    /// A virtual service that the node calls.
    VirtualService(VirtualServiceBackend),
}

/// `VirtualServiceBackend`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualServiceBackend {
    /// Name or ARN; whether it exists is not checked, so that cycles and any order of creation work.
    pub virtual_service_name: String,
    /// Replaces the node's `backendDefaults` for this backend.
    pub client_policy: Option<ClientPolicy>,
}

/// `BackendDefaults`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendDefaults {
    /// For backends without one of their own.
    pub client_policy: Option<ClientPolicy>,
}

/// `ClientPolicy`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ClientPolicy {
    /// How TLS is used.
    pub tls: Option<ClientTls>,
}

/// `ClientPolicyTls`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ClientTls {
    /// Absent means true.
    pub enforce: Option<bool>,
    /// Ports that the policy is for; none means all.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// What is shown to the server: a file or an SDS secret.
    pub certificate: Option<Certificate>,
    /// What is asked of the server.
    pub validation: ClientValidation,
}

/// `TlsValidationContext`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientValidation {
    /// Who signs servers' certificates.
    pub trust: Trust,
    /// Which names they may carry.
    pub subject_alternative_names: Option<SubjectNames>,
}

/// `ListenerTlsCertificate` and `ClientTlsCertificate`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Certificate {
    /// From AWS Certificate Manager; listeners only.
    #[serde(rename_all = "camelCase")]
    Acm {
        /// ARN.
        certificate_arn: String,
    },
    /// From files beside the proxy.
    #[serde(rename_all = "camelCase")]
    File {
        /// Path of the chain, PEM.
        certificate_chain: String,
        /// Path of the key, PEM.
        private_key: String,
    },
    /// From Envoy's secret discovery service.
    #[serde(rename_all = "camelCase")]
    Sds {
        /// Name of the secret.
        secret_name: String,
    },
}

/// `TlsValidationContextTrust` and `ListenerTlsValidationContextTrust`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Trust {
    /// Private certificate authorities in AWS; client side only.
    #[serde(rename_all = "camelCase")]
    Acm {
        /// ARNs, one to three.
        certificate_authority_arns: Vec<String>,
    },
    /// A file beside the proxy.
    #[serde(rename_all = "camelCase")]
    File {
        /// Path of the chain, PEM.
        certificate_chain: String,
    },
    /// From Envoy's secret discovery service.
    #[serde(rename_all = "camelCase")]
    Sds {
        /// Name of the secret.
        secret_name: String,
    },
}

/// `SubjectAlternativeNames`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SubjectNames {
    /// Any of them will do.
    #[serde(rename = "match")]
    pub matches: SubjectNameMatchers,
}

/// `SubjectAlternativeNameMatchers`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SubjectNameMatchers {
    /// Whole names.
    pub exact: Vec<String>,
}

/// `Logging`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    /// One line per request.
    pub access_log: Option<AccessLog>,
}

/// `AccessLog`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AccessLog {
    /// Into a file.
    File {
        /// Its path; `/dev/stdout` for standard output.
        path: String,
        /// Absent means Envoy's default text.
        format: Option<LoggingFormat>,
    },
}

/// `LoggingFormat`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LoggingFormat {
    /// Verbatim; a newline is the user's to add.
    Text(String),
    /// One JSON object per line, in the order of the list.
    Json(Vec<JsonFormatEntry>),
}

/// `JsonFormatRef`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JsonFormatEntry {
    /// Member name.
    pub key: String,
    /// Format of its value.
    pub value: String,
}
