//! Whose certificates are believed: a chain to one of the authorities, and one of the names (appmesh "TLS"). As Envoy judges:
//! without authorities anything is believed, without names any name is.

use crate::tls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// A judge of the certificates that the other side shows.
#[derive(Debug)]
pub(super) struct Judge {
    /// `None` believes anything.
    authorities: Option<Authorities>,
    /// Of which one must be the certificate's; empty for any.
    names: Vec<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Whom to believe.
#[derive(Debug)]
struct Authorities {
    roots: Arc<RootCertStore>,
    /// The same as they came: a certificate that vouches for itself is believed where it is one of them.
    certificates: Vec<CertificateDer<'static>>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Judge {
    /// One that believes these authorities (of PEM that people call `name`), or anything.
    ///
    /// # Errors
    /// They cannot be used, and why.
    pub(super) fn new(believed: Option<(&str, &[u8])>, names: Vec<String>) -> Result<Self, String> {
        let provider = tls::provider();
        let algorithms = provider.signature_verification_algorithms;
        let authorities = believed.map(|(name, pem)| {
            let (certificates, roots) = tls::authorities(name.as_ref(), pem).map_err(|error| error.to_string())?;
            let roots = Arc::new(roots);
            let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider).build();
            let clients = clients.map_err(|error| format!("{name}: {error}"))?;
            Ok::<_, String>(Authorities { roots, certificates, clients })
        });
        Ok(Self { authorities: authorities.transpose()?, names, algorithms })
    }

    /// Whether an error of the chain is none, since the certificate itself is among those that are believed. Its time was
    /// looked at before this can be found.
    fn is_itself_believed(authorities: &Authorities, error: &Error, certificate: &CertificateDer<'_>) -> bool {
        let vouches_for_itself = match error {
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
            }
            _ => false,
        };
        vouches_for_itself && authorities.certificates.iter().any(|known| known == certificate)
    }

    fn judge_name(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let has = |name: &String| has_name(certificate, &parsed, name);
        if self.names.is_empty() || self.names.iter().any(has) {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }
}

/// Whether a certificate has a name: an address, a URI (SPIFFE), or a host name, for which a wildcard of the certificate
/// counts. A name that stands elsewhere than among the alternative ones (`CN`) is none.
fn has_name(certificate: &CertificateDer<'_>, parsed: &ParsedCertificate<'_>, name: &str) -> bool {
    if name.contains("://") {
        return tls::uris(certificate).iter().any(|uri| uri == name);
    }
    ServerName::try_from(name).is_ok_and(|name| verify_server_name(parsed, &name).is_ok())
}

/// What servers and clients prove alike: that the key of what they show is theirs.
macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, certificate, signed, &self.algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signed, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let chain = verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &authorities.roots,
            intermediates,
            now,
            self.algorithms.all,
        );
        match chain {
            Err(error) if !Self::is_itself_believed(authorities, &error, end_entity) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.judge_name(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.as_ref().map_or(&[], |authorities| authorities.clients.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            match authorities.clients.verify_client_cert(end_entity, intermediates, now) {
                Err(error) if !Self::is_itself_believed(authorities, &error, end_entity) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        self.judge_name(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    signatures!();
}
