//! A real Prometheus (Debian's), which scrapes an endpoint of the test: what it answers is what the adapter reads.

use super::expect_fault;
use super::server::{Reply, Server};
use crate::program::lacks;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tidegate::base::fault::FaultKind;
use tidegate::base::secret::Redacted;
use tidegate::base::time::{Millis, Timestamp};
use tidegate::clock::{Clock, SystemClock};
use tidegate::signals::prometheus::{PromQuery, Prometheus, PrometheusSettings};
use tidegate::signals::{Answer, Asked};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// `tidegate` with the password `test`: the hash is that of Prometheus's guide to basic authentication.
const LOGIN: &str = "basic_auth_users: { tidegate: $2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay }\n";
/// What is scraped: two versions.
const METRICS: &str = "# TYPE memory gauge\nmemory{node=\"v1\"} 100\nmemory{node=\"v2\"} 250.5\n";

struct Real {
    _process: Child,
    _place: tempfile::TempDir,
    url: String,
}

impl Real {
    /// Scrapes an address each second; `None` where Prometheus is missing.
    async fn start(target: &str) -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers/prometheus/prometheus");
        if !program.exists() && !lacks("prometheus of .peers (.ci/peers prometheus)") {
            return None;
        }
        let place = tempfile::tempdir().unwrap();
        let target = target.trim_start_matches("http://");
        let config = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - {{ job_name: shop, static_configs: [{{ targets: [\"{target}\"] }}] }}\n"
        );
        std::fs::write(place.path().join("config.yml"), config).unwrap();
        std::fs::write(place.path().join("web.yml"), LOGIN).unwrap();
        let mut command = Command::new(program);
        command.current_dir(place.path()).args(["--config.file=config.yml", "--web.config.file=web.yml"]);
        command.args(["--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
                let url = format!("http://{}", address.trim());
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Some(Self { _process: process, _place: place, url });
            }
        }
        panic!("prometheus ended at once");
    }

    fn adapter(&self, password: &str) -> Prometheus {
        let login = Some(("tidegate".to_owned(), Redacted::new(password.to_owned())));
        Prometheus::new(&PrometheusSettings { url: Some(self.url.clone()), token: None, login }).unwrap()
    }
}

async fn ask(prometheus: &Prometheus, query: &str, step: Option<Millis>) -> Answer {
    let now = SystemClock.now();
    let after = Timestamp(now.0 - 60_000);
    let query = PromQuery { query, url: None, step };
    prometheus.points(&[Asked { query: &query, after, since: after, now }]).await.remove(0)
}

#[tokio::test]
async fn a_real_prometheus_is_read_as_it_answers() {
    let scraped = Server::start(Reply::Raw("")).await;
    scraped.reply(Reply::Plain(METRICS));
    let Some(real) = Real::start(&scraped.url).await else { return };
    let prometheus = real.adapter("test");
    let query = "max(memory{node=\"v2\"})";
    // Until it has scraped at least twice.
    let mut answer = Ok(Vec::new());
    for _ in 0..300 {
        answer = ask(&prometheus, query, Some(Millis::from_seconds(1))).await;
        if answer.as_ref().is_ok_and(|points| points.len() >= 2) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let points = answer.unwrap();
    assert!(points.len() >= 2 && points.iter().all(|point| (point.value - 250.5).abs() < 1e-9), "{points:?}");
    assert!(points.windows(2).all(|two| two[1].at.0 - two[0].at.0 == 1000), "{points:?}");
    let now = ask(&prometheus, query, None).await.unwrap();
    assert!(now.len() == 1 && (now[0].value - 250.5).abs() < 1e-9, "{now:?}");
    assert_eq!(ask(&prometheus, "memory{node=\"v3\"}", None).await.unwrap(), [], "no series is silence");
    assert_eq!(ask(&prometheus, "sum(memory) / 0 - sum(memory) / 0", None).await.unwrap(), [], "NaN is no point");
    let rows = [
        ("memory", None, "it yields 2 series, such as "),
        ("memory", Some(Millis::from_seconds(1)), "it yields 2 series, such as "),
        ("memory[1m]", None, "it yields a range: take a function"),
        ("memory{", None, "correct `prometheus.query` in the policy: bad_data: "),
        ("memory * on() memory", None, "execution: "),
        ("\"text\"", None, "it yields a text, and no number"),
    ];
    for (query, step, text) in rows {
        expect_fault(query, ask(&prometheus, query, step).await, FaultKind::Permanent, text);
    }
    let stranger = ask(&real.adapter("guessed"), query, None).await;
    expect_fault("a wrong password", stranger, FaultKind::Permanent, "status 401 (it wants a token, or another one)");
}
