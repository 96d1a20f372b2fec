//! What the control plane shows: a configuration for each view that somebody watches, and the mesh's problems.
//!
//! A change makes anew what it touches. The view of all services is made up whether somebody watches or not, since its
//! problems are those of the whole mesh, but put together only for those who do.

use crate::mesh::compile::{self, Changed, Compiled, Problem, View, Whole};
use crate::mesh::model::{Key, MeshState};
use crate::mesh::problems::Problems;
use crate::mesh::snapshot::NodeConfig;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// All that is shown.
pub(super) struct Published {
    /// Of the latest configuration; rises over restarts too, because it starts at the clock's milliseconds.
    version: u64,
    views: BTreeMap<View, Watched>,
    whole: Whole,
    /// Shows the whole.
    all: watch::Sender<Arc<NodeConfig>>,
    /// Of the whole mesh as it was published last; the log knows of them.
    problems: Problems,
}

/// The view of a node or gateway.
struct Watched {
    sender: watch::Sender<Arc<NodeConfig>>,
    compiled: Compiled,
}

impl Published {
    /// Of a state that was read just now.
    pub(super) fn new(state: &MeshState, version: u64) -> Self {
        let mut published = Self {
            version,
            views: BTreeMap::new(),
            whole: Whole::default(),
            all: watch::Sender::default(),
            problems: Problems::default(),
        };
        let keys: Vec<Key> = state.iter().map(|resource| resource.key.clone()).collect();
        published.publish(state, &keys);
        published
    }

    /// The configuration of a view, now and whenever it changes.
    pub(super) fn subscribe(&mut self, state: &MeshState, view: View) -> watch::Receiver<Arc<NodeConfig>> {
        if let Some(watched) = self.views.get(&view) {
            return watched.sender.subscribe();
        }
        self.version += 1;
        if view == View::AllServices {
            let receiver = self.all.subscribe();
            self.show_all();
            return receiver;
        }
        let nothing = Arc::new(NodeConfig { version: self.version, ..NodeConfig::default() });
        let compiled = compile::compile(state, &view, &nothing, self.version);
        let (sender, receiver) = watch::channel(Arc::clone(&compiled.config));
        self.views.insert(view, Watched { sender, compiled });
        receiver
    }

    /// Version of the configuration that a view shows; 0 where nobody watches it.
    pub(super) fn shown(&self, view: &View) -> u64 {
        match view {
            View::AllServices => self.all.borrow().version,
            _ => self.views.get(view).map_or(0, |watched| watched.sender.borrow().version),
        }
    }

    /// Takes over that resources changed, which the state has as they are now, and tells who watches a view that this is
    /// seen in.
    pub(super) fn publish(&mut self, state: &MeshState, changed: &[Key]) {
        self.version += 1;
        // A view that nobody watches any more would be compiled for nobody.
        self.views.retain(|_, watched| watched.sender.receiver_count() > 0);
        let as_seen = Changed::new(changed);
        for (view, watched) in &mut self.views {
            if !watched.compiled.depends_on(&as_seen) {
                continue;
            }
            let last = Arc::clone(&watched.compiled.config);
            watched.compiled = compile::compile(state, view, &last, self.version);
            if !Arc::ptr_eq(&watched.compiled.config, &last) {
                watched.sender.send_replace(Arc::clone(&watched.compiled.config));
            }
        }
        let touched = self.whole.update(state, changed);
        if self.all.receiver_count() > 0 {
            self.show_all();
        }
        let difference = self.problems.update(state, changed, touched);
        self.problems.tell(&difference);
    }

    /// What meshes leave open, and what they ask for that this version cannot do, by resource.
    pub(super) fn problems(&self) -> Vec<Problem> {
        self.problems.iter().cloned().collect()
    }

    fn show_all(&mut self) {
        if self.whole.has_more() {
            self.all.send_replace(self.whole.show(self.version));
        }
    }
}
