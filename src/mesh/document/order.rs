//! An order in which changes can be made one by one, as an App Mesh endpoint takes them.
//!
//! A plan is checked in the state at its end; an endpoint checks every step. Creation goes parents first, but an update
//! may have to go the other way round: a route must name a port before its node may listen on two.

use crate::mesh::error::ApiError;
use crate::mesh::model::{Change, Key, MeshState};
use crate::mesh::ops::{self, OpContext};
use std::sync::Arc;

/// Changes that cannot be made one by one: each that is left, and why it cannot be the next.
#[derive(Debug, Clone, PartialEq)]
pub struct NoOrder {
    /// By the order of the plan; never empty.
    pub left: Vec<(Key, ApiError)>,
}

/// The changes in an order in which each of them passes the API's checks.
///
/// # Errors
/// [`NoOrder`] when the changes only fit together. The way out is an update in between.
pub fn one_by_one(state: &MeshState, changes: &[Change], context: &OpContext) -> Result<Vec<Change>, NoOrder> {
    let mut state = state.clone();
    let mut order = Vec::new();
    let mut waiting: Vec<Change> = changes.to_vec();
    while !waiting.is_empty() {
        let count = waiting.len();
        let (mut left, mut refused) = (Vec::new(), Vec::new());
        for change in waiting {
            let key = change.0.clone();
            let old = state.get(&key).map(Arc::clone);
            let allowed = if change.1.is_none() {
                ops::check_delete(&state, context, &key).map(|()| state.commit([change.clone()]))
            } else {
                state.commit([change.clone()]);
                ops::check(&state, context, &key)
            };
            match allowed {
                Ok(()) => order.push(change),
                Err(error) => {
                    state.commit([(key.clone(), old)]);
                    refused.push((key, error));
                    left.push(change);
                }
            }
        }
        // Whatever was made in this round may have cleared the way. When nothing was made, nothing will be.
        if left.len() == count {
            return Err(NoOrder { left: refused });
        }
        waiting = left;
    }
    Ok(order)
}
