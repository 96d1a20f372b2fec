//! A service that says back what it was asked, and ends in good order.

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::pin::pin;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What it was asked for, in its answer.
pub(crate) const ECHO: &str = "x-echo";
/// Which service it was.
pub(crate) const VERSION: &str = "x-demo-version";

/// A service on a free port of 127.0.0.1, until it is dropped or drained.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    ends: watch::Sender<bool>,
    serving: Option<JoinHandle<()>>,
}

impl Echo {
    /// Serves HTTP/1.1, or HTTP/2 with prior knowledge.
    pub(crate) async fn start(version: &'static str, http2: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ends, ending) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, version, http2, ending));
        Self { address, ends, serving: Some(serving) }
    }

    /// Accepts nothing more, finishes what it was asked, closes its connections.
    pub(crate) async fn drain(mut self) {
        self.ends.send_replace(true);
        self.serving.take().unwrap().await.unwrap();
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

async fn serve(listener: TcpListener, version: &'static str, http2: bool, mut ending: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let ended = ending.clone();
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(converse(stream, version, http2, ended));
            },
            // Those that have ended are forgotten.
            Some(_) = connections.join_next() => {}
            _ = ending.wait_for(|ends| *ends) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn converse(stream: TcpStream, version: &'static str, http2: bool, mut ending: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| answer(request, version));
    // An error is the other side's end; what it means is for those who asked.
    if http2 {
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let mut served = pin!(served.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = served.as_mut() => return,
            _ = ending.wait_for(|ends| *ends) => {}
        }
        served.as_mut().graceful_shutdown();
        let _ = served.await;
    } else {
        let served = hyper::server::conn::http1::Builder::new();
        let mut served = pin!(served.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = served.as_mut() => return,
            _ = ending.wait_for(|ends| *ends) => {}
        }
        served.as_mut().graceful_shutdown();
        let _ = served.await;
    }
}

async fn answer(request: Request<Incoming>, version: &'static str) -> hyper::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut answer = Response::new(Full::new(body));
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    answer.headers_mut().insert(ECHO, HeaderValue::from_str(path).unwrap());
    answer.headers_mut().insert(VERSION, HeaderValue::from_static(version));
    Ok(answer)
}
