//! A client's body on its way to an endpoint: streamed as it comes, and what has come of it kept for another try while that
//! is little.
//!
//! It remembers how far it got, so that a slow or vanished client is not held against the endpoint.

use super::connection::InFlight;
use crate::clock::Monotonic;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Bodies that may have to be sent again are kept up to here; a longer one is sent once. Envoy keeps 1 MiB; each of 30,000
/// connections may have one under way.
const MAX_KEPT: usize = 64 * 1024;

/// Where the sending of a body stands.
pub(super) struct Upload {
    stage: Cell<Stage>,
    /// When the client last delivered something.
    last: Cell<Monotonic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// More to come, and it is not the client that is waited for.
    Sending,
    /// Asked for, and the client has not sent it yet.
    WaitingForClient,
    /// The client went away or sent nonsense.
    ClientFailed,
    /// All of it was handed over.
    Finished,
}

impl Upload {
    /// Whether nothing more of it is sent.
    pub(super) fn has_ended(&self) -> bool {
        self.stage.get() == Stage::Finished
    }

    /// When the client last delivered something.
    pub(super) fn last(&self) -> Monotonic {
        self.last.get()
    }

    /// Whether more was asked for and the client has not sent it yet.
    pub(super) fn waits_for_client(&self) -> bool {
        self.stage.get() == Stage::WaitingForClient
    }
}

/// The client went away or sent nonsense in the middle of its body.
#[derive(Debug)]
pub(super) struct BodyLost;

/// A client's body, over all tries. A handle: clones are the same body.
#[derive(Clone)]
pub(super) struct ClientBody {
    source: Rc<RefCell<Source>>,
    /// Over all tries: what was delivered once counts once.
    upload: Rc<Upload>,
}

struct Source {
    incoming: Incoming,
    /// Whether the client did not say how long it is.
    has_no_length: bool,
    /// Whether it comes over HTTP/2, where a reset may look like an end.
    is_http2: bool,
    /// What came of it, while it is kept.
    kept: Vec<Piece>,
    kept_bytes: usize,
    /// Whether it is to be kept.
    keeps: bool,
    /// Whether some of it was handed over and not kept.
    is_lost: bool,
    has_ended: bool,
}

enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl ClientBody {
    /// A body of a request that began at `started`; `keeps` it while it is small, for another try.
    pub(super) fn new(incoming: Incoming, keeps: bool, is_http2: bool, started: Monotonic) -> Self {
        let has_no_length = incoming.size_hint().exact().is_none();
        let (kept, kept_bytes) = (Vec::new(), 0);
        let (is_lost, has_ended) = (false, false);
        let source = Source { incoming, has_no_length, is_http2, kept, kept_bytes, keeps, is_lost, has_ended };
        let upload = Upload { stage: Cell::new(Stage::Sending), last: Cell::new(started) };
        Self { source: Rc::new(RefCell::new(source)), upload: Rc::new(upload) }
    }

    /// The place to watch it.
    pub(super) fn upload(&self) -> Rc<Upload> {
        Rc::clone(&self.upload)
    }

    /// Whether all that came of it is still here.
    pub(super) fn is_whole(&self) -> bool {
        !self.source.borrow().is_lost
    }

    /// All of it once more, for a request that nobody waits for; `None` where it is not complete, or too long to be kept.
    pub(super) fn copy(&self) -> Option<RequestBody> {
        let source = self.source.borrow();
        if source.is_lost || !source.is_over() {
            return None;
        }
        // What becomes of the copy is not to be seen in the original.
        let upload = Upload { stage: Cell::new(Stage::Sending), last: Cell::new(self.upload.last.get()) };
        let body = Self { source: Rc::clone(&self.source), upload: Rc::new(upload) };
        Some(RequestBody { body, at: 0, in_flight: None })
    }

    /// It for one try, from its beginning. An earlier try must not take any more of it.
    pub(super) fn begin(&self, in_flight: InFlight) -> RequestBody {
        self.upload.stage.set(Stage::Sending);
        RequestBody { body: self.clone(), at: 0, in_flight: Some(in_flight) }
    }
}

impl Source {
    /// Whether nothing more comes. One without a known length tells by its next frame.
    fn is_over(&self) -> bool {
        self.has_ended || self.incoming.is_end_stream()
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Piece::Data(data.clone()),
            (None, Some(trailers)) => Piece::Trailers(trailers.clone()),
            (None, None) => return,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.keeps &= self.kept_bytes + bytes <= MAX_KEPT;
        if self.keeps {
            self.kept_bytes += bytes;
            self.kept.push(piece);
        } else {
            self.is_lost = true;
            self.kept = Vec::new();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyLost>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.incoming).poll_frame(cx).map(|frame| match frame {
            Some(Ok(frame)) => {
                self.keep(&frame);
                self.has_ended = frame.is_trailers();
                Some(Ok(frame))
            }
            // Less came than was announced, or what came is wrong.
            Some(Err(_)) => Some(Err(BodyLost)),
            None if self.incoming.size_hint().exact().is_some_and(|left| left > 0) => Some(Err(BodyLost)),
            // A stream that the client reset "without error" is not one that it ended.
            None if self.is_http2 && !self.incoming.is_end_stream() => Some(Err(BodyLost)),
            None => {
                self.has_ended = true;
                None
            }
        })
    }
}

/// Body of a request to an endpoint.
pub(super) struct RequestBody {
    body: ClientBody,
    /// So many of the kept pieces were taken.
    at: usize,
    /// An upstream may answer before it has read everything; the client's connection is not idle then. `None` for a copy.
    in_flight: Option<InFlight>,
}

impl RequestBody {
    /// Whether the client did not say how long it is.
    pub(super) fn has_no_length(&self) -> bool {
        self.body.source.borrow().has_no_length
    }

    /// Whether all of it was taken. One without a known length tells by its next frame.
    pub(super) fn is_over(&self) -> bool {
        let source = self.body.source.borrow();
        self.at >= source.kept.len() && source.is_over()
    }

    /// The next piece.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyLost>>> {
        let upload = &self.body.upload;
        let mut source = self.body.source.borrow_mut();
        if let Some(piece) = source.kept.get(self.at) {
            self.at += 1;
            if self.at >= source.kept.len() && source.is_over() {
                upload.stage.set(Stage::Finished);
            }
            return Poll::Ready(Some(Ok(match piece {
                Piece::Data(data) => Frame::data(data.clone()),
                Piece::Trailers(trailers) => Frame::trailers(trailers.clone()),
            })));
        }
        let Poll::Ready(frame) = source.poll(cx) else {
            upload.stage.set(Stage::WaitingForClient);
            return Poll::Pending;
        };
        self.at = source.kept.len();
        if !matches!(frame, None | Some(Err(_))) {
            upload.last.set(Monotonic::now());
            if let (Some(record), Some(Ok(frame))) = (self.in_flight.as_ref().and_then(InFlight::record), &frame) {
                record.received(frame.data_ref().map_or(0, Bytes::len));
            }
        }
        upload.stage.set(match &frame {
            Some(Ok(frame)) if frame.is_data() && !source.is_over() => Stage::Sending,
            Some(Ok(_)) | None => Stage::Finished,
            Some(Err(BodyLost)) => Stage::ClientFailed,
        });
        Poll::Ready(frame)
    }

    /// Nobody takes it any more, so it is not the client that is waited for.
    pub(super) fn stop(&self) {
        self.body.upload.stage.set(Stage::Finished);
    }
}
