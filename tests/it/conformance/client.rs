//! Sends one request over a connection of its own and says what came back.

use super::backend::{DEED, ID};
use super::case::{Defaults, Protocol, Request};
use super::certificates;
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;
use tidegate::clock::Monotonic;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// No case waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Sent through an upgraded connection.
const PING: &[u8] = b"ping";

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) id: String,
    /// Nothing when the connection ended without an answer.
    pub(super) status: Option<u16>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
    pub(super) grpc: Option<i32>,
    pub(super) elapsed: Duration,
    /// Why there is no answer.
    pub(super) failure: String,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Sends it. Without an answer in time it panics: that is a finding too, but never an expected one.
pub(super) async fn send(request: &Request, defaults: &Defaults, id: String, folder: &Path) -> Outcome {
    let began = Monotonic::now();
    let answer = tokio::time::timeout(PATIENCE, exchange(request, defaults, &id, folder)).await;
    let elapsed = began.elapsed();
    match answer {
        Ok(Ok(outcome)) => Outcome { id, elapsed, ..outcome },
        Ok(Err(error)) => Outcome { id, elapsed, failure: error.to_string(), ..Outcome::default() },
        Err(_) => panic!("no answer in {PATIENCE:?}"),
    }
}

async fn exchange(request: &Request, defaults: &Defaults, id: &str, folder: &Path) -> Result<Outcome, Failed> {
    let protocol = request.protocol.unwrap_or(defaults.protocol);
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, request.to.unwrap_or(defaults.to))).await?;
    stream.set_nodelay(true)?;
    if protocol == Protocol::Tcp {
        return lines(stream, id, request.deed.as_deref()).await;
    }
    let host = request.host.as_ref().unwrap_or(&defaults.host);
    let stream: Box<dyn Stream> = if protocol == Protocol::Tls {
        let connector = TlsConnector::from(certificates::client(folder, request.certificate.as_deref()));
        let name = host.split(':').next().unwrap_or_default().to_owned().try_into()?;
        Box::new(connector.connect(name, stream).await?)
    } else {
        Box::new(stream)
    };
    let is_http2 = matches!(protocol, Protocol::H2c | Protocol::Grpc);
    let message = message(request, host, id, protocol, is_http2)?;
    let stream = TokioIo::new(stream);
    if is_http2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        outcome(sender.send_request(message).await?).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection.with_upgrades());
        outcome(sender.send_request(message).await?).await
    }
}

fn message(
    request: &Request,
    host: &str,
    id: &str,
    protocol: Protocol,
    is_http2: bool,
) -> Result<http::Request<Full<Bytes>>, Failed> {
    // In HTTP/2 the host is a part of the address, and there is no header of that name.
    let uri = if is_http2 { format!("http://{host}{}", request.path) } else { request.path.clone() };
    let mut builder = http::Request::builder().method(&*request.method).uri(uri).header(ID, id);
    if !is_http2 {
        builder = builder.header("host", host);
    }
    if let Some(deed) = &request.deed {
        builder = builder.header(DEED, deed);
    }
    for (name, values) in &request.headers {
        for value in values.all() {
            builder = builder.header(name, value);
        }
    }
    let mut body = Bytes::from(request.body.clone());
    match protocol {
        Protocol::Grpc => {
            body = Bytes::from_static(&[0; 5]);
            builder = builder.method("POST").header("content-type", "application/grpc").header("te", "trailers");
        }
        Protocol::Websocket => {
            builder = builder.header("connection", "upgrade").header("upgrade", "websocket");
            builder =
                builder.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        }
        _ => {}
    }
    Ok(builder.body(Full::new(body))?)
}

async fn outcome(mut response: Response<Incoming>) -> Result<Outcome, Failed> {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let texts =
        headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()));
    let headers_seen = texts.collect();
    if status == 101 {
        let mut through = TokioIo::new(hyper::upgrade::on(&mut response).await?);
        through.write_all(PING).await?;
        let mut back = [0; PING.len()];
        through.read_exact(&mut back).await?;
        let body = String::from_utf8_lossy(&back).into_owned();
        return Ok(Outcome { status: Some(status), headers: headers_seen, body, ..Outcome::default() });
    }
    let collected = response.into_body().collect().await?;
    let code = |map: &HeaderMap| map.get("grpc-status").and_then(|code| code.to_str().ok()?.parse().ok());
    let grpc = collected.trailers().and_then(code).or_else(|| code(&headers));
    let body = String::from_utf8_lossy(&collected.to_bytes()).into_owned();
    Ok(Outcome { status: Some(status), headers: headers_seen, body, grpc, ..Outcome::default() })
}

/// A line there and back counts as 200; with a silence behind it, and another line, where that is asked for.
async fn lines(stream: TcpStream, id: &str, deed: Option<&str>) -> Result<Outcome, Failed> {
    let mut stream = BufReader::new(stream);
    let mut back = line(&mut stream, id).await?;
    if let Some(silence) = deed.map(|deed| deed.strip_prefix("silent ").ok_or("a connection knows silences alone")) {
        let silence = Duration::from_millis(silence?.parse()?);
        if tokio::time::timeout(silence, stream.fill_buf()).await.is_ok() {
            return Err("closed".into());
        }
        back = line(&mut stream, id).await?;
    }
    Ok(Outcome { status: Some(200), body: back, ..Outcome::default() })
}

async fn line(stream: &mut BufReader<TcpStream>, id: &str) -> Result<String, Failed> {
    stream.write_all(format!("{id}\n").as_bytes()).await?;
    let mut back = String::new();
    if stream.read_line(&mut back).await? == 0 {
        return Err("closed".into());
    }
    Ok(back)
}
