//! Fuses that tripped, from one process to the next: the one that takes over keeps such a release out, and a controller that has not
//! read of it yet reads it there. What fuses have seen short of that begins anew.

use super::fused::Fuses;
use super::{ProxyHandle, Shared};
use crate::base::fuse::Fuse;
use crate::base::ids::RouteRef;
use crate::base::tally::FUSES_MAX;
use crate::judge::Counts;
use serde::{Deserialize, Serialize};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest list in bytes: [`FUSES_MAX`] of them, each with five names of up to 255 bytes and a dozen numbers.
const LENGTH_MAX: u32 = 2 * 1024 * 1024;

/// A fuse that tripped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tripped {
    /// The route.
    pub(super) route: RouteRef,
    /// What it was armed by last.
    pub(super) fuse: Fuse,
    /// Evidence against the canary when it tripped, in nats.
    pub(super) log_e: f64,
    /// What was counted in the rollout until then.
    pub(super) counts: Counts,
    /// Failures of the canary since the last acknowledgement.
    pub(super) errors_since_heard: u64,
}

/// Sends a list: its length in bytes (four, the lowest first), and itself as JSON.
pub(super) async fn send(to: &mut (impl AsyncWrite + Unpin), tripped: &[Tripped]) -> io::Result<()> {
    let text = serde_json::to_vec(&tripped[..tripped.len().min(FUSES_MAX)])?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length <= LENGTH_MAX);
    let length = length.ok_or_else(|| io::Error::other("more about fuses than any proxy has"))?;
    to.write_all(&length.to_le_bytes()).await?;
    to.write_all(&text).await
}

/// Receives a list.
///
/// # Errors
/// It broke off, is longer than any is, or no such list.
pub(super) async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<Tripped>> {
    let length = from.read_u32_le().await?;
    if length > LENGTH_MAX {
        return Err(io::Error::other(format!("{length} bytes about fuses: more than any proxy has")));
    }
    let mut text = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut text).await?;
    Ok(serde_json::from_slice(&text)?)
}

impl ProxyHandle {
    /// Its fuses that tripped, for the process that takes over.
    #[must_use]
    pub fn tripped(&self) -> Vec<Tripped> {
        self.fuses().tripped()
    }

    /// Takes over those of the process before this one.
    pub fn take_over_tripped(&self, tripped: Vec<Tripped>) {
        let now = self.shared.started.elapsed();
        self.fuses().inherit(tripped, now);
    }

    fn fuses(&self) -> &Fuses {
        let shared: &Shared = &self.shared;
        &shared.fuses
    }
}

/// One of that route.
#[cfg(test)]
pub(super) fn example(route: &str) -> Tripped {
    use crate::base::fuse::Decimal;
    let fuse = Fuse {
        failures: 5,
        canary: "v2".into(),
        rollout: "r-1".into(),
        threshold: Decimal::at_least(5.73),
        ratio: Decimal::whole(1),
        add: Decimal::at_least(0.001),
    };
    let counts = Counts { canary_requests: 41, canary_errors: 4, stable_requests: 0, stable_errors: 1 };
    let route = RouteRef { mesh: "m".into(), router: "r".into(), route: route.into() };
    Tripped { route, fuse, log_e: 7.214_159, counts, errors_since_heard: 4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_comes_as_it_was_sent() {
        for list in [Vec::new(), vec![example("a"), example("b")]] {
            let mut sent = Vec::new();
            send(&mut sent, &list).await.expect("it is short");
            assert_eq!(receive(&mut &*sent).await.expect("whole"), list);
            assert!(receive(&mut &sent[..sent.len() - 1]).await.is_err(), "it broke off");
        }
        let longest = example(&"x".repeat(255));
        let many = vec![longest; FUSES_MAX + 1];
        let mut sent = Vec::new();
        send(&mut sent, &many).await.expect("more are left out");
        assert_eq!(receive(&mut &*sent).await.expect("whole").len(), FUSES_MAX);
    }

    #[tokio::test]
    async fn what_is_no_list_is_told_apart() {
        for wrong in [&b"\xff\xff\xff\xff"[..], b"\x02\x00\x00\x00{}", b"\x00\x00\x00\x00", b"\x02"] {
            assert!(receive(&mut &*wrong).await.is_err(), "{wrong:?}");
        }
    }
}
