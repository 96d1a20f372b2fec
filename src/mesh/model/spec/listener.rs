//! What a virtual node listens on (App Mesh API 2019-01-25, `Listener`).

use super::Span;
use super::{Certificate, SubjectNames, Trust};
use serde::Deserialize;

/// `PortProtocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// HTTP/1.1.
    Http,
    /// Bytes.
    Tcp,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
}

impl PortProtocol {
    /// As the API writes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
        }
    }
}

/// `PortMapping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct PortMapping {
    /// 1 to 65535.
    pub port: u16,
    /// What is spoken there.
    pub protocol: PortProtocol,
}

/// `Listener`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Port and protocol.
    pub port_mapping: PortMapping,
    /// How clients find out whether an endpoint is well.
    pub health_check: Option<HealthCheckPolicy>,
    /// How long requests may take.
    pub timeout: Option<ListenerTimeout>,
    /// How much at once.
    pub connection_pool: Option<ConnectionPool>,
    /// When clients turn away from an endpoint that fails.
    pub outlier_detection: Option<OutlierDetection>,
    /// Encryption.
    pub tls: Option<ListenerTls>,
}

/// `HealthCheckPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckPolicy {
    /// Good checks in a row that make an endpoint healthy, 2 to 10.
    pub healthy_threshold: u32,
    /// Bad checks in a row that make it unhealthy, 2 to 10.
    pub unhealthy_threshold: u32,
    /// Milliseconds between checks, 5000 to 300000.
    pub interval_millis: u64,
    /// Milliseconds allowed for a check, 2000 to 60000.
    pub timeout_millis: u64,
    /// How it is asked.
    pub protocol: PortProtocol,
    /// Where; the listener's port.
    pub port: Option<u16>,
    /// What is asked for; http and http2 only.
    pub path: Option<String>,
}

/// `ListenerTimeout`: one member, that of the listener's protocol.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenerTimeout {
    /// Of an http listener.
    Http(Timeouts),
    /// Of an http2 listener.
    Http2(Timeouts),
    /// Of a grpc listener.
    Grpc(Timeouts),
    /// Of a tcp listener, where `perRequest` does not exist.
    Tcp(Timeouts),
}

impl ListenerTimeout {
    /// Protocol that its member names.
    #[must_use]
    pub fn protocol(&self) -> PortProtocol {
        match self {
            Self::Http(_) => PortProtocol::Http,
            Self::Http2(_) => PortProtocol::Http2,
            Self::Grpc(_) => PortProtocol::Grpc,
            Self::Tcp(_) => PortProtocol::Tcp,
        }
    }

    /// The timeouts, whatever the protocol.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        match self {
            Self::Http(t) | Self::Http2(t) | Self::Grpc(t) | Self::Tcp(t) => *t,
        }
    }
}

/// `HttpTimeout`, `GrpcTimeout` and `TcpTimeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// Whole request, retries included; 0 disables.
    pub per_request: Option<Span>,
    /// Without a byte; 0 disables.
    pub idle: Option<Span>,
}

/// `VirtualNodeConnectionPool`: one member, that of the listener's protocol.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConnectionPool {
    /// Of an http listener.
    #[serde(rename_all = "camelCase")]
    Http {
        /// At least 1.
        max_connections: u32,
        /// At least 1; absent means no limit.
        max_pending_requests: Option<u32>,
    },
    /// Of an http2 listener.
    #[serde(rename_all = "camelCase")]
    Http2 {
        /// At least 1.
        max_requests: u32,
    },
    /// Of a grpc listener.
    #[serde(rename_all = "camelCase")]
    Grpc {
        /// At least 1.
        max_requests: u32,
    },
    /// Of a tcp listener.
    #[serde(rename_all = "camelCase")]
    Tcp {
        /// At least 1.
        max_connections: u32,
    },
}

impl ConnectionPool {
    /// Protocol that its member names.
    #[must_use]
    pub fn protocol(&self) -> PortProtocol {
        match self {
            Self::Http { .. } => PortProtocol::Http,
            Self::Http2 { .. } => PortProtocol::Http2,
            Self::Grpc { .. } => PortProtocol::Grpc,
            Self::Tcp { .. } => PortProtocol::Tcp,
        }
    }
}

/// `OutlierDetection`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Server errors in a row that eject an endpoint, at least 1.
    pub max_server_errors: u64,
    /// Time between looks.
    pub interval: Span,
    /// How long the first ejection lasts.
    pub base_ejection_duration: Span,
    /// Share of endpoints that may be out at once, 0 to 100.
    pub max_ejection_percent: u8,
}

/// `ListenerTls`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ListenerTls {
    /// Whether it is asked for, allowed or off.
    pub mode: TlsMode,
    /// What it shows.
    pub certificate: Certificate,
    /// What it asks of clients; present means mutual TLS.
    pub validation: Option<ListenerValidation>,
}

/// `ListenerTlsMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TlsMode {
    /// TLS only.
    Strict,
    /// Both.
    Permissive,
    /// Plain text only.
    Disabled,
}

/// `ListenerTlsValidationContext`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerValidation {
    /// Who signs clients' certificates: a file or an SDS secret.
    pub trust: Trust,
    /// Which names they may carry; absent means any.
    pub subject_alternative_names: Option<SubjectNames>,
}
