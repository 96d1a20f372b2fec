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
pub(super) struct ClientBody(Rc<RefCell<Source>>);

struct Source {
    incoming: Incoming,
    /// Whether the client did not say how long it is.
    has_no_length: bool,
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
    /// A body that just begins; `keeps` it while it is small, for another try.
    pub(super) fn new(incoming: Incoming, keeps: bool) -> Self {
        let has_no_length = incoming.size_hint().exact().is_none();
        let (kept, kept_bytes) = (Vec::new(), 0);
        let source = Source { incoming, has_no_length, kept, kept_bytes, keeps, is_lost: false, has_ended: false };
        Self(Rc::new(RefCell::new(source)))
    }

    /// Whether all that came of it is still here.
    pub(super) fn is_whole(&self) -> bool {
        !self.0.borrow().is_lost
    }

    /// It for one try, from its beginning, with the place to watch it. An earlier try must not take any more of it.
    pub(super) fn begin(&self, in_flight: InFlight) -> (RequestBody, Rc<Upload>) {
        let upload = Rc::new(Upload { stage: Cell::new(Stage::Sending), last: Cell::new(Monotonic::now()) });
        let body = RequestBody { body: self.clone(), at: 0, upload: Rc::clone(&upload), _in_flight: in_flight };
        (body, upload)
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
    upload: Rc<Upload>,
    /// An upstream may answer before it has read everything; the client's connection is not idle then.
    _in_flight: InFlight,
}

impl RequestBody {
    /// Whether the client did not say how long it is.
    pub(super) fn has_no_length(&self) -> bool {
        self.body.0.borrow().has_no_length
    }

    /// Whether all of it was taken. One without a known length tells by its next frame.
    pub(super) fn is_over(&self) -> bool {
        let source = self.body.0.borrow();
        self.at >= source.kept.len() && source.is_over()
    }

    /// The next piece.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyLost>>> {
        let mut source = self.body.0.borrow_mut();
        if let Some(piece) = source.kept.get(self.at) {
            self.at += 1;
            return Poll::Ready(Some(Ok(match piece {
                Piece::Data(data) => Frame::data(data.clone()),
                Piece::Trailers(trailers) => Frame::trailers(trailers.clone()),
            })));
        }
        let Poll::Ready(frame) = source.poll(cx) else {
            self.upload.stage.set(Stage::WaitingForClient);
            return Poll::Pending;
        };
        self.at = source.kept.len();
        self.upload.last.set(Monotonic::now());
        self.upload.stage.set(match &frame {
            Some(Ok(frame)) if frame.is_data() && !source.is_over() => Stage::Sending,
            Some(Ok(_)) | None => Stage::Finished,
            Some(Err(BodyLost)) => Stage::ClientFailed,
        });
        Poll::Ready(frame)
    }

    /// Nobody takes it any more, so it is not the client that is waited for.
    pub(super) fn stop(&self) {
        self.upload.stage.set(Stage::Sending);
    }
}
