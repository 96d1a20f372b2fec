//! The certificate that the API shows: checked when the process starts, read again when its files change.
//!
//! What is wrong with the files is told with their names at the start. Later on a change that is wrong (half of it written,
//! a key that does not belong to the certificate) is told in the log, and the last good certificate stays.

use crate::base::time::Timestamp;
use crate::clock::{Clock, SystemClock};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A certificate chain has a few kB; more than this is another file.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// A certificate that ends this soon is told in the log: time enough to renew it by hand.
const SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What is wrong with a certificate or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file that is not to be had.
    #[error("{what} {file} cannot be read: {why}")]
    Unreadable {
        /// `the certificate` or `the key`.
        what: &'static str,
        /// The file.
        file: String,
        /// What the system says.
        why: String,
    },
    /// A file that is not what it should be.
    #[error("{what} {file} is not one: {why}")]
    Malformed {
        /// `the certificate` or `the key`.
        what: &'static str,
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate out of its time.
    #[error("the certificate {file} {why}; renew it, or set this machine's clock")]
    OutOfTime {
        /// The file.
        file: String,
        /// `ended at …`, `begins at …`.
        why: String,
    },
    /// A key of another certificate.
    #[error(
        "the key {key} does not belong to the certificate {certificate} (the first one in the file must be the server's own)"
    )]
    Mismatch {
        /// File of the key.
        key: String,
        /// File of the certificate.
        certificate: String,
    },
}

/// What reading the files again came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// They are as they were.
    Unchanged,
    /// Connections from now on see the new certificate.
    Changed,
    /// The new ones are not usable, or were found so before; the last good ones stay.
    Kept(TlsError),
}

/// The contents of both files. Not `Debug`: one of them is a key.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate with its key, as it is now.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// What was read last, usable or not: the same is not told again.
    seen: Mutex<Option<Files>>,
    config: ArcSwap<ServerConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// [`TlsError`]: it names the file and what is wrong with it.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::load_at(certificate, key, SystemClock.now())
    }

    /// The same at another time, for tests.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn load_at(certificate: &Path, key: &Path, now: Timestamp) -> Result<Self, TlsError> {
        let files = read(certificate, key)?;
        let config = config(certificate, key, &files, now)?;
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Ok(Self { certificate, key, seen: Mutex::new(Some(files)), config: ArcSwap::from_pointee(config) })
    }

    /// What a connection begins with.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }

    /// Reads the files again. Few kB each, so their content is compared and not their times, which symbolic links and
    /// copies hide.
    pub fn reload(&self, now: Timestamp) -> Reloaded {
        let read = read(&self.certificate, &self.key);
        let found = read.as_ref().ok().cloned();
        {
            // Valid after any panic: it is one value.
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == found {
                return Reloaded::Unchanged;
            }
            *seen = found;
        }
        match read.and_then(|files| config(&self.certificate, &self.key, &files, now)) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                Reloaded::Changed
            }
            Err(error) => Reloaded::Kept(error),
        }
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Files, TlsError> {
    let file = |what, path: &Path| {
        let unreadable = |why: String| TlsError::Unreadable { what, file: path.display().to_string(), why };
        let length = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if length > FILE_MAX_BYTES {
            return Err(unreadable(format!("it has {length} bytes, and {FILE_MAX_BYTES} is the most")));
        }
        std::fs::read(path).map_err(|error| unreadable(error.to_string()))
    };
    Ok(Files { certificate: file("the certificate", certificate)?, key: file("the key", key)? })
}

fn config(certificate: &Path, key: &Path, files: &Files, now: Timestamp) -> Result<ServerConfig, TlsError> {
    let malformed =
        |what, path: &Path, why: String| TlsError::Malformed { what, file: path.display().to_string(), why };
    let bad_certificate = |why: String| malformed("the certificate", certificate, why);
    let bad_key = |why: String| malformed("the key", key, why);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&files.certificate).collect();
    let chain = chain.map_err(|error| bad_certificate(format!("its PEM is damaged ({error})")))?;
    let Some(first) = chain.first() else {
        return Err(bad_certificate("it has no line `-----BEGIN CERTIFICATE-----`".to_owned()));
    };
    in_its_time(certificate, first, now)?;
    // The reader's own words may quote the line that it could not read.
    let secret = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| {
        bad_key("it has no private key in PEM that can be read (PKCS#8, PKCS#1 or SEC1, not encrypted)".into())
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certified = match CertifiedKey::from_der(chain, secret, &provider) {
        Ok(certified) => certified,
        Err(rustls::Error::InconsistentKeys(_)) => {
            let (key, certificate) = (key.display().to_string(), certificate.display().to_string());
            return Err(TlsError::Mismatch { key, certificate });
        }
        Err(error @ rustls::Error::InvalidCertificate(_)) => return Err(bad_certificate(error.to_string())),
        Err(error) => return Err(bad_key(error.to_string())),
    };
    server_config(provider, certified).map_err(|error| bad_certificate(error.to_string()))
}

fn server_config(provider: Arc<CryptoProvider>, certified: CertifiedKey) -> Result<ServerConfig, rustls::Error> {
    // TLS 1.2 and 1.3, which is all there is in this library.
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let resolver = SingleCertAndKey::from(certified);
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Clients refuse a certificate out of its time, all of them and at once: better said here.
fn in_its_time(file: &Path, certificate: &CertificateDer<'_>, now: Timestamp) -> Result<(), TlsError> {
    let name = file.display().to_string();
    let parsed = webpki::EndEntityCert::try_from(certificate);
    let parsed = parsed.map_err(|error| TlsError::Malformed {
        what: "the certificate",
        file: name.clone(),
        why: format!("it cannot be used by a server ({error})"),
    })?;
    let at =
        |time: UnixTime| Timestamp(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000)).rfc3339();
    // Its time is what a verifier looks at first; that nothing vouches for it here is no finding.
    let judged = |now: Timestamp| {
        let seconds = u64::try_from(now.0 / 1000).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let usage = webpki::KeyUsage::server_auth();
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        parsed.verify_for_usage(algorithms, &[], &[], now, usage, None, None).map(drop)
    };
    match judged(now) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            Err(TlsError::OutOfTime { file: name, why: format!("ended at {}", at(not_after)) })
        }
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => {
            Err(TlsError::OutOfTime { file: name, why: format!("begins at {}", at(not_before)) })
        }
        _ => {
            let soon = i64::try_from(SOON.as_millis()).unwrap_or_default();
            if let Err(webpki::Error::CertExpired { not_after, .. }) = judged(Timestamp(now.0.saturating_add(soon))) {
                tracing::warn!(file = name, ends = at(not_after), "the certificate ends within a week: renew it");
            }
            Ok(())
        }
    }
}
