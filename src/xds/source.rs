//! What proxies are sent: one translation for all that are configured by the same resource, made anew when the mesh or the
//! endpoints change, and sent on only when it differs.
//!
//! Endpoints that proxies cannot find themselves (Cloud Map, and names of a discovery file) are looked up here, each once
//! however many proxies need them. What cannot be found out stays as it was.

use super::translate::{Endpoints, Options, Resources, native, translate};
use crate::base::certificate::SecretFiles;
use crate::base::fault::Fault;
use crate::mesh::compile::View;
use crate::mesh::http::MeshControl;
use crate::mesh::snapshot::{ClusterKey, Discovery, NodeConfig};
use crate::ports::EndpointSource;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often endpoints are looked up: a change reaches proxies within a second of being seen, and Cloud Map allows 1,000
/// such calls a second.
const LOOK_UP_EVERY: Duration = Duration::from_secs(1);
/// One lookup; longer is no answer, and the last one stays.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// A configuration waits so long for endpoints that nobody has looked up yet.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// What a proxy is sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Offer {
    /// Whether the mesh has the resource that it is configured by.
    pub known: bool,
    /// What it gets.
    pub resources: Arc<Resources>,
}

/// Where offers come from. A handle: clones are the same source.
#[derive(Clone)]
pub struct Source {
    inner: Arc<Inner>,
}

struct Inner {
    control: MeshControl,
    endpoints: Arc<dyn EndpointSource>,
    secrets: watch::Receiver<Arc<SecretFiles>>,
    views: Mutex<BTreeMap<(View, Options), watch::Sender<Offer>>>,
    lookups: Mutex<BTreeMap<LookupKey, Lookup>>,
}

type LookupKey = (String, u16);

/// A lookup that is repeated as long as somebody wants it.
struct Lookup {
    found: Found,
    wanted_by: usize,
    task: JoinHandle<()>,
}

impl Source {
    /// Over a mesh, whoever knows endpoints, and what stands in for certificates of ACM, as it is renewed.
    #[must_use]
    pub fn new(
        control: MeshControl,
        endpoints: Arc<dyn EndpointSource>,
        secrets: watch::Receiver<Arc<SecretFiles>>,
    ) -> Self {
        let inner = Inner { control, endpoints, secrets, views: Mutex::default(), lookups: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// What a proxy of this resource is sent, now and whenever it changes. To be called within a runtime.
    #[must_use]
    pub fn watch(&self, view: View, options: Options) -> watch::Receiver<Offer> {
        let mut views = lock(&self.inner.views);
        let key = (view, options);
        if let Some(sender) = views.get(&key) {
            return sender.subscribe();
        }
        let config = self.inner.control.subscribe(key.0.clone());
        let (sender, receiver) = watch::channel(Offer::default());
        let follower = Follower {
            source: self.clone(),
            key: key.clone(),
            sender: sender.clone(),
            config,
            secrets: self.inner.secrets.clone(),
            lookups: BTreeMap::new(),
        };
        views.insert(key, sender);
        tokio::spawn(follower.follow());
        receiver
    }

    /// Forgets an offer that nobody listens to; `false` where somebody began to meanwhile, and it has to be kept up.
    fn retire(&self, key: &(View, Options)) -> bool {
        let mut views = lock(&self.inner.views);
        let unheard = views.get(key).is_none_or(|sender| sender.receiver_count() == 0);
        if unheard {
            views.remove(key);
        }
        unheard
    }

    /// Forgets an offer that is not kept up any more, whoever listens: they come again, and begin a new one.
    fn end(&self, key: &(View, Options), sender: &watch::Sender<Offer>) {
        let mut views = lock(&self.inner.views);
        if views.get(key).is_some_and(|entry| entry.same_channel(sender)) {
            views.remove(key);
        }
    }

    /// Addresses of a discovery, from now on.
    fn look_up(&self, discovery: &Discovery, port: u16) -> Found {
        let mut lookups = lock(&self.inner.lookups);
        let lookup = lookups.entry((name_of(discovery), port)).or_insert_with(|| {
            let (sender, found) = watch::channel(None);
            let task = tokio::spawn(repeat(Arc::clone(&self.inner.endpoints), discovery.clone(), port, sender));
            Lookup { found, wanted_by: 0, task }
        });
        lookup.wanted_by += 1;
        lookup.found.clone()
    }

    fn leave(&self, discovery: &Discovery, port: u16) {
        let mut lookups = lock(&self.inner.lookups);
        let key = (name_of(discovery), port);
        if let Some(lookup) = lookups.get_mut(&key) {
            lookup.wanted_by -= 1;
            if lookup.wanted_by == 0 {
                lookup.task.abort();
                lookups.remove(&key);
            }
        }
    }
}

/// A panic while one of these was held left a whole map behind: each change is a single insert or remove.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells discoveries apart.
fn name_of(discovery: &Discovery) -> String {
    format!("{discovery:?}")
}

async fn repeat(
    source: Arc<dyn EndpointSource>,
    discovery: Discovery,
    port: u16,
    sender: watch::Sender<Option<Vec<SocketAddr>>>,
) {
    let mut failing = false;
    loop {
        let answer = tokio::time::timeout(LOOK_UP_TIMEOUT, source.resolve(&discovery, port)).await;
        let answer = answer.unwrap_or_else(|_| Err(Fault::transient("discovery", "no answer within 5 s")));
        match answer {
            Ok(mut addresses) => {
                addresses.sort_unstable();
                addresses.dedup();
                sender.send_if_modified(|known| {
                    let differs = known.as_ref() != Some(&addresses);
                    *known = Some(addresses);
                    differs
                });
                failing = false;
            }
            // Said once until it works again.
            Err(fault) if !failing => {
                tracing::warn!(?discovery, %fault, "endpoints not found out; the last known stay");
                failing = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_UP_EVERY).await;
    }
}

type Wanted = (ClusterKey, u16);
/// Addresses as they are found; `None` before the first answer.
type Found = watch::Receiver<Option<Vec<SocketAddr>>>;

/// Something that is looked up.
struct Looked {
    discovery: Discovery,
    found: Found,
    /// Its first answer was waited for long enough.
    waited: bool,
}

/// Keeps the offer of one resource up to date.
struct Follower {
    source: Source,
    key: (View, Options),
    sender: watch::Sender<Offer>,
    config: watch::Receiver<Arc<NodeConfig>>,
    secrets: watch::Receiver<Arc<SecretFiles>>,
    lookups: BTreeMap<Wanted, Looked>,
}

/// However it ends, by a panic too: nothing waits for an offer that nobody keeps up, and nothing is looked up for it.
impl Drop for Follower {
    fn drop(&mut self) {
        self.source.end(&self.key, &self.sender);
        for ((_, port), looked) in std::mem::take(&mut self.lookups) {
            self.source.leave(&looked.discovery, port);
        }
    }
}

impl Follower {
    async fn follow(mut self) {
        loop {
            let config = Arc::clone(&self.config.borrow_and_update());
            self.want(&config);
            self.first_look().await;
            self.offer(&config);
            let mut found: Vec<_> = self.lookups.values().map(|looked| looked.found.clone()).collect();
            tokio::select! {
                changed = self.config.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                () = any_changed(&mut found) => {}
                () = renewed(&mut self.secrets) => {}
                () = self.sender.closed() => if self.source.retire(&self.key) { break },
            }
        }
    }

    /// Looks up what the configuration needs, and nothing else.
    fn want(&mut self, config: &NodeConfig) {
        let mut wanted: BTreeMap<Wanted, Discovery> = BTreeMap::new();
        // A native proxy finds its endpoints itself.
        let services = config.services.values().filter(|_| !self.key.1.is_native);
        for route in services.flat_map(|service| &service.routes) {
            for target in &route.targets {
                let Some(cluster) = config.clusters.get(&target.cluster) else { continue };
                let here = match &cluster.discovery {
                    Discovery::None => false,
                    Discovery::Dns { .. } => self.key.1.names_by_control_plane,
                    Discovery::CloudMap { .. } => true,
                };
                if here {
                    wanted.insert((target.cluster.clone(), target.port), cluster.discovery.clone());
                }
            }
        }
        let source = &self.source;
        self.lookups.retain(|key, looked| {
            let stays = wanted.get(key) == Some(&looked.discovery);
            if !stays {
                source.leave(&looked.discovery, key.1);
            }
            stays
        });
        for (key, discovery) in wanted {
            if let Entry::Vacant(place) = self.lookups.entry(key) {
                let found = source.look_up(&discovery, place.key().1);
                place.insert(Looked { discovery, found, waited: false });
            }
        }
    }

    /// Endpoints that nobody looked up yet are waited for, once and for a while: one name that is not found out must not
    /// hold up every change of weights.
    async fn first_look(&mut self) {
        let all = async {
            for looked in self.lookups.values_mut().filter(|looked| !looked.waited) {
                // A lookup that ended has no answer to wait for.
                let _ = looked.found.wait_for(Option::is_some).await;
            }
        };
        let _ = tokio::time::timeout(FIRST_LOOK, all).await;
        for looked in self.lookups.values_mut() {
            looked.waited = true;
        }
    }

    fn offer(&mut self, config: &NodeConfig) {
        let mut endpoints = Endpoints::new();
        for (key, looked) in &mut self.lookups {
            if let Some(addresses) = &*looked.found.borrow_and_update() {
                endpoints.insert(key.clone(), addresses.clone());
            }
        }
        let secrets = Arc::clone(&self.secrets.borrow_and_update());
        let options = &self.key.1;
        let mut resources = if options.is_native {
            native::whole(config, &secrets)
        } else {
            translate(config, options, &endpoints, &secrets)
        };
        self.sender.send_if_modified(|offer| {
            resources.share_with(&offer.resources);
            let next = Offer { known: config.own.is_some(), resources: Arc::new(resources) };
            let differs = *offer != next;
            *offer = next;
            differs
        });
    }
}

/// Resolves when they have changed; never when nobody renews them any more.
async fn renewed(secrets: &mut watch::Receiver<Arc<SecretFiles>>) {
    if secrets.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Resolves when one of these has something new; never without any.
async fn any_changed(found: &mut [Found]) {
    let waits = found.iter_mut().map(|found| {
        Box::pin(async move {
            if found.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    let waits: Vec<_> = waits.collect();
    if waits.is_empty() {
        std::future::pending::<()>().await;
    }
    futures_util::future::select_all(waits).await;
}
