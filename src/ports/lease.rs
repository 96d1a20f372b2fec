//! The seam to what says whose turn it is to drive.

use crate::base::fault::Fault;
use async_trait::async_trait;
use std::time::Duration;

/// A lease lasts so long after it was taken or extended, by the clock of whoever keeps it. It is how long nobody drives
/// after a daemon has vanished: deadlines of rollouts are minutes, and a proxy's own fuse acts without a driver.
pub const LEASE: Duration = Duration::from_secs(10);
/// A lease is extended so often: two tries may fail before it runs out.
pub const LEASE_RENEWAL: Duration = Duration::from_secs(3);

/// Which of the daemons that share a database drives its rollouts and its mesh.
///
/// Whoever has the lease has an epoch, and each taking raises it. A store refuses every write of a process that does not
/// hold the present epoch (of rollouts as [`super::JournalError::Fenced`], of the mesh as a permanent fault), so two that
/// believe in their lease never both write. What the lease is for is that there is one at all, and that the others
/// know where it is.
///
/// A process cannot see its lease run out elsewhere. One that could not extend it should stop driving when [`LEASE`] has
/// passed on its own clock since the *beginning* of the last call that took or extended it: the keeper's clock
/// started later. What it had read of rollouts and of the mesh may be out of date from then on, and when it takes the
/// lease again.
#[async_trait]
pub trait DriverLease: Send + Sync + 'static {
    /// Takes the lease when nobody has it, when it has run out, or when it is this process's own already; raises the
    /// epoch, and gives it to every rollout that is not finished. Waits for a write under way, of the former holder too.
    ///
    /// # Errors
    /// It could not be asked within 3 s. It may have been taken all the same: asking again tells.
    async fn try_acquire(&self) -> Result<Acquired, Fault>;
    /// Extends the lease. `false` when it is not this process's any more, or never was: it must stop driving.
    ///
    /// # Errors
    /// It could not be asked within 3 s, and may have been extended all the same.
    async fn renew(&self) -> Result<bool, Fault>;
    /// Gives the lease back, so that another one need not wait for it to run out; nothing more is written by this
    /// process until it takes it again. Nothing happens where it is not its own.
    ///
    /// # Errors
    /// It could not be given back: it runs out by itself.
    async fn release(&self) -> Result<(), Fault>;
    /// Who has it; `None` when nobody has, or it has run out.
    ///
    /// # Errors
    /// It could not be asked within 3 s.
    async fn holder(&self) -> Result<Option<Holder>, Fault>;
}

/// What came of trying to take the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// It is this process's now, for [`LEASE`].
    Ours {
        /// Its epoch: 1 or more, and higher than any before.
        epoch: u64,
    },
    /// Another one has it.
    Theirs(Holder),
}

/// Who has the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The process, as it named itself.
    pub id: String,
    /// The URL at which other daemons reach its API; empty when it gave none.
    pub address: String,
    /// How much longer it has the lease unless it extends it.
    pub left: Duration,
}
