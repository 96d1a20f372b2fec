//! Live counts of proxies in other processes, asked for over their admin interface (`/tidegate/report`).
//!
//! Counts are cumulative since a proxy started, so an answer that is lost changes nothing: the next one holds it all. A
//! proxy that does not answer is left out, and only when nobody answers is that silence. One whose answer cannot be read is
//! told as that: somebody is there, and nobody knows what it counts. A name with several addresses
//! is a proxy at each, looked up anew every few seconds, since proxies come and go with the tasks that they stand beside.

use crate::base::fault::Fault;
use crate::base::ids::RouteRef;
use crate::base::tally::Report;
use crate::clock::Monotonic;
use crate::ports::Telemetry;
use async_trait::async_trait;
use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::Mutex;

/// A proxy that takes longer says nothing about now: readings are a second apart, and one of them may take three.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// Names are looked up so often. Cloud Map answers with a time to live of 10 s by default.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
/// Proxies at most; a route's traffic behind more of them is for the stream that they will report by.
const MOST: usize = 256;
/// Of these, so many are asked at a time.
const AT_A_TIME: usize = 32;
/// A report of a thousand series takes about 1 MB.
const BODY_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Servers of HTTP take request lines of this length, and it has some hundred routes.
const QUERY_MAX_BYTES: usize = 16 * 1024;
/// Name under which faults are reported.
const SOURCE: &str = "live telemetry";
/// Statuses with which something in between says that nobody is there.
const GONE: [u16; 3] = [502, 503, 504];

/// Proxies by their admin addresses.
pub struct RemoteTelemetry {
    places: Vec<Place>,
    client: reqwest::Client,
    known: Mutex<Known>,
}

/// An address as it was configured.
#[derive(Debug, Clone)]
struct Place {
    host: String,
    port: u16,
}

/// What names led to.
#[derive(Default)]
struct Known {
    at: Option<Monotonic>,
    addresses: BTreeSet<SocketAddr>,
}

impl RemoteTelemetry {
    /// Of proxies at `urls` such as `http://10.0.0.5:9901`; nothing behind the port counts.
    ///
    /// # Errors
    /// A permanent fault: an address that is none of plain HTTP, or no HTTP client can be made on this system.
    pub fn new(urls: &[String]) -> Result<Self, Fault> {
        let client = reqwest::Client::builder()
            .no_proxy()
            // Plain HTTP is all it speaks, and reading the system's roots takes milliseconds.
            .tls_built_in_root_certs(false)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| Fault::permanent(SOURCE, error))?;
        let places = urls.iter().map(|url| place(url)).collect::<Result<_, _>>()?;
        Ok(Self { places, client, known: Mutex::default() })
    }

    /// Every address that the names have now, or had a moment ago.
    async fn addresses(&self) -> BTreeSet<SocketAddr> {
        // Held while names are looked up: whoever comes meanwhile waits for the same answer.
        let mut known = self.known.lock().await;
        if known.at.is_some_and(|at| at.elapsed() < LOOK_UP_EVERY) {
            return known.addresses.clone();
        }
        let mut found = BTreeSet::new();
        let mut complete = true;
        for place in &self.places {
            match tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((place.host.as_str(), place.port))).await {
                Ok(Ok(addresses)) => found.extend(addresses),
                Ok(Err(error)) => {
                    complete = false;
                    tracing::warn!(host = %place.host, %error, "no address of a proxy");
                }
                Err(_) => complete = false,
            }
        }
        // A resolver that fails takes nobody away.
        if !complete {
            found.append(&mut known.addresses);
        }
        *known = Known { at: Some(Monotonic::now()), addresses: found.into_iter().take(MOST).collect() };
        known.addresses.clone()
    }

    /// A report; one that is unreadable where something answers and nobody knows what. An error is silence.
    async fn ask(&self, address: SocketAddr, query: &str) -> Result<Report, String> {
        let unreadable =
            |why: String| Report { proxy: address.to_string(), unreadable: Some(why), ..Report::default() };
        let answer = self.client.get(format!("http://{address}/tidegate/report{query}")).send().await;
        let mut answer = answer.map_err(|error| why(&error))?;
        let status = answer.status();
        if GONE.contains(&status.as_u16()) {
            return Err(format!("it answered with status {status}"));
        }
        if !status.is_success() {
            return Ok(unreadable(format!("answers with status {}, and not as a proxy does", status)));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| why(&error))? {
            if body.len() + chunk.len() > BODY_MAX_BYTES {
                return Ok(unreadable(format!("answers with a report of more than {BODY_MAX_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        let report = serde_json::from_slice(&body);
        Ok(report.unwrap_or_else(|error| {
            tracing::debug!(%address, %error, "an unreadable report");
            // Without the place of the error, which may be another one each second.
            unreadable(format!("answers, but not as a proxy of this version ({:?} error)", error.classify()))
        }))
    }
}

fn why(error: &reqwest::Error) -> String {
    match error {
        late if late.is_timeout() => format!("no answer within {} ms", TIMEOUT.as_millis()),
        refused if refused.is_connect() => "it takes no connection".to_owned(),
        _ => "its answer broke off".to_owned(),
    }
}

fn place(url: &str) -> Result<Place, Fault> {
    let wrong =
        || Fault::permanent(SOURCE, format!("`{url}` is no admin address of a proxy, such as http://10.0.0.5:9901"));
    let parsed = reqwest::Url::parse(url).map_err(|_| wrong())?;
    let host = parsed.host_str().filter(|_| parsed.scheme() == "http").ok_or_else(wrong)?;
    // The brackets of an IPv6 address are the URL's.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Place { host, port: parsed.port().unwrap_or(HTTP_PORT) })
}

/// Of a URL without one.
const HTTP_PORT: u16 = 80;

impl RemoteTelemetry {
    async fn ask_all(&self, query: &str) -> Result<Vec<Report>, Fault> {
        let addresses = self.addresses().await;
        if addresses.is_empty() {
            let hosts = self.places.iter().map(|place| place.host.as_str()).collect::<Vec<_>>().join(", ");
            let text = if hosts.is_empty() {
                "no proxy is configured (telemetry.proxies)".to_owned()
            } else {
                format!("no address of {hosts}")
            };
            return Err(Fault::transient(SOURCE, text));
        }
        let answers = futures_util::stream::iter(addresses)
            .map(|address| async move { (address, self.ask(address, query).await) })
            .buffer_unordered(AT_A_TIME);
        let answers: Vec<(SocketAddr, Result<Report, String>)> = answers.collect().await;
        let (mut reports, mut faults) = (Vec::with_capacity(answers.len()), Vec::new());
        for (address, answer) in answers {
            match answer {
                Ok(report) => reports.push(report),
                Err(why) => faults.push(format!("{address}: {why}")),
            }
        }
        if let (true, Some(first)) = (reports.is_empty(), faults.first()) {
            return Err(Fault::transient(SOURCE, format!("no proxy answers; {first}")));
        }
        // One proxy may be reachable at several addresses (both families): its counts must count once.
        reports.sort_by(|a, b| a.proxy.cmp(&b.proxy));
        reports.dedup_by(|a, b| a.proxy == b.proxy);
        Ok(reports)
    }
}

#[async_trait]
impl Telemetry for RemoteTelemetry {
    async fn reports(&self) -> Result<Vec<Report>, Fault> {
        self.ask_all("").await
    }

    async fn acknowledged(&self, judged: &BTreeSet<RouteRef>) -> Result<Vec<Report>, Fault> {
        self.ask_all(&acknowledging(judged)).await
    }
}

/// The query that says which routes are judged: by name, and all of them where that would be too long.
fn acknowledging(judged: &BTreeSet<RouteRef>) -> String {
    let mut query = form_urlencoded::Serializer::for_suffix("?".to_owned(), 1);
    query.extend_pairs(judged.iter().map(|route| ("acknowledge", route.to_string())));
    Some(query.finish()).filter(|query| query.len() <= QUERY_MAX_BYTES).unwrap_or_else(|| "?acknowledge".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn routes_are_acknowledged_by_name_as_long_as_that_is_short() {
        let routes = |count: usize| {
            let of = |number| RouteRef { mesh: "shop".into(), router: "r".into(), route: format!("route-{number}") };
            (0..count).map(of).collect::<BTreeSet<_>>()
        };
        assert_eq!(acknowledging(&routes(2)), "?acknowledge=shop%2Fr%2Froute-0&acknowledge=shop%2Fr%2Froute-1");
        assert_eq!(acknowledging(&routes(0)), "?");
        assert_eq!(acknowledging(&routes(10_000)), "?acknowledge");
    }

    /// A server that gives everybody this answer; its address.
    async fn answering(status: &'static str, body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address.to_string()
    }

    async fn asked(addresses: &[&str]) -> Result<Vec<(String, Option<String>)>, Fault> {
        let urls: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
        let reports = RemoteTelemetry::new(&urls).unwrap().reports().await?;
        Ok(reports.into_iter().map(|report| (report.proxy, report.unreadable)).collect())
    }

    #[tokio::test]
    async fn who_answers_otherwise_than_a_proxy_is_neither_silent_nor_heard() {
        let good = answering("200 OK", r#"{"proxy":"p1","series":[]}"#).await;
        let odd = answering("200 OK", "<html>hello</html>").await;
        let foreign = answering("404 Not Found", "nothing here").await;
        let gone = answering("503 Service Unavailable", "").await;
        let mut told = asked(&[&good, &odd, &foreign, &gone]).await.unwrap();
        told.sort();
        let mut expected = vec![
            (odd, Some("answers, but not as a proxy of this version (Syntax error)".to_owned())),
            (foreign, Some("answers with status 404 Not Found, and not as a proxy does".to_owned())),
            ("p1".to_owned(), None),
        ];
        expected.sort();
        assert_eq!(told, expected);
        let silent = asked(&[&gone]).await.unwrap_err().to_string();
        assert!(silent.contains("no proxy answers") && silent.contains("503"), "{silent}");
    }
}
