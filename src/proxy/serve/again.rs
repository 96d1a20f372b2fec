//! Whether a request whose try failed is tried again: by the route's policy, what is left of its body and of its time, and the
//! budget of the target.

use super::{Exchange, has_failed};
use crate::mesh::snapshot::RetryPolicy;
use crate::proxy::ended::Ended;
use crate::proxy::retry::{self, Failure};
use crate::proxy::upload::ClientBody;
use crate::proxy::upstream::Lease;
use std::time::Duration;

impl Exchange {
    /// A try is over: its answer has its places, where there is one.
    pub(super) fn let_go_of(&self, mut result: Result<Lease, Ended>) -> Result<Lease, Ended> {
        self.retry.set(None);
        if let (Some(mut held), Ok(answered)) = (self.held.take(), &mut result) {
            held.answered(has_failed(answered));
            answered.held = Some(held);
        }
        result
    }

    /// After which pause another try is made, with a place in the target's budget where it has one; `None` where none is made.
    pub(super) fn pause_before_retry(&self, policy: &RetryPolicy, retries: u32, failure: Failure) -> Option<Duration> {
        if !retry::allowed(policy, retries, failure) || !self.can_send_again() {
            if retry::is_spent(policy, retries, failure) {
                self.placement.tally(&self.worker).retries_spent.add();
                if let Some(record) = self.in_flight.record() {
                    record.retries_spent();
                }
            }
            return None;
        }
        let pause = retry::backoff(retries, self.worker.draw());
        if !self.has_time_for(pause) {
            return None;
        }
        let Some((budget, tries)) = &self.placement.set().budget else { return Some(pause) };
        let place = tries.retry(*budget);
        if place.is_none() {
            self.placement.tally(&self.worker).retries_over_budget.add();
            if let Some(record) = self.in_flight.record() {
                record.over_bound();
            }
        }
        self.retry.set(Some(place?));
        Some(pause)
    }

    /// A body of which something was handed over and not kept cannot be sent again.
    fn can_send_again(&self) -> bool {
        self.body.as_ref().is_none_or(ClientBody::is_whole)
    }

    fn has_time_for(&self, pause: Duration) -> bool {
        self.deadline.borrow().as_ref().is_none_or(|deadline| deadline.left().is_ok_and(|left| left > pause))
    }
}
