//! Certificates of a case file.

use super::case::Certificate;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Writes all of them, and their authorities.
pub(super) fn write(folder: &Path, wanted: &BTreeMap<String, Certificate>) {
    let mut authorities: BTreeMap<&str, Issuer<'static, KeyPair>> = BTreeMap::new();
    for (name, certificate) in wanted {
        let issuer = authorities.entry(&certificate.by).or_insert_with(|| authority(folder, &certificate.by));
        let key = KeyPair::generate().unwrap();
        let signed = CertificateParams::new(certificate.names.clone()).unwrap().signed_by(&key, issuer).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), signed.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn authority(folder: &Path, name: &str) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
    Issuer::new(params, key)
}

fn chain(folder: &Path, name: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(folder.join(format!("{name}.pem"))).unwrap().map(Result::unwrap).collect()
}

fn key(folder: &Path, name: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).unwrap()
}

fn roots(folder: &Path, name: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(chain(folder, name));
    roots
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A server that shows `name`, and asks clients for one of `clients`.
pub(super) fn server(folder: &Path, name: &str, clients: Option<&str>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(roots(folder, authority));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    Arc::new(builder.with_single_cert(chain(folder, name), key(folder, name)).unwrap())
}

/// A client that believes every authority of the folder, and shows `name`.
pub(super) fn client(folder: &Path, name: Option<&str>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            roots.add_parsable_certificates(CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap));
        }
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(match name {
        None => builder.with_no_client_auth(),
        Some(name) => builder.with_client_auth_cert(chain(folder, name), key(folder, name)).unwrap(),
    })
}
