//! What happened to the rollouts that somebody looks at: read from the journal once, then kept up by what is committed.
//!
//! There is no task: whoever looks takes in what was committed since the last look. When that was too much to be kept for a
//! slow listener, everything is forgotten and read again.

use super::track::{POINTS_MAX, Track};
use crate::base::fault::Fault;
use crate::rollout::view::RolloutView;
use crate::runner::handle::Runner;
use crate::runner::history::{Change, Replayed};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Rollouts kept: more of them than people have open, at some hundred kilobytes each.
const TRACKS_MAX: usize = 32;
/// A journal with more inputs is not replayed for a page: under traffic so many are almost three hours, and take about two
/// seconds.
const REPLAY_MAX: u64 = 10_000;

/// What happened to the rollouts that somebody looks at.
pub struct Feed {
    runner: Runner,
    replay_max: u64,
    /// Held while a journal is replayed, so that looking takes one core at most.
    kept: Arc<Mutex<Kept>>,
}

struct Kept {
    changes: Receiver<Change>,
    tracks: BTreeMap<String, (u64, Arc<Track>)>,
    /// Counts looks: the track that was not looked at for the longest is forgotten first.
    looks: u64,
}

impl Feed {
    /// Of the rollouts of a runner.
    #[must_use]
    pub fn new(runner: Runner) -> Arc<Self> {
        Self::with(runner, REPLAY_MAX)
    }

    /// The same with another bound on the journals that are replayed.
    #[must_use]
    pub fn with(runner: Runner, replay_max: u64) -> Arc<Self> {
        let kept = Kept { changes: runner.changes(), tracks: BTreeMap::new(), looks: 0 };
        Arc::new(Self { runner, replay_max, kept: Arc::new(Mutex::new(kept)) })
    }

    /// What happened to a rollout, of which this is how it stands.
    ///
    /// # Errors
    /// The store's fault.
    pub async fn track(self: &Arc<Self>, view: &RolloutView) -> Result<Arc<Track>, Fault> {
        let (feed, view, kept) = (Arc::clone(self), view.clone(), Arc::clone(&self.kept).lock_owned().await);
        // A task of its own: a client that hangs up leaves no replay behind beside which the next one begins.
        let looked = tokio::spawn(async move { feed.look(kept, &view).await }).await;
        looked.unwrap_or_else(|_| Err(Fault::unknown("feed", "a look broke off; the daemon's log says more")))
    }

    async fn look(&self, mut kept: OwnedMutexGuard<Kept>, view: &RolloutView) -> Result<Arc<Track>, Fault> {
        kept.catch_up();
        kept.looks += 1;
        let looks = kept.looks;
        if let Some((looked, track)) = kept.tracks.get_mut(&view.id) {
            *looked = looks;
            return Ok(Arc::clone(track));
        }
        let take = |track: &mut Track, view: &RolloutView, asked: Option<String>| track.take(view, asked.as_deref());
        let replayed =
            self.runner.replay(&view.id, (self.replay_max, POINTS_MAX as u64), Track::default(), take).await?;
        let track = match replayed {
            Some(Replayed::Whole(track)) => track,
            Some(Replayed::Not) => {
                let mut track = Track::partial();
                track.take(view, None);
                track
            }
            // A start that waits: nothing has happened yet.
            None => return Ok(Arc::default()),
        };
        let track = Arc::new(track);
        kept.tracks.insert(view.id.clone(), (looks, Arc::clone(&track)));
        kept.make_room();
        Ok(track)
    }
}

impl Kept {
    fn catch_up(&mut self) {
        loop {
            match self.changes.try_recv() {
                Ok(change) => self.take(&change),
                Err(TryRecvError::Lagged(_)) => self.tracks.clear(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn take(&mut self, change: &Change) {
        let Some((_, track)) = self.tracks.get_mut(&change.view.id) else { return };
        if change.view.seq > track.seq() + 1 {
            // Something in between was not told, so it is read again.
            self.tracks.remove(&change.view.id);
            return;
        }
        // Copied only while somebody is still shown it as it was.
        Arc::make_mut(track).take(&change.view, change.asked.as_deref());
    }

    fn make_room(&mut self) {
        if self.tracks.len() <= TRACKS_MAX {
            return;
        }
        let oldest = self.tracks.iter().min_by_key(|(_, (looked, _))| *looked).map(|(id, _)| id.clone());
        if let Some(id) = oldest {
            self.tracks.remove(&id);
        }
    }
}
