//! What a try counts as while it is under way, where its target's node has a tag that asks for it. Where none does there is
//! nothing of this, and a try passes by one look.

use super::budget::Request;
use super::config::{Compiled, EndpointSet, SetKey};
use super::upload::{ClientBody, Upload};
use super::upstream::Pool;
use super::worker::{Placement, Worker};
use crate::clock::Monotonic;
use std::rc::Rc;
use std::sync::Arc;

/// The places of one try, until its answer is complete.
pub(super) struct Held {
    load: Option<Loading>,
    _request: Option<Request>,
}

/// A place at an endpoint.
struct Loading {
    pool: Rc<Pool>,
    began: Monotonic,
    is_noted: bool,
    /// Of the request's body, where it has one.
    upload: Option<Rc<Upload>>,
}

impl Held {
    /// The places of a try at this endpoint that begins now; `None` where nothing is counted.
    pub(super) fn at(worker: &Worker, placement: &Placement, endpoint: usize, now: Monotonic) -> Option<Box<Self>> {
        let set = placement.set();
        if set.balanced.is_none() && set.budget.is_none() {
            return None;
        }
        Self::in_set(worker, placement, (set, endpoint), now)
    }

    /// As [`Self::at`], for a request with this body: the time that its client takes is not the endpoint's.
    pub(super) fn of(
        body: Option<&ClientBody>,
        (worker, placement): (&Worker, &Placement),
        endpoint: usize,
        now: Monotonic,
    ) -> Option<Box<Self>> {
        let mut held = Self::at(worker, placement, endpoint, now)?;
        if let Some(loading) = &mut held.load {
            loading.upload = body.map(ClientBody::upload);
        }
        Some(held)
    }

    #[cold]
    fn in_set(
        worker: &Worker,
        placement: &Placement,
        (set, endpoint): (&EndpointSet, usize),
        now: Monotonic,
    ) -> Option<Box<Self>> {
        let counts = set.balanced.as_ref().is_some_and(super::balance::Balanced::counts);
        let load = counts.then(|| {
            let pool = Rc::clone(placement.local.pool(worker, set, endpoint));
            pool.load.enter();
            Loading { pool, began: now, is_noted: false, upload: None }
        });
        // Of connections none is tried again that counts here.
        let budget = set.budget.as_ref().filter(|_| set.spoken.is_some());
        let request = budget.map(|(_, tries)| tries.begin());
        (load.is_some() || request.is_some()).then(|| Box::new(Self { load, _request: request }))
    }

    /// The try brought an answer.
    pub(super) fn answered(&mut self, has_failed: bool) {
        if let Some(loading) = &mut self.load {
            loading.note(has_failed);
        }
    }

    /// The try is a connection that its endpoint took: how long that was says nothing about its load.
    pub(super) fn connected(&mut self) {
        if let Some(loading) = &mut self.load {
            loading.is_noted = true;
        }
    }
}

impl Loading {
    fn note(&mut self, has_failed: bool) {
        let now = Monotonic::now();
        let delivered = self.upload.as_ref().map_or(self.began, |upload| upload.last());
        self.pool.load.note(now, now.since(self.began.max(delivered)), has_failed);
        self.is_noted = true;
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.pool.load.leave();
        let waits_for_client = || self.upload.as_ref().is_some_and(|upload| upload.waits_for_client());
        if !self.is_noted && !waits_for_client() {
            // It failed, or nobody waited any longer: it would have taken this long at least.
            self.note(true);
        }
    }
}

/// Has a snapshot count what is under way together with the one before it: of targets with a budget, and of connections to the
/// application.
pub(super) fn keep_counts(compiled: &mut Compiled, before: &Compiled) {
    let known = |key: &SetKey| before.sets.iter().find(|set| set.key == *key)?.budget.as_ref();
    for set in &mut compiled.sets {
        let Some((_, tries)) = &mut set.budget else { continue };
        if let Some((_, known)) = known(&set.key) {
            *tries = Arc::clone(known);
        }
    }
    for (port, (_, gate)) in &mut compiled.own_connections {
        if let Some((_, known)) = before.own_connections.get(port) {
            *gate = Arc::clone(known);
        }
    }
}
