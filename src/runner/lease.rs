//! Which daemon drives: takes the lease when nobody has it, extends it, and tells when it is gone.
//!
//! Believing in a lease that is gone harms nothing: the store refuses the writes. What this loop is for is that somebody
//! drives at all, that the others know who, and that a daemon which cannot reach the database stops before another one
//! begins, so that their calls to the outside do not cross.

use crate::base::fault::Fault;
use crate::ports::{Acquired, DriverLease, Holder, LEASE, LEASE_RENEWAL};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

/// Who stands by looks so often whether the lease is free: one read of one row.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Beyond which asking again would only be load.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
/// A renewal that failed is tried again so soon.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Whether this daemon drives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It does, under this epoch.
    Driving {
        /// 1 or more.
        epoch: u64,
    },
    /// It does not; the one that does, as far as that is known.
    StandingBy {
        /// Absent where nobody has it, or nobody could be asked.
        holder: Option<Holder>,
        /// Why nobody could be asked.
        fault: Option<Fault>,
    },
}

/// A daemon that has not asked yet.
impl Default for Turn {
    fn default() -> Self {
        Self::StandingBy { holder: None, fault: None }
    }
}

/// Takes turns until `stopping`; then gives the lease back. Every change is told through `turn`, and whoever drives must
/// stop when it is told to stand by.
///
/// The end of a turn that could not be extended lies [`LEASE`] after the beginning of the last call that extended it, by
/// this process's own clock: the keeper's clock started later.
pub async fn take_turns(lease: Arc<dyn DriverLease>, turn: watch::Sender<Turn>, mut stopping: watch::Receiver<bool>) {
    let until_stopping = async {
        // An error would mean that the process is ending without having said so.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    tokio::select! {
        () = forever(lease.as_ref(), &turn) => {}
        () = until_stopping => {}
    }
}

async fn forever(lease: &dyn DriverLease, turn: &watch::Sender<Turn>) {
    // The lease may be this process's still, where the answer to an extension was lost: looking would show it as somebody's,
    // and taking tells.
    let mut may_be_ours = false;
    loop {
        let ends = Box::pin(sleep(LEASE));
        let asked = if may_be_ours { lease.try_acquire().await } else { acquire(lease).await };
        may_be_ours = asked.is_err() && may_be_ours;
        match asked {
            Ok(Acquired::Ours { epoch }) => {
                tracing::info!(epoch, "this daemon drives now");
                tell(turn, Turn::Driving { epoch });
                drive(lease, ends).await;
                tracing::warn!(epoch, "this daemon does not drive any more");
                tell(turn, Turn::default());
                may_be_ours = true;
            }
            Ok(Acquired::Theirs(holder)) => {
                // Soon after the end of a lease that nobody extends, and not before.
                let wait = holder.left.clamp(SHORTEST_WAIT, LOOK_EVERY);
                tell(turn, Turn::StandingBy { holder: Some(holder), fault: None });
                sleep(wait).await;
            }
            Err(fault) => {
                tell(turn, Turn::StandingBy { holder: None, fault: Some(fault) });
                sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Takes it only when it looks free: taking waits for the driver's writes, and looking does not.
async fn acquire(lease: &dyn DriverLease) -> Result<Acquired, Fault> {
    match lease.holder().await? {
        Some(holder) => Ok(Acquired::Theirs(holder)),
        None => lease.try_acquire().await,
    }
}

/// Extends the lease until it is gone, which a call that hangs does not put off.
async fn drive(lease: &dyn DriverLease, mut ends: Pin<Box<Sleep>>) {
    let mut wait = LEASE_RENEWAL;
    loop {
        let extended = async {
            sleep(wait).await;
            let ends = Box::pin(sleep(LEASE));
            (lease.renew().await, ends)
        };
        let (answer, later) = tokio::select! {
            () = &mut ends => return,
            extended = extended => extended,
        };
        match answer {
            Ok(true) => (ends, wait) = (later, LEASE_RENEWAL),
            Ok(false) => return,
            Err(fault) => {
                tracing::warn!(%fault, "the lease was not extended");
                wait = RETRY_EVERY;
            }
        }
    }
}

/// Tells what is new; how long a holder still has is not.
fn tell(turn: &watch::Sender<Turn>, now: Turn) {
    turn.send_if_modified(|before| {
        let same = match (&*before, &now) {
            (Turn::StandingBy { holder: Some(a), .. }, Turn::StandingBy { holder: Some(b), .. }) => {
                (&a.id, &a.address) == (&b.id, &b.address)
            }
            (a, b) => a == b,
        };
        *before = now;
        !same
    });
}

#[cfg(test)]
mod tests;
