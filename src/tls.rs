//! The certificates that listeners show: checked when the process starts, read again when their files change; and files of
//! certificates that are only handed on.
//!
//! What is wrong with the files is told with their names at the start. Later on a change that is wrong (half of it written,
//! a key that does not belong to the certificate) is told in the log, and the last good certificate stays.

use crate::base::certificate::ServerFiles;
use crate::base::secret::Redacted;
use crate::base::time::Timestamp;
use crate::clock::{Clock, SystemClock};
use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A certificate chain has a few kB; more than this is another file.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// Files are looked at so often: whoever renews a certificate waits no longer to see it.
pub const RELOAD: Duration = Duration::from_secs(10);
/// A certificate that ends this soon is told in the log: time enough to renew it by hand.
const SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What is wrong with a certificate or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file that is not to be had.
    #[error("{what} {file} cannot be read: {why}")]
    Unreadable {
        /// `the certificate`, `the key` or `the authorities`.
        what: &'static str,
        /// The file.
        file: String,
        /// What the system says.
        why: String,
    },
    /// A file that is not what it should be.
    #[error("{what} {file} is not one: {why}")]
    Malformed {
        /// `the certificate`, `the key` or `the authorities`.
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

/// The contents of the files. Not `Debug`: one of them is a key.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    clients: Option<Vec<u8>>,
}

/// What connections begin with, by who is expected on them.
struct Configs {
    /// HTTP/1.1, by anyone.
    http1: Arc<ServerConfig>,
    /// HTTP/2, by proxies: with a certificate where one is asked for.
    proxies: Arc<ServerConfig>,
}

/// A certificate with its key, as it is now.
pub struct Tls {
    files: ServerFiles,
    /// What was read last, usable or not: the same is not told again.
    seen: Mutex<Option<Contents>>,
    configs: ArcSwap<Configs>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
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
        Self::open(ServerFiles { certificate: certificate.to_owned(), key: key.to_owned(), clients: None }, now)
    }

    /// Reads the files of a listener.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn open(files: ServerFiles, now: Timestamp) -> Result<Self, TlsError> {
        let contents = contents(&files)?;
        let configs = configs(&files, &contents, now)?;
        Ok(Self { files, seen: Mutex::new(Some(contents)), configs: ArcSwap::from_pointee(configs) })
    }

    /// File of the certificate, by which people tell listeners apart.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.files.certificate
    }

    /// What a connection of HTTP/1.1 begins with.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.configs.load().http1)
    }

    /// What the connection of a proxy begins with, which speaks HTTP/2.
    #[must_use]
    pub fn config_of_proxies(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.configs.load().proxies)
    }

    /// Reads the files again. Few kB each, so their content is compared and not their times, which symbolic links and
    /// copies hide.
    pub fn reload(&self, now: Timestamp) -> Reloaded {
        let read = contents(&self.files);
        let found = read.as_ref().ok().cloned();
        {
            // Valid after any panic: it is one value.
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == found {
                return Reloaded::Unchanged;
            }
            *seen = found;
        }
        match read.and_then(|contents| configs(&self.files, &contents, now)) {
            Ok(configs) => {
                self.configs.store(Arc::new(configs));
                Reloaded::Changed
            }
            Err(error) => Reloaded::Kept(error),
        }
    }
}

/// A certificate and its key that belong together, to be handed on.
pub struct Pair {
    /// PEM, ending with a line.
    pub chain: String,
    /// PEM.
    pub key: Redacted<String>,
    file: PathBuf,
    first: CertificateDer<'static>,
}

impl Pair {
    /// Whether it may be shown now.
    ///
    /// # Errors
    /// [`TlsError::OutOfTime`].
    pub fn in_its_time(&self, now: Timestamp) -> Result<(), TlsError> {
        in_its_time(&self.file, &self.first, now)
    }
}

/// Reads a pair, whatever its time.
///
/// # Errors
/// [`TlsError`]: it names the file and what is wrong with it.
pub fn read_pair(certificate: &Path, key: &Path) -> Result<Pair, TlsError> {
    let (text, secret) = (read(CERTIFICATE, certificate)?, read(KEY, key)?);
    let CertifiedKey { cert, .. } = certified(certificate, key, &text, &secret)?;
    let first = cert.first().cloned().ok_or_else(|| malformed(CERTIFICATE, certificate, NO_CERTIFICATE.into()))?;
    let key = Redacted::new(words(KEY, key, secret)?);
    Ok(Pair { chain: words(CERTIFICATE, certificate, text)?, key, file: certificate.to_owned(), first })
}

/// Reads certificates of authorities: PEM, ending with a line, so that several can stand behind each other.
///
/// # Errors
/// [`TlsError`]: it names the file and what is wrong with it.
pub fn read_authorities(path: &Path) -> Result<String, TlsError> {
    let text = read(AUTHORITIES, path)?;
    authorities(path, &text)?;
    words(AUTHORITIES, path, text)
}

/// Why a certificate of a PEM is out of its time, if it is: the first one, which is whose the others vouch for. `None` also where it
/// cannot be read, which is another error.
#[must_use]
pub fn out_of_time(path: &Path, text: &[u8], now: Timestamp) -> Option<TlsError> {
    let first = CertificateDer::pem_slice_iter(text).next()?.ok()?;
    judged_by_time(path, &first, now).err().filter(|error| matches!(error, TlsError::OutOfTime { .. }))
}

const CERTIFICATE: &str = "the certificate";
const KEY: &str = "the key";
const AUTHORITIES: &str = "the file of authorities";
const NO_CERTIFICATE: &str = "it has no line `-----BEGIN CERTIFICATE-----`";

fn malformed(what: &'static str, path: &Path, why: String) -> TlsError {
    TlsError::Malformed { what, file: path.display().to_string(), why }
}

/// Reads a file of certificates or of a key, which `what` says for people.
///
/// # Errors
/// [`TlsError::Unreadable`].
pub fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |why: String| TlsError::Unreadable { what, file: path.display().to_string(), why };
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() {
        // A pipe or a device may have nothing for ever, or never end.
        return Err(unreadable("it is no file".to_owned()));
    }
    if metadata.len() > FILE_MAX_BYTES {
        return Err(unreadable(format!("it has {} bytes, and {FILE_MAX_BYTES} is the most", metadata.len())));
    }
    std::fs::read(path).map_err(|error| unreadable(error.to_string()))
}

/// PEM is ASCII, and what is around it should be text.
fn words(what: &'static str, path: &Path, bytes: Vec<u8>) -> Result<String, TlsError> {
    // The error's own words may be the file's.
    let mut text = String::from_utf8(bytes).map_err(|_| malformed(what, path, "it is not text".into()))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn contents(files: &ServerFiles) -> Result<Contents, TlsError> {
    let clients = files.clients.as_deref().map(|path| read(AUTHORITIES, path)).transpose()?;
    Ok(Contents { certificate: read(CERTIFICATE, &files.certificate)?, key: read(KEY, &files.key)?, clients })
}

/// The cryptography that all of TLS here uses.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn chain(what: &'static str, path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let chain = chain.map_err(|error| malformed(what, path, format!("its PEM is damaged ({error})")))?;
    if chain.is_empty() { Err(malformed(what, path, NO_CERTIFICATE.into())) } else { Ok(chain) }
}

/// Authorities of a PEM that `path` names for people, every one of them usable: as they came, and to be judged by.
///
/// # Errors
/// [`TlsError::Malformed`].
pub fn authorities(path: &Path, text: &[u8]) -> Result<(Vec<CertificateDer<'static>>, RootCertStore), TlsError> {
    let mut roots = RootCertStore::empty();
    let certificates = chain(AUTHORITIES, path, text)?;
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| malformed(AUTHORITIES, path, error.to_string()))?;
    }
    Ok((certificates, roots))
}

/// A chain with its key, which belong together. The paths name both for people.
///
/// # Errors
/// [`TlsError`]: what is wrong with which of the two.
pub fn certified(certificate: &Path, key: &Path, text: &[u8], secret: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain = chain(CERTIFICATE, certificate, text)?;
    // The reader's own words may quote the line that it could not read.
    let secret = PrivateKeyDer::from_pem_slice(secret).map_err(|_| {
        let why = "it has no private key in PEM that can be read (PKCS#8, PKCS#1 or SEC1, not encrypted)";
        malformed(KEY, key, why.into())
    })?;
    CertifiedKey::from_der(chain, secret, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { key: key.display().to_string(), certificate: certificate.display().to_string() }
        }
        error @ rustls::Error::InvalidCertificate(_) => malformed(CERTIFICATE, certificate, error.to_string()),
        error => malformed(KEY, key, error.to_string()),
    })
}

fn configs(files: &ServerFiles, contents: &Contents, now: Timestamp) -> Result<Configs, TlsError> {
    let ServerFiles { certificate, key, clients } = files;
    let chain = chain(CERTIFICATE, certificate, &contents.certificate)?;
    in_its_time(certificate, &chain[0], now)?;
    let provider = provider();
    let certified = certified(certificate, key, &contents.certificate, &contents.key)?;
    let clients = match (clients, &contents.clients) {
        (Some(path), Some(text)) => Some((path, authorities(path, text)?.1)),
        _ => None,
    };
    let resolver = Arc::new(SingleCertAndKey::from(certified));
    let bad = |error: rustls::Error| malformed(CERTIFICATE, certificate, error.to_string());
    // TLS 1.2 and 1.3, which is all there is in this library.
    let builder = || ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let mut http1 = builder().map_err(bad)?.with_no_client_auth().with_cert_resolver(Arc::clone(&resolver) as _);
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    let asks = clients.is_some();
    let mut proxies = match clients {
        None => builder().map_err(bad)?.with_no_client_auth(),
        Some((path, roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
            let verifier = verifier.map_err(|error| malformed(AUTHORITIES, path, error.to_string()))?;
            builder().map_err(bad)?.with_client_cert_verifier(verifier)
        }
    }
    .with_cert_resolver(resolver);
    proxies.alpn_protocols = vec![b"h2".to_vec()];
    if asks {
        // Who takes up a session again is not verified anew, although its certificate may have ended since.
        proxies.session_storage = Arc::new(NoServerSessionStorage {});
        proxies.send_tls13_tickets = 0;
    }
    Ok(Configs { http1: Arc::new(http1), proxies: Arc::new(proxies) })
}

/// Names (URI) of a certificate that was verified; those that are none are left out.
#[must_use]
pub fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    match webpki::EndEntityCert::try_from(certificate) {
        Ok(parsed) => parsed.valid_uri_names().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

/// Clients refuse a certificate out of its time, all of them and at once: better said here. One that ends soon is told in the log.
fn in_its_time(file: &Path, certificate: &CertificateDer<'_>, now: Timestamp) -> Result<(), TlsError> {
    judged_by_time(file, certificate, now)?;
    let soon = Timestamp(now.0.saturating_add(i64::try_from(SOON.as_millis()).unwrap_or_default()));
    if let Err(TlsError::OutOfTime { file, why }) = judged_by_time(file, certificate, soon) {
        tracing::warn!(file, why, "the certificate ends within a week: renew it");
    }
    Ok(())
}

fn judged_by_time(file: &Path, certificate: &CertificateDer<'_>, now: Timestamp) -> Result<(), TlsError> {
    let name = file.display().to_string();
    let parsed = webpki::EndEntityCert::try_from(certificate);
    let parsed = parsed.map_err(|error| TlsError::Malformed {
        what: CERTIFICATE,
        file: name.clone(),
        why: format!("it cannot be used by a server ({error})"),
    })?;
    let at =
        |time: UnixTime| Timestamp(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000)).rfc3339();
    // Its time is what a verifier looks at first; that nothing vouches for it here is no finding.
    let seconds = u64::try_from(now.0 / 1000).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let usage = webpki::KeyUsage::server_auth();
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    match parsed.verify_for_usage(algorithms, &[], &[], now, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            Err(TlsError::OutOfTime { file: name, why: format!("ended at {}", at(not_after)) })
        }
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => {
            Err(TlsError::OutOfTime { file: name, why: format!("begins at {}", at(not_before)) })
        }
        _ => Ok(()),
    }
}
