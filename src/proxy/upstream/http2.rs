//! One exchange over a stream of HTTP/2 (RFC 9113). The request that uses it drives it, as with HTTP/1.1; what is on the
//! wire is the connection's task's.
//!
//! A stream that is dropped is reset, which ends the exchange at the endpoint and leaves the connection to the others.

use super::channel::Channel;
use super::{BodyError, Unsuccessful};
use crate::proxy::upload::{BodyLost, RequestBody};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::timeout;

/// How long the end of a complete answer is waited for.
const MAX_LINGER: Duration = Duration::from_secs(5);

/// A stream, or the place for one. One pointer, since it is handed about a lot.
pub(in crate::proxy) struct Http2(Box<Inner>);

struct Inner {
    channel: Rc<Channel>,
    sender: SendRequest<Bytes>,
    /// Until it is sent; `None` also when it cannot be said in HTTP/2.
    request: Option<Request<()>>,
    to_head: bool,
    upload: Option<RequestBody>,
    /// Of the body, and waits until the endpoint takes more.
    piece: Bytes,
    /// Whether anything of the body was taken from the client.
    begun: bool,
    outgoing: Option<SendStream<Bytes>>,
    coming: Option<ResponseFuture>,
    status: StatusCode,
    headers: HeaderMap,
    /// The answer's body; `None` until its head is there.
    incoming: Option<RecvStream>,
    /// How much of it is to come, where its head says so.
    left: Option<u64>,
    is_over: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.channel.leave();
    }
}

impl Http2 {
    pub(super) fn on(channel: Rc<Channel>) -> Self {
        channel.enter();
        Self(Box::new(Inner {
            sender: channel.sender(),
            channel,
            request: None,
            to_head: false,
            upload: None,
            piece: Bytes::new(),
            begun: false,
            outgoing: None,
            coming: None,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            incoming: None,
            left: None,
            is_over: false,
        }))
    }

    /// Takes a request; see [`super::Upstream::begin`].
    pub(super) fn begin(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: Option<RequestBody>) {
        self.0.request = request(method, uri, headers);
        self.0.to_head = method == Method::HEAD;
        self.0.upload = body;
    }

    /// Ready when the head of the answer is there.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsuccessful>> {
        self.0.poll_head(cx)
    }

    /// The next piece of the answer's body.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_frame(cx)
    }

    /// Status of the answer.
    pub(super) const fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Fields of the answer's head, until they are taken.
    pub(super) const fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// The answer's head, once.
    pub(super) fn take_response(&mut self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.0.status;
        *response.headers_mut() = std::mem::take(&mut self.0.headers);
        response
    }

    /// Whether the answer has ended.
    pub(super) const fn is_answered(&self) -> bool {
        self.0.is_over
    }

    /// Whether its body is as long as it said that it is; trailers may follow.
    pub(super) const fn has_all(&self) -> bool {
        self.0.is_over || matches!(self.0.left, Some(0))
    }

    /// Waits a moment for the end of a stream whose answer is complete, which comes in a frame of its own: a reset would be
    /// an error to the endpoint.
    pub(super) fn finish(mut self) {
        if self.0.is_over || self.0.incoming.is_none() {
            return;
        }
        tokio::task::spawn_local(async move {
            let end = async { while poll_fn(|cx| self.0.poll_frame(cx)).await.is_some_and(|frame| frame.is_ok()) {} };
            // Nobody asks how this ends.
            let _ = timeout(MAX_LINGER, end).await;
        });
    }

    /// How much of the answer's body is left.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self.0.left {
            _ if self.0.is_over => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

/// The request as HTTP/2 says it: what was the Host is the authority, and what is about the connection is gone.
fn request(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Request<()>> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    parts.path_and_query = Some(uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    *request.headers_mut() = headers.clone();
    request.headers_mut().remove(HOST);
    request.headers_mut().remove(TRANSFER_ENCODING);
    Some(request)
}

impl Inner {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsuccessful>> {
        if self.coming.is_none() {
            ready!(self.poll_open(cx))?;
        }
        if self.poll_upload(cx).is_err() {
            return Poll::Ready(Err(Unsuccessful::ClientGone));
        }
        let Some(coming) = &mut self.coming else { return Poll::Ready(Err(Unsuccessful::Malformed)) };
        match ready!(Pin::new(coming).poll(cx)) {
            Ok(response) => {
                let (head, body) = response.into_parts();
                (self.status, self.headers) = (head.status, head.headers);
                self.is_over = body.is_end_stream();
                let is_bodiless =
                    self.to_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
                self.left = if is_bodiless { Some(0) } else { self.headers.get(CONTENT_LENGTH).and_then(number) };
                self.incoming = Some(body);
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.failed(&error))),
        }
    }

    /// Opens the stream and sends the head.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsuccessful>> {
        if ready!(self.sender.poll_ready(cx)).is_err() {
            // Nothing of this request was sent; the next one needs another connection.
            self.channel.retire();
            return Poll::Ready(Err(Unsuccessful::Unsent));
        }
        let Some(request) = self.request.take() else { return Poll::Ready(Err(Unsuccessful::Malformed)) };
        match self.sender.send_request(request, self.upload.is_none()) {
            Ok((coming, outgoing)) => {
                self.coming = Some(coming);
                self.outgoing = self.upload.is_some().then_some(outgoing);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.is_io() || error.is_go_away() || error.is_remote() => {
                self.channel.retire();
                Poll::Ready(Err(Unsuccessful::Unsent))
            }
            Err(_) => Poll::Ready(Err(Unsuccessful::Malformed)),
        }
    }

    /// What a stream without an answer came to. One that the endpoint took no notice of, since it is going away, can be sent
    /// again, if its body is still here (RFC 9113 section 6.8).
    fn failed(&self, error: &h2::Error) -> Unsuccessful {
        if error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR) {
            self.channel.retire();
            return if self.begun { Unsuccessful::Broken } else { Unsuccessful::Unsent };
        }
        if error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
            return Unsuccessful::Refused;
        }
        if error.is_reset() && !error.is_remote() {
            return Unsuccessful::Malformed;
        }
        Unsuccessful::Broken
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.poll_upload(cx).is_err() {
            return Poll::Ready(Some(Err(BodyError::ClientGone)));
        }
        let Some(incoming) = self.incoming.as_mut().filter(|_| !self.is_over) else { return Poll::Ready(None) };
        loop {
            match ready!(incoming.poll_data(cx)) {
                Some(Ok(data)) => {
                    // More may come once this is on its way: who reads slowly is not polled.
                    let _ = incoming.flow_control().release_capacity(data.len());
                    self.is_over = incoming.is_end_stream();
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    if data.is_empty() && !self.is_over {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => break,
            }
        }
        let trailers = ready!(incoming.poll_trailers(cx));
        self.is_over = true;
        Poll::Ready(trailers?.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    /// Sends as much of the body as the endpoint takes now.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), BodyLost> {
        while let Some(outgoing) = &mut self.outgoing {
            if !self.piece.is_empty() {
                outgoing.reserve_capacity(self.piece.len());
                let room = match outgoing.capacity() {
                    0 => match outgoing.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(room))) => room,
                        Poll::Ready(Some(Err(_)) | None) => {
                            self.stop_upload();
                            break;
                        }
                        Poll::Pending => break,
                    },
                    room => room,
                };
                let part = self.piece.split_to(room.min(self.piece.len()));
                let is_last = self.piece.is_empty() && self.upload.as_ref().is_none_or(RequestBody::is_over);
                if outgoing.send_data(part, is_last).is_err() || is_last {
                    self.stop_upload();
                }
                continue;
            }
            let Some(upload) = &mut self.upload else { break };
            let Poll::Ready(frame) = upload.poll_frame(cx) else {
                // An endpoint that wants no more of it says so by a reset; whoever waits for the answer learns that.
                break;
            };
            self.begun = true;
            let sent = match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => {
                    self.piece = data;
                    if self.piece.is_empty() && upload.is_over() {
                        outgoing.send_data(Bytes::new(), true)
                    } else {
                        continue;
                    }
                }
                Some(Err(frame)) => outgoing.send_trailers(frame.into_trailers().unwrap_or_default()),
                None => outgoing.send_data(Bytes::new(), true),
            };
            // Where it failed, the answer, or the want of one, says why.
            drop(sent);
            self.stop_upload();
        }
        Ok(())
    }

    /// No more of the body is sent.
    fn stop_upload(&mut self) {
        self.outgoing = None;
        self.piece = Bytes::new();
        if let Some(upload) = self.upload.take() {
            upload.stop();
        }
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}
