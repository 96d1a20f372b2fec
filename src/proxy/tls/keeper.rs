//! Certificates and authorities of a configuration, as they are now: read when a configuration first names them, and again as
//! long as it does.
//!
//! What was good stays: a file that is half written, or a secret that is withdrawn, is told once in the log, and connections
//! go on beginning with what they began with before. Only a change of the mesh's own words takes effect whatever becomes of it.

use super::Towards;
use super::build::{ClientParts, ClientSide, ServerParts, ServerSide};
use super::material::{FileRead, Found, Secrets};
use crate::mesh::snapshot::{Listener, NodeConfig, Protocol, ServerTls, ServerTlsMode, UpstreamTls};
use crate::proxy::config::SetKey;
use crate::tls;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What connections begin with now.
#[derive(Clone, Default)]
pub(in crate::proxy) struct Secured {
    towards: BTreeMap<SetKey, Towards>,
    own: BTreeMap<u16, Option<Arc<ServerSide>>>,
    ignored: bool,
}

impl Secured {
    /// What connections to endpoints of this port of a node begin with; `wanted` says whether the mesh wants TLS.
    pub(in crate::proxy) fn towards(&self, key: &SetKey, wanted: bool) -> Towards {
        if !wanted || self.ignored {
            return Towards::Plain;
        }
        self.towards.get(key).cloned().unwrap_or(Towards::Unusable)
    }

    /// Whether connections of the one are as good as those of the other.
    pub(in crate::proxy) fn is_as(&self, other: &Self) -> bool {
        self.towards.len() == other.towards.len()
            && self.towards.iter().zip(&other.towards).all(|(one, other)| one.0 == other.0 && one.1.is_as(other.1))
    }

    /// What connections to an own listener with TLS begin with; `None` while its certificate cannot be used.
    pub(in crate::proxy) fn own(&self, port: u16) -> Option<&Arc<ServerSide>> {
        self.own.get(&port)?.as_ref()
    }
}

/// What was made of a policy.
struct Made<Policy, Parts, Side> {
    policy: Policy,
    parts: Parts,
    side: Arc<Side>,
}

/// Keeps both sides.
pub(in crate::proxy) struct Keeper {
    found: Found,
    secrets: Secrets,
    towards: BTreeMap<SetKey, Made<UpstreamTls, ClientParts, ClientSide>>,
    own: BTreeMap<u16, Made<ServerTls, ServerParts, ServerSide>>,
    /// What was told to be wrong, so that it is not told again.
    told: BTreeMap<String, String>,
    /// Whether TLS is no matter here: without a proxy beside them, services stand alone and are called as they are.
    ignored: bool,
}

impl Keeper {
    pub(in crate::proxy) fn new(secrets: Secrets, ignored: bool) -> Self {
        let (towards, own, told) = Default::default();
        let mut keeper = Self { found: Found::default(), secrets, towards, own, told, ignored };
        keeper.take_secrets();
        keeper
    }

    /// Files of a configuration that nobody has read yet.
    pub(in crate::proxy) fn unread(&self, config: &NodeConfig) -> Vec<String> {
        let mut files = self.files(config);
        files.retain(|path| !self.found.files.contains_key(path));
        files
    }

    /// Files of a configuration.
    pub(in crate::proxy) fn files(&self, config: &NodeConfig) -> Vec<String> {
        if self.ignored { Vec::new() } else { config.certificate_files().into_iter().map(str::to_owned).collect() }
    }

    /// Whether every secret of a configuration was told at least once.
    pub(in crate::proxy) fn has_secrets(&self, config: &NodeConfig) -> bool {
        self.ignored || config.sds_secrets().into_iter().all(|name| self.found.sds.by_name.contains_key(name))
    }

    /// Takes what was read; whether anything is new.
    pub(in crate::proxy) fn take_files(&mut self, read: Vec<(String, FileRead)>) -> bool {
        let mut changed = false;
        for (path, read) in read {
            changed |= self.found.files.get(&path) != Some(&read);
            self.found.files.insert(path, read);
        }
        changed
    }

    /// Takes the secrets as they are now.
    pub(in crate::proxy) fn take_secrets(&mut self) {
        if let Some(acm) = &mut self.secrets.acm {
            self.found.acm = Arc::clone(&acm.borrow_and_update());
        }
        if let Some(sds) = &mut self.secrets.sds {
            self.found.sds = Arc::clone(&sds.borrow_and_update());
        }
    }

    /// Resolves when a secret has changed.
    pub(in crate::proxy) fn secrets_changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let Secrets { acm, sds } = self.secrets.clone();
        async move {
            tokio::select! {
                () = changed(acm) => {}
                () = changed(sds) => {}
            }
        }
    }

    /// Makes both sides for a configuration. What is made of the same as before is the same as before.
    pub(in crate::proxy) fn secure(&mut self, config: &NodeConfig) -> Secured {
        let mut secured = Secured { ignored: self.ignored, ..Secured::default() };
        if self.ignored {
            return secured;
        }
        let mut told = BTreeMap::new();
        let (mut last_towards, mut last_own) = (std::mem::take(&mut self.towards), std::mem::take(&mut self.own));
        for cluster in config.clusters.values() {
            for port in &cluster.ports {
                let Some(policy) = &port.tls else { continue };
                let key = (cluster.key.clone(), port.port);
                let parts = client_parts(&self.found, policy, port.protocol);
                let last = last_towards.remove(&key);
                let whom =
                    || format!("calls to mesh/{}/virtualNode/{}:{}", cluster.key.mesh, cluster.key.node, port.port);
                let made = make(policy, parts, last, ClientSide::new, |why| self.tell(&mut told, whom(), why));
                let towards = made.as_ref().map_or(Towards::Unusable, |made| Towards::Tls(Arc::clone(&made.side)));
                secured.towards.insert(key.clone(), towards);
                self.towards.extend(made.map(|made| (key, made)));
            }
        }
        for listener in config.own.iter().flat_map(|own| &own.listeners) {
            let Some(policy) = &listener.tls else { continue };
            let parts = server_parts(&self.found, policy, listener);
            let last = last_own.remove(&listener.port);
            let whom = || format!("the listener on port {}", listener.port);
            let made = make(policy, parts, last, ServerSide::new, |why| self.tell(&mut told, whom(), why));
            secured.own.insert(listener.port, made.as_ref().map(|made| Arc::clone(&made.side)));
            self.own.extend(made.map(|made| (listener.port, made)));
        }
        self.told = told;
        secured
    }

    /// Tells what is wrong, if it was not told before.
    fn tell(&self, told: &mut BTreeMap<String, String>, whom: String, (why, stays): (String, bool)) {
        if self.told.get(&whom) != Some(&why) {
            let effect = if stays { "the last good certificate stays" } else { "no TLS, and so no connections" };
            tracing::error!(whom, why, effect, "a certificate or its authorities cannot be used");
        }
        told.insert(whom, why);
    }
}

/// Resolves when there is something new; never where nothing can be.
async fn changed<T>(receiver: Option<tokio::sync::watch::Receiver<T>>) {
    if let Some(mut receiver) = receiver
        && receiver.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// What is made of a policy now. `tell` is told what is wrong, and whether the last one stays.
fn make<Policy: PartialEq + Clone, Parts: PartialEq, Side>(
    policy: &Policy,
    parts: Result<Parts, String>,
    last: Option<Made<Policy, Parts, Side>>,
    new: impl FnOnce(&Parts) -> Result<Side, String>,
    tell: impl FnOnce((String, bool)),
) -> Option<Made<Policy, Parts, Side>> {
    let last = last.filter(|last| last.policy == *policy);
    let made = parts.and_then(|parts| match &last {
        Some(last) if last.parts == parts => Ok(Made { policy: policy.clone(), parts, side: Arc::clone(&last.side) }),
        _ => new(&parts).map(|side| Made { policy: policy.clone(), parts, side: Arc::new(side) }),
    });
    match made {
        Ok(made) => Some(made),
        Err(why) => {
            tell((why, last.is_some()));
            last
        }
    }
}

fn client_parts(found: &Found, policy: &UpstreamTls, protocol: Protocol) -> Result<ClientParts, String> {
    Ok(ClientParts {
        shown: policy.certificate.as_ref().map(|certificate| found.shown(certificate)).transpose()?,
        believed: policy.trust.as_ref().map(|trust| found.believed(trust)).transpose()?,
        // Without authorities nothing is looked at.
        names: if policy.trust.is_some() { policy.names.clone() } else { Vec::new() },
        server_name: policy.server_name.clone(),
        protocol,
    })
}

fn server_parts(found: &Found, policy: &ServerTls, listener: &Listener) -> Result<ServerParts, String> {
    Ok(ServerParts {
        shown: found.shown(&policy.certificate)?,
        believed: policy.client_trust.as_ref().map(|trust| found.believed(trust)).transpose()?,
        names: policy.client_names.clone(),
        takes_plain: policy.mode == ServerTlsMode::Permissive,
        protocol: listener.protocol,
    })
}

/// Reads files, a few kB each. To be called where waiting does no harm.
pub(in crate::proxy) fn read_files(paths: Vec<String>) -> Vec<(String, FileRead)> {
    let read = |path: String| {
        let read = tls::read("the file", Path::new(&path)).map_err(|error| error.to_string());
        (path, read)
    };
    paths.into_iter().map(read).collect()
}
