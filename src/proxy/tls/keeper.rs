//! Certificates and authorities of a configuration, as they are now: read when a configuration first names them, and again as
//! long as it does.
//!
//! What was good stays: a file that is half written, or a secret that is withdrawn, is told once in the log, and connections
//! go on beginning with what they began with before. Only a change of the mesh's own words takes effect whatever becomes of it.
//! So does a certificate that is in its time: another one that has ended, or has not begun, waits until it begins or the good one
//! ends. Envoy would show it at once, and every client would go away. Without a good one it is shown, as by Envoy.

use super::Towards;
use super::build::{ClientParts, ClientSide, ServerParts, ServerSide};
use super::material::{FileRead, Found, Secrets};
use crate::base::time::Timestamp;
use crate::mesh::snapshot::{Listener, NodeConfig, Protocol, ServerTls, ServerTlsMode, UpstreamTls};
use crate::proxy::config::SetKey;
use crate::tls;
use std::collections::{BTreeMap, BTreeSet};
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

    /// Whether TLS is no matter here.
    pub(in crate::proxy) const fn is_ignored(&self) -> bool {
        self.ignored
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
    /// Whether anything waits for its time.
    waits: bool,
    /// Whether TLS is no matter here: without a proxy beside them, services stand alone and are called as they are.
    ignored: bool,
}

impl Keeper {
    pub(in crate::proxy) fn new(secrets: Secrets, ignored: bool) -> Self {
        let (towards, own, told) = Default::default();
        let mut keeper = Self { found: Found::default(), secrets, towards, own, told, waits: false, ignored };
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

    /// Forgets the files that none of these configurations names.
    pub(in crate::proxy) fn forget_files(&mut self, configs: [&NodeConfig; 2]) {
        let used: BTreeSet<String> = configs.into_iter().flat_map(|config| self.files(config)).collect();
        self.found.files.retain(|path, _| used.contains(path));
    }

    /// Whether a certificate waits for its time, so that what is made of everything changes by itself.
    pub(in crate::proxy) const fn waits(&self) -> bool {
        self.waits
    }

    /// Whether every secret of a configuration was told at least once.
    pub(in crate::proxy) fn has_secrets(&self, config: &NodeConfig) -> bool {
        self.missing_secrets(config).is_empty()
    }

    /// Secrets of a configuration that were never told.
    pub(in crate::proxy) fn missing_secrets(&self, config: &NodeConfig) -> Vec<String> {
        let mut names = if self.ignored { Vec::new() } else { config.sds_secrets().into_iter().collect() };
        names.retain(|name| !self.found.sds.by_name.contains_key(*name));
        names.into_iter().map(str::to_owned).collect()
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

    /// Makes both sides for a configuration, as of now. What is made of the same as before is the same as before.
    pub(in crate::proxy) fn secure(&mut self, config: &NodeConfig, now: Timestamp) -> Secured {
        let mut secured = Secured { ignored: self.ignored, ..Secured::default() };
        if self.ignored {
            return secured;
        }
        let (mut told, mut waits) = (BTreeMap::new(), false);
        let (mut last_towards, mut last_own) = (std::mem::take(&mut self.towards), std::mem::take(&mut self.own));
        for cluster in config.clusters.values() {
            for port in &cluster.ports {
                let Some(policy) = &port.tls else { continue };
                let key = (cluster.key.clone(), port.port);
                let parts = client_parts(&self.found, policy, port.protocol);
                let last = last_towards.remove(&key);
                let whom =
                    || format!("calls to mesh/{}/virtualNode/{}:{}", cluster.key.mesh, cluster.key.node, port.port);
                let late = |parts: &ClientParts| parts.shown.as_ref().and_then(|shown| shown.out_of_time(now));
                let (made, flaw) = make(policy, parts, last, ClientSide::new, late);
                waits |= self.tell(&mut told, whom, flaw);
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
            let late = |parts: &ServerParts| parts.shown.out_of_time(now);
            let (made, flaw) = make(policy, parts, last, ServerSide::new, late);
            waits |= self.tell(&mut told, whom, flaw);
            secured.own.insert(listener.port, made.as_ref().map(|made| Arc::clone(&made.side)));
            self.own.extend(made.map(|made| (listener.port, made)));
        }
        (self.told, self.waits) = (told, waits);
        secured
    }

    /// Tells what is wrong, if anything is and it was not told before; whether it may mend itself.
    fn tell(
        &self,
        told: &mut BTreeMap<String, String>,
        whom: impl FnOnce() -> String,
        flaw: Option<(Effect, String)>,
    ) -> bool {
        let Some((effect, why)) = flaw else { return false };
        let whom = whom();
        if self.told.get(&whom) != Some(&why) {
            let effect = effect.words();
            tracing::error!(whom, why, effect, "a certificate or its authorities cannot be used");
        }
        told.insert(whom, why);
        effect == Effect::Waits
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

/// What is made of a policy now, and what is wrong with it.
type MadeNow<Policy, Parts, Side> = (Option<Made<Policy, Parts, Side>>, Option<(Effect, String)>);

/// What comes of something that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// What was good stays.
    Stays,
    /// What was good stays until the new one is.
    Waits,
    /// There was nothing good, so it is shown.
    IsShown,
    /// There is nothing.
    Nothing,
}

impl Effect {
    const fn words(self) -> &'static str {
        match self {
            Self::Stays => "the last good certificate stays",
            Self::Waits => "the last good certificate stays until this one begins, or until it ends itself",
            Self::IsShown => "it is shown all the same, since there is no other, and clients will refuse it",
            Self::Nothing => "no TLS, and so no connections",
        }
    }
}

/// What is made of a policy now, and what is wrong with it. `late` says how a certificate is out of its time.
fn make<Policy: PartialEq + Clone, Parts: PartialEq, Side>(
    policy: &Policy,
    parts: Result<Parts, String>,
    last: Option<Made<Policy, Parts, Side>>,
    new: impl FnOnce(&Parts) -> Result<Side, String>,
    late: impl Fn(&Parts) -> Option<String>,
) -> MadeNow<Policy, Parts, Side> {
    let last = last.filter(|last| last.policy == *policy);
    let is_good = last.as_ref().is_some_and(|last| late(&last.parts).is_none());
    let made = match (parts, &last) {
        (Ok(parts), Some(last)) if last.parts == parts => {
            let late = late(&parts).map(|why| (Effect::IsShown, why));
            Ok((Made { policy: policy.clone(), parts, side: Arc::clone(&last.side) }, late))
        }
        (Ok(parts), _) => match (late(&parts), new(&parts)) {
            (_, Err(why)) => Err((if last.is_some() { Effect::Stays } else { Effect::Nothing }, why)),
            (Some(why), Ok(_)) if is_good => Err((Effect::Waits, why)),
            (late, Ok(side)) => {
                let late = late.map(|why| (Effect::IsShown, why));
                Ok((Made { policy: policy.clone(), parts, side: Arc::new(side) }, late))
            }
        },
        (Err(why), _) => Err((if last.is_some() { Effect::Stays } else { Effect::Nothing }, why)),
    };
    match made {
        Ok((made, late)) => (Some(made), late),
        Err(flaw) => (last, Some(flaw)),
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
