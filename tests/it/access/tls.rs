//! Certificates: what is wrong with the files is said by their names, and the API speaks TLS as it must.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tidegate::api::client::{Client, Credentials};
use tidegate::api::front::{self, Front};
use tidegate::api::listen::{Limits, serve};
use tidegate::base::time::Timestamp;
use tidegate::ports::{Holder, LEASE};
use tidegate::runner::lease::Turn;
use tidegate::tls::{Reloaded, Tls, TlsError};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Within the time of every certificate here that is in its time: 2026-06-01.
const NOW: Timestamp = Timestamp(1_780_272_000_000);

/// A certification authority, and files with certificates by it.
struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(directory.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `NAME.crt` and `NAME.key` for a name, valid in these years; answers their paths.
    fn issue(&self, name: &str, host: &str, years: [i32; 2]) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years[0], 1, 1);
        params.not_after = date_time_ymd(years[1], 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        std::fs::write(&paths.0, certificate.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }
}

fn problem(certificate: &Path, key: &Path) -> TlsError {
    Tls::load_at(certificate, key, NOW).map(drop).expect_err("not usable")
}

#[test]
fn files_that_cannot_be_used_are_told_by_name_and_reason() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("good", "localhost", [2025, 2095]);
    Tls::load_at(&certificate, &key, NOW).expect("a good pair");
    let (_, other_key) = authority.issue("other", "localhost", [2025, 2095]);
    let (ended, ended_key) = authority.issue("ended", "localhost", [2024, 2026]);
    let (begins, begins_key) = authority.issue("begins", "localhost", [2090, 2095]);
    let write = |name: &str, text: &str| {
        std::fs::write(authority.path(name), text).unwrap();
        authority.path(name)
    };
    let empty = write("empty", "");
    let garbage = write("garbage", "-----BEGIN CERTIFICATE-----\nhunter2!\n-----END CERTIFICATE-----\n");
    let broken = write("broken.key", "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----\n");
    let huge = write("huge", &"x".repeat(2 * 1024 * 1024));
    let nowhere = authority.path("nowhere");
    for (certificate, key, parts) in [
        (&nowhere, &key, &["the certificate", "nowhere", "No such file"][..]),
        (&certificate, &nowhere, &["the key", "nowhere", "No such file"]),
        (&empty, &key, &["the certificate", "empty", "no line `-----BEGIN CERTIFICATE-----`"]),
        (&key, &key, &["the certificate", "good.key", "no line"]),
        (&garbage, &key, &["the certificate", "garbage", "is not one"]),
        (&huge, &key, &["the certificate", "huge", "2097152 bytes, and 1048576 is the most"]),
        (&certificate, &empty, &["the key", "empty", "no private key in PEM"]),
        (&certificate, &certificate, &["the key", "good.crt", "no private key in PEM"]),
        (&certificate, &broken, &["the key", "broken.key", "no private key in PEM"]),
        (&certificate, &other_key, &["the key", "other.key does not belong to the certificate", "good.crt"]),
        (&ended, &ended_key, &["the certificate", "ended.crt ended at 2026-01-01T00:00:00", "renew it"]),
        (&begins, &begins_key, &["the certificate", "begins.crt begins at 2090-01-01T00:00:00", "clock"]),
    ] {
        let text = problem(certificate, key).to_string();
        for part in parts {
            assert!(text.contains(part), "no `{part}` in: {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_certificate_is_read_again_when_it_changes_and_a_wrong_one_is_not_taken() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("server", "localhost", [2025, 2095]);
    let tls = Tls::load_at(&certificate, &key, NOW).expect("a good pair");
    let shown = |tls: &Tls| Arc::as_ptr(&tls.config());
    let first = shown(&tls);
    assert_eq!((tls.reload(NOW), shown(&tls)), (Reloaded::Unchanged, first));

    // Half of a renewal: the new certificate is there, its key is not yet.
    let (new_certificate, new_key) = authority.issue("renewed", "localhost", [2025, 2095]);
    std::fs::copy(&new_certificate, &certificate).unwrap();
    assert!(matches!(tls.reload(NOW), Reloaded::Kept(TlsError::Mismatch { .. })));
    assert_eq!((tls.reload(NOW), shown(&tls)), (Reloaded::Unchanged, first), "it is told once");
    std::fs::copy(&new_key, &key).unwrap();
    assert_eq!(tls.reload(NOW), Reloaded::Changed);
    let second = shown(&tls);
    assert_ne!(first, second);

    std::fs::remove_file(&key).unwrap();
    assert!(matches!(tls.reload(NOW), Reloaded::Kept(TlsError::Unreadable { .. })));
    assert_eq!((tls.reload(NOW), shown(&tls)), (Reloaded::Unchanged, second));
    std::fs::copy(&new_key, &key).unwrap();
    assert_eq!(tls.reload(NOW), Reloaded::Changed);
}

/// An API that answers `[]`, with a certificate for 127.0.0.1.
async fn start(authority: &Authority, host: &str) -> (String, watch::Sender<bool>) {
    let (certificate, key) = authority.issue("server", host, [2025, 2095]);
    let tls = Tls::load(&certificate, &key).expect("a good pair");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().route("/v1/list", axum::routing::get(|| async { "[]" }));
    let (stop, stopped) = watch::channel(false);
    let _serving = serve(listener, router, Some(Arc::new(tls)), Limits::default(), stopped);
    (address.to_string(), stop)
}

fn client(base: &str, ca_file: Option<PathBuf>) -> Client {
    Client::with(base, "ann", Credentials { ca_file, ..Credentials::default() }).expect("an address")
}

#[tokio::test]
async fn a_client_believes_the_roots_of_a_file_and_nobody_else() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (address, _stop) = start(&authority, "127.0.0.1").await;
    let base = format!("https://{address}");
    let list: Vec<u8> = client(&base, Some(authority.path("ca.crt"))).get("/v1/list").await.expect("believed");
    assert_eq!(list, [0_u8; 0]);
    for ca_file in [None, Some(stranger.path("ca.crt"))] {
        let error = client(&base, ca_file).get::<Vec<u8>>("/v1/list").await.expect_err("not believed");
        assert!(error.message.contains("is not believed: invalid peer certificate"), "{error:?}");
        assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("TIDEGATE_CA_FILE")), "{error:?}");
    }
    // In clear text it answers nobody.
    let error = client(&format!("http://{address}"), None).get::<Vec<u8>>("/v1/list").await.expect_err("no HTTP");
    assert!(error.message.contains("no daemon at http://"), "{error:?}");
}

#[tokio::test]
async fn a_certificate_of_another_name_is_not_believed() {
    let authority = Authority::new();
    let (address, _stop) = start(&authority, "tidegate.example.com").await;
    let client = client(&format!("https://{address}"), Some(authority.path("ca.crt")));
    let error = client.get::<Vec<u8>>("/v1/list").await.expect_err("another name");
    assert!(error.message.contains("certificate not valid for name"), "{error:?}");
}

#[tokio::test]
async fn a_daemon_that_stands_by_hands_requests_on_over_tls_with_their_token() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("server", "127.0.0.1", [2025, 2095]);
    let tls = Tls::load(&certificate, &key).expect("a good pair");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let shown = |headers: axum::http::HeaderMap| async move { format!("{:?}", headers.get("authorization")) };
    let driver = axum::Router::new().route("/v1/list", axum::routing::get(shown));
    let (_stop, stopped) = watch::channel(false);
    let _serving = serve(listener, driver, Some(Arc::new(tls)), Limits::default(), stopped);

    let holder = Holder { id: "driver".into(), address, left: LEASE };
    let (_turn, turn) = watch::channel(Turn::StandingBy { holder: Some(holder), fault: None });
    let (_ready, ready) = watch::channel(true);
    for (ca_file, status, says) in
        [(Some("ca.crt"), 200, "Bearer tg_1"), (None, 503, "does not answer at https://127.0.0.1")]
    {
        let ca_file = ca_file.map(|name| authority.path(name));
        let front = Front::new(turn.clone(), ready.clone(), ca_file.as_deref()).expect("a client");
        let request = axum::http::Request::get("/v1/list").header("authorization", "Bearer tg_1");
        let request = request.body(axum::body::Body::empty()).unwrap();
        let answer = tower::ServiceExt::oneshot(front::router(Arc::new(front)), request).await.unwrap();
        assert_eq!(answer.status(), status);
        let text = axum::body::to_bytes(answer.into_body(), 10_000).await.unwrap();
        assert!(String::from_utf8_lossy(&text).contains(says), "{text:?}");
    }
    let error = Front::new(turn, ready, Some(Path::new("/nowhere/ca.pem"))).map(drop).expect_err("no roots");
    assert_eq!(error, "the roots /nowhere/ca.pem cannot be read: No such file or directory (os error 2)");
}
