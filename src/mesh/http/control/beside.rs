//! The proxy in the process of the control plane: a change is answered when requests are routed by it.
//!
//! Without this the answer would race the proxy's own task for a core, and under full load requests that begin after the answer
//! would be routed by the old weights for as long as the system lets others run, 20 ms and more.

use super::MeshControl;
use crate::mesh::compile::View;
use std::time::Duration;
use tokio::sync::watch;

/// How long an answer waits for the proxy. It takes new weights over in a fraction of a millisecond once it has a core. One that
/// waits for endpoints or secrets of something new takes seconds, and no answer waits for that.
const PATIENCE: Duration = Duration::from_millis(100);

/// A proxy that routes by what the control plane in its process publishes.
#[derive(Debug)]
pub(super) struct Beside {
    view: View,
    /// Version of the configuration that it routes by.
    routes_by: watch::Receiver<u64>,
}

impl MeshControl {
    /// Has changes answered only when the proxy of this process, which was given this view, routes by them, or after a
    /// tenth of a second. There is one such proxy; a second one is not waited for.
    pub fn wait_for_proxy(&self, view: View, routes_by: watch::Receiver<u64>) {
        let _ = self.inner.beside.set(Beside { view, routes_by });
    }

    /// Waits until the proxy of this process, if there is one, routes by what is published now.
    pub(super) async fn routed_beside(&self) {
        let Some(beside) = self.inner.beside.get() else { return };
        let wanted = self.published().shown(&beside.view);
        let mut routes_by = beside.routes_by.clone();
        // An error means that the proxy has ended: nothing is routed.
        let _ = tokio::time::timeout(PATIENCE, routes_by.wait_for(|version| *version >= wanted)).await;
    }
}
