//! Applications behind the proxies: they answer with their name, do what a request asks them to do instead, and remember what
//! they saw.

use super::case::Backend;
use super::certificates;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Header that tells requests apart.
pub(super) const ID: &str = "x-case";
/// Header that says what to do.
pub(super) const DEED: &str = "x-do";

/// What a backend saw of one attempt.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) by: String,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) host: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
    pub(super) over: &'static str,
}

/// What all backends of a group saw, by the request's id.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<BTreeMap<String, Vec<Seen>>>>);

impl Memory {
    pub(super) fn of(&self, id: &str) -> Vec<Seen> {
        self.0.lock().unwrap().get(id).cloned().unwrap_or_default()
    }

    /// Which attempt of its request it is, from 0.
    fn note(&self, id: &str, seen: Seen) -> usize {
        let mut all = self.0.lock().unwrap();
        let attempts = all.entry(id.to_owned()).or_default();
        attempts.push(seen);
        attempts.len() - 1
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Failed = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct App {
    name: String,
    kind: Backend,
    memory: Memory,
    tls: Option<TlsAcceptor>,
}

/// Listens until the runtime ends.
pub(super) async fn start(name: &str, kind: &Backend, port: u16, folder: &Path, memory: &Memory) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let tls = kind.tls.as_ref().map(|own| certificates::server(folder, own, kind.clients.as_deref()).into());
    let app = App { name: name.to_owned(), kind: kind.clone(), memory: memory.clone(), tls };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(app.clone().connection(stream));
        }
    });
}

impl App {
    async fn connection(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        if self.kind.lines {
            return self.lines(stream).await;
        }
        match &self.tls {
            None => {
                let mut begin = [0; 3];
                let is_http2 = stream.peek(&mut begin).await.is_ok() && &begin == b"PRI";
                self.serve(stream, is_http2).await;
            }
            Some(acceptor) => {
                if let Ok(stream) = acceptor.clone().accept(stream).await {
                    self.serve(stream, false).await;
                }
            }
        }
    }

    async fn lines(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
            self.memory.note(line.trim(), Seen { by: self.name.clone(), ..Seen::default() });
            let answer = format!("{} {line}", self.name);
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            line.clear();
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, is_http2: bool) {
        let stream = TokioIo::new(stream);
        let service = service_fn(move |request| self.clone().answer(request, if is_http2 { "http2" } else { "http1" }));
        // How a connection ends is the proxy's business.
        if is_http2 {
            let _ =
                hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
        } else {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).with_upgrades().await;
        }
    }

    async fn answer(self, mut request: Request<Incoming>, over: &'static str) -> Result<Response<Body>, Failed> {
        if request.uri().path() == "/grpc.health.v1.Health/Check" {
            return Ok(grpc(&[8, if self.kind.sick { 2 } else { 1 }]));
        }
        let upgrade = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &head.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers.entry(name.to_string()).and_modify(|all| *all = format!("{all}|{value}")).or_insert(value.into());
        }
        let text = |name: &str| headers.get(name).cloned().unwrap_or_default();
        let seen = Seen {
            by: self.name.clone(),
            method: head.method.to_string(),
            path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            host: head.uri.authority().map_or_else(|| text("host"), ToString::to_string),
            body: String::from_utf8_lossy(&body).into_owned(),
            over,
            headers: headers.clone(),
        };
        if seen.path.starts_with("/health") {
            return Ok(plain(if self.kind.sick { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }, "health"));
        }
        let is_grpc =
            head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let attempt = self.memory.note(&text(ID), seen);
        if let Some(upgrade) = upgrade {
            return Ok(echo(upgrade));
        }
        if let Some(answer) = self.deed(&text(DEED), attempt).await? {
            return Ok(answer);
        }
        // hyper sends a body where HTTP/2 has none.
        let text = if head.method == Method::HEAD { "" } else { &self.name };
        Ok(if is_grpc { grpc(&[]) } else { plain(StatusCode::OK, text) })
    }

    /// Does what a request asks for; `None` to answer as usual.
    async fn deed(&self, asked: &str, attempt: usize) -> Result<Option<Response<Body>>, Failed> {
        let mut words: Vec<&str> = asked.split_whitespace().collect();
        if words.first() == Some(&"only") {
            if words[1] != self.name {
                return Ok(None);
            }
            words.drain(..2);
        }
        if words.first() == Some(&"first") {
            if attempt >= words[1].parse::<usize>()? {
                return Ok(None);
            }
            words.drain(..2);
        }
        match words[..] {
            [] => Ok(None),
            ["status", code] => Ok(Some(plain(code.parse()?, &self.name))),
            ["delay", millis] => {
                tokio::time::sleep(Duration::from_millis(millis.parse()?)).await;
                Ok(None)
            }
            ["grpc", code] => {
                let mut answer = grpc(&[]);
                answer.headers_mut().insert("grpc-status", code.parse()?);
                *answer.body_mut() = Full::default().boxed_unsync();
                Ok(Some(answer))
            }
            // The connection ends, or the stream, before there is an answer.
            ["reset"] => Err("reset".into()),
            ["refuse"] => Err(Box::new(h2::Error::from(h2::Reason::REFUSED_STREAM))),
            _ => Err(format!("nobody knows how to do {asked:?}").into()),
        }
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::from(text.to_owned()).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// One message, and success in the trailers.
fn grpc(message: &[u8]) -> Response<Body> {
    let length = u8::try_from(message.len()).unwrap();
    let framed: Vec<u8> = [&[0, 0, 0, 0, length], message].concat();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::from(framed).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn echo(upgrade: hyper::upgrade::OnUpgrade) -> Response<Body> {
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    let mut response = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}
