//! TLS towards other nodes, and of the own listeners.

use super::pieces::{any, by_ads, truth};
use super::{Translation, Type};
use crate::base::certificate::SecretPem;
use crate::mesh::snapshot::{Certificate, Protocol, ServerTls, Trust, UpstreamTls};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use std::net::IpAddr;

/// Cluster of the SDS server beside the proxy, which the bootstrap defines (appmesh "TLS").
const SDS_CLUSTER: &str = "static_cluster_sds_unix_socket";

/// The transport socket towards a node, or what is missing.
pub(super) fn upstream(
    out: &mut Translation<'_>,
    wanted: &UpstreamTls,
    protocol: Protocol,
) -> Result<core::TransportSocket, String> {
    let mut common = tls::CommonTlsContext { alpn_protocols: alpn(protocol), ..Default::default() };
    if let Some(certificate) = &wanted.certificate {
        show(out, &mut common, certificate)?;
    }
    if let Some(trust) = &wanted.trust {
        common.validation_context_type = Some(believe(out, trust, &wanted.names)?);
    }
    let sni = wanted.server_name.clone().filter(|name| name.parse::<IpAddr>().is_err()).unwrap_or_default();
    let context = tls::UpstreamTlsContext { common_tls_context: Some(common), sni, ..Default::default() };
    Ok(socket(any(&context)))
}

/// The transport socket of an own listener, or what is missing.
pub(super) fn downstream(
    out: &mut Translation<'_>,
    own: &ServerTls,
    protocol: Protocol,
) -> Result<core::TransportSocket, String> {
    let mut common = tls::CommonTlsContext { alpn_protocols: alpn(protocol), ..Default::default() };
    show(out, &mut common, &own.certificate)?;
    if let Some(trust) = &own.client_trust {
        common.validation_context_type = Some(believe(out, trust, &own.client_names)?);
    }
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: own.client_trust.as_ref().and_then(|_| truth(true)),
        ..Default::default()
    };
    Ok(socket(any(&context)))
}

fn socket(context: envoy_types::pb::google::protobuf::Any) -> core::TransportSocket {
    core::TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(context)),
    }
}

fn alpn(protocol: Protocol) -> Vec<String> {
    match protocol {
        Protocol::Http => vec!["http/1.1".into()],
        Protocol::Http2 | Protocol::Grpc => vec!["h2".into()],
        Protocol::Tcp => Vec::new(),
    }
}

fn file(path: &str) -> Option<core::DataSource> {
    Some(core::DataSource {
        specifier: Some(core::data_source::Specifier::Filename(path.to_owned())),
        ..Default::default()
    })
}

fn inline(text: &str) -> Option<core::DataSource> {
    let specifier = core::data_source::Specifier::InlineString(text.to_owned());
    Some(core::DataSource { specifier: Some(specifier), ..Default::default() })
}

/// A secret of the SDS server beside the proxy.
fn beside(name: &str) -> tls::SdsSecretConfig {
    use core::config_source::ConfigSourceSpecifier;
    let service = core::GrpcService {
        target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(core::grpc_service::EnvoyGrpc {
            cluster_name: SDS_CLUSTER.into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let source = core::ApiConfigSource {
        api_type: core::api_config_source::ApiType::Grpc.into(),
        transport_api_version: core::ApiVersion::V3.into(),
        grpc_services: vec![service],
        ..Default::default()
    };
    let source = core::ConfigSource {
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(source)),
        ..Default::default()
    };
    tls::SdsSecretConfig { name: name.to_owned(), sds_config: Some(source) }
}

/// A secret that this control plane hands out.
fn ours(name: &str) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig { name: name.to_owned(), sds_config: by_ads() }
}

fn pem<'s>(out: &Translation<'s>, arn: &str) -> Result<&'s SecretPem, String> {
    out.secrets.by_name.get(arn).ok_or_else(|| no_stand_in(arn))
}

/// What is wrong with an ARN without files.
pub(super) fn no_stand_in(arn: &str) -> String {
    format!(
        "nothing stands in for {arn} of AWS Certificate Manager; name its files in [mesh.certificates] of the control plane"
    )
}

/// What is shown to the other side.
fn show(
    out: &mut Translation<'_>,
    common: &mut tls::CommonTlsContext,
    certificate: &Certificate,
) -> Result<(), String> {
    match certificate {
        Certificate::File { chain, key } => common.tls_certificates.push(tls::TlsCertificate {
            certificate_chain: file(chain),
            private_key: file(key),
            ..Default::default()
        }),
        Certificate::Sds { secret } => common.tls_certificate_sds_secret_configs.push(beside(secret)),
        Certificate::Acm { arn } => {
            let pem = pem(out, arn)?;
            let certificate = tls::TlsCertificate {
                certificate_chain: inline(&pem.chain),
                private_key: inline(pem.key.reveal()),
                ..Default::default()
            };
            let secret =
                tls::Secret { name: arn.clone(), r#type: Some(tls::secret::Type::TlsCertificate(certificate)) };
            out.resources.add(Type::Secret, arn, any(&secret));
            common.tls_certificate_sds_secret_configs.push(ours(arn));
        }
    }
    Ok(())
}

/// Whom to believe, and under which names.
fn believe(
    out: &mut Translation<'_>,
    trust: &Trust,
    names: &[String],
) -> Result<tls::common_tls_context::ValidationContextType, String> {
    use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
    let context = tls::CertificateValidationContext {
        match_typed_subject_alt_names: names.iter().map(|name| name_matcher(name)).collect(),
        ..Default::default()
    };
    let combined = |context, secret| {
        ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
            default_validation_context: Some(context),
            validation_context_sds_secret_config: Some(secret),
            ..Default::default()
        })
    };
    Ok(match trust {
        Trust::File { chain } => ValidationContextType::ValidationContext(tls::CertificateValidationContext {
            trusted_ca: file(chain),
            ..context
        }),
        Trust::Sds { secret } => combined(context, beside(secret)),
        Trust::Acm { arns } => {
            let mut authorities = String::new();
            for arn in arns {
                authorities.push_str(&pem(out, arn)?.authorities);
            }
            ValidationContextType::ValidationContext(tls::CertificateValidationContext {
                trusted_ca: inline(&authorities),
                ..context
            })
        }
    })
}

/// A name of a certificate: an address, a URI (SPIFFE), or a host name, for which a wildcard of the certificate counts.
fn name_matcher(name: &str) -> tls::SubjectAltNameMatcher {
    use tls::subject_alt_name_matcher::SanType;
    let kind = if name.parse::<IpAddr>().is_ok() {
        SanType::IpAddress
    } else if name.contains("://") {
        SanType::Uri
    } else {
        SanType::Dns
    };
    let pattern = matcher::string_matcher::MatchPattern::Exact(name.to_owned());
    tls::SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() }),
        ..Default::default()
    }
}
