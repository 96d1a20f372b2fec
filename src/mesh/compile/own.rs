//! The node or gateway that a proxy runs for.

use super::cluster::{certificate, ip_preference, mesh_preference, subject_names, trust};
use super::{idle_timeout, protocol, request_timeout};
use crate::mesh::model::Resource;
use crate::mesh::model::spec::{
    AccessLog, ConnectionPool, EgressFilterType, Listener, ListenerTls, Logging, LoggingFormat, TlsMode,
    VirtualGatewaySpec, VirtualNodeSpec,
};
use crate::mesh::snapshot::{self, GatewayRoute, LogFormat, Own, Pool, Protocol, Role, ServerTls, ServerTlsMode};
use std::sync::Arc;

/// A virtual node.
pub(super) fn node(mesh: &Resource, name: &str, spec: &VirtualNodeSpec) -> Own {
    Own {
        mesh: mesh.key.name.clone(),
        name: name.to_owned(),
        role: Role::Node,
        listeners: spec.listeners.iter().map(listener).collect(),
        allow_all: allow_all(mesh),
        access_log: access_log(spec.logging.as_ref()),
        ip_preference: ip_preference(spec, Some(mesh)),
    }
}

/// A virtual gateway with its compiled routes.
pub(super) fn gateway(mesh: &Resource, name: &str, spec: &VirtualGatewaySpec, routes: Vec<Arc<GatewayRoute>>) -> Own {
    Own {
        mesh: mesh.key.name.clone(),
        name: name.to_owned(),
        role: Role::Gateway(routes),
        listeners: spec.listeners.iter().map(listener).collect(),
        // A gateway lets in; what it lets out is what its routes lead to.
        allow_all: false,
        access_log: access_log(spec.logging.as_ref()),
        ip_preference: mesh_preference(Some(mesh)),
    }
}

/// Absent means `DROP_ALL` (App Mesh API 2019-01-25, `EgressFilter`).
fn allow_all(mesh: &Resource) -> bool {
    let filter = mesh.spec.mesh().and_then(|spec| spec.egress_filter);
    filter.is_some_and(|filter| filter.kind == EgressFilterType::AllowAll)
}

fn listener(listener: &Listener) -> snapshot::Listener {
    let timeouts = listener.timeout.as_ref().map(|timeout| timeout.timeouts());
    let protocol = protocol(listener.port_mapping.protocol);
    snapshot::Listener {
        port: listener.port_mapping.port,
        protocol,
        request_timeout: request_timeout(timeouts).filter(|_| protocol != Protocol::Tcp),
        idle_timeout: idle_timeout(timeouts),
        pool: listener.connection_pool.as_ref().map(pool),
        tls: listener.tls.as_ref().and_then(server_tls),
    }
}

fn pool(pool: &ConnectionPool) -> Pool {
    match *pool {
        ConnectionPool::Http { max_connections, max_pending_requests } => {
            Pool { connections: Some(max_connections), pending: max_pending_requests, requests: None }
        }
        ConnectionPool::Http2 { max_requests } | ConnectionPool::Grpc { max_requests } => {
            Pool { requests: Some(max_requests), ..Pool::default() }
        }
        ConnectionPool::Tcp { max_connections } => Pool { connections: Some(max_connections), ..Pool::default() },
    }
}

fn server_tls(tls: &ListenerTls) -> Option<ServerTls> {
    let mode = match tls.mode {
        TlsMode::Strict => ServerTlsMode::Strict,
        TlsMode::Permissive => ServerTlsMode::Permissive,
        TlsMode::Disabled => return None,
    };
    let validation = tls.validation.as_ref();
    Some(ServerTls {
        mode,
        certificate: certificate(&tls.certificate),
        client_trust: validation.map(|validation| trust(&validation.trust)),
        client_names: subject_names(validation.and_then(|validation| validation.subject_alternative_names.as_ref())),
    })
}

fn access_log(logging: Option<&Logging>) -> Option<snapshot::AccessLog> {
    let AccessLog::File { path, format } = logging?.access_log.as_ref()?;
    let format = match format {
        None => LogFormat::Default,
        Some(LoggingFormat::Text(text)) => LogFormat::Text(text.clone()),
        Some(LoggingFormat::Json(entries)) => {
            LogFormat::Json(entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect())
        }
    };
    Some(snapshot::AccessLog { path: path.clone(), format })
}
