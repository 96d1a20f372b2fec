//! A request that is counted: from its head until nothing of it is under way any more.

use crate::clock::Monotonic;
use crate::proxy::connection::For;
use crate::proxy::worker::{Local, Placement, Worker};
use std::cell::Cell;
use std::rc::Rc;

/// Index of the prefix that a connection's requests are counted under.
pub(in crate::proxy) fn prefix(local: &Local, whom: For) -> usize {
    let (For::Application { port } | For::Gateway { port }) = whom else { return 0 };
    let own = local.compiled.config.own.as_ref();
    own.and_then(|own| own.listeners.iter().position(|listener| listener.port == port)).map_or(0, |index| index + 1)
}

/// Counts a request as under way as long as it is there.
pub(in crate::proxy) struct Watch {
    local: Rc<Local>,
    worker: Rc<Worker>,
    http: usize,
    tally: Option<usize>,
    began: Monotonic,
    ended: Cell<Option<Monotonic>>,
}

impl Watch {
    /// Begins to count a request, which was placed or refused.
    pub(in crate::proxy) fn new(
        worker: &Rc<Worker>,
        whom: For,
        placement: Option<&Placement>,
        began: Monotonic,
    ) -> Self {
        let local = placement.map_or_else(|| worker.local(), |placement| Rc::clone(&placement.local));
        let http = prefix(&local, whom);
        local.http(worker, http).requests.add();
        let tally = placement.map(Placement::tally_index);
        if let Some(tally) = tally {
            local.target(worker, tally).begun.add();
        }
        Self { local, worker: Rc::clone(worker), http, tally, began, ended: Cell::new(None) }
    }

    /// The request comes over HTTP/2.
    pub(in crate::proxy) fn is_http2(&self) {
        self.local.http(&self.worker, self.http).http2_requests.add();
    }

    /// It is one of gRPC.
    pub(in crate::proxy) fn is_grpc(&self) {
        self.local.http(&self.worker, self.http).grpc_requests.add();
    }

    /// When its answer was complete, where that is known without a look at the clock.
    pub(in crate::proxy) fn ended_at(&self, at: Option<Monotonic>) {
        self.ended.set(at);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let ended = self.ended.get().unwrap_or_else(Monotonic::now);
        let us = u64::try_from(ended.since(self.began).as_micros()).unwrap_or(u64::MAX);
        self.local.http(&self.worker, self.http).ended(us);
        if let Some(tally) = self.tally {
            self.local.target(&self.worker, tally).ended(us);
        }
    }
}
