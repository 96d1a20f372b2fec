//! The operations of App Mesh API 2019-01-25: state and request in, changes and reply out.
//!
//! Pure: time, identifiers and account are arguments. Nothing here changes the state; the caller stores the changes and
//! then commits them ([`MeshState::commit`]), so that a store that fails leaves nothing half done.
//!
//! The five operations of a kind are written once; what differs between kinds — what must exist beside a resource, and
//! what keeps it from being deleted — is in one file per kind.
//!
//! Order of checks: the request alone (400, all violations at once), the mesh's owner and the parent (404), a stale
//! generation (409), a repeated client token (the stored answer), the name (409), a renewal of what has changed (409), quotas
//! (400), references (404, 400).

mod gateway_route;
pub mod lease;
mod mesh;
mod page;
mod route;
mod tag;
mod unresolved;
mod virtual_gateway;
mod virtual_node;
mod virtual_router;
mod virtual_service;

pub use unresolved::{Unresolved, unresolved, unresolved_of};

use crate::base::time::Timestamp;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::spec::VirtualServiceSpec;
use crate::mesh::model::{
    Change, Extensions, Key, Kind, MeshState, Page, Quotas, Reply, Request, Resource, Spec, Status, TOKENS_KEPT,
    TokenUse,
};
use crate::mesh::validate::{self, CreateBody, SpecPair, Unknown};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an operation needs to know beside state and request.
#[derive(Debug, Clone)]
pub struct OpContext {
    /// Now.
    pub now: Timestamp,
    /// UUID for a resource that is created.
    pub uid: String,
    /// Account that owns everything, 12 digits.
    pub account: String,
    /// Region of new ARNs.
    pub region: String,
    /// How many resources are allowed.
    pub quotas: Quotas,
    /// Whether what AWS refuses is refused although it can be left open: a virtual service whose provider does not exist,
    /// and a node that listens but says nowhere where it is. Otherwise both are taken and told of ([`unresolved()`]).
    pub strict: bool,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// To be stored and committed before the reply is sent.
    pub changes: Vec<Change>,
    /// To be sent.
    pub reply: Reply,
}

/// Does one operation.
pub fn apply(state: &MeshState, request: &Request, context: &OpContext) -> Result<Outcome, ApiError> {
    let op = Op { state, context };
    match request {
        Request::Create { kind, mesh, parent, owner, body } => {
            let (mesh, parent) = (mesh.as_deref(), parent.as_deref());
            op.begin(*kind, mesh, parent, None, owner.as_deref())?;
            let body = validate::create_body(*kind, body, Unknown::Drop).map_err(ApiError::invalid)?;
            op.create(*kind, mesh, parent, body)
        }
        Request::Update { key, owner, body, extensions } => {
            op.begin_key(key, owner.as_deref())?;
            let (spec, token) = validate::update_body(key.kind, body).map_err(ApiError::invalid)?;
            op.update(key, spec, token, extensions)
        }
        Request::Describe { key, owner } => {
            op.begin_key(key, owner.as_deref())?;
            op.existing(key).map(|resource| op.unchanged(resource))
        }
        Request::Delete { key, owner } => {
            op.begin_key(key, owner.as_deref())?;
            op.delete(key)
        }
        Request::List { kind, mesh, parent, owner, page } => {
            op.begin(*kind, mesh.as_deref(), parent.as_deref(), None, owner.as_deref())?;
            op.list(*kind, mesh.as_deref(), parent.as_deref(), page)
        }
        Request::Tag { arn, body } => tag::tag(&op, arn.as_deref(), body),
        Request::Untag { arn, body } => tag::untag(&op, arn.as_deref(), body),
        Request::ListTags { arn, page } => tag::list(&op, arn.as_deref(), page),
    }
}

/// Creates a resource from a checked body, without looking at what it refers to: for `document`, which looks at that
/// once everything is in place ([`check`]).
pub fn create(state: &MeshState, context: &OpContext, key: &Key, body: CreateBody) -> Result<Outcome, ApiError> {
    let op = Op { state, context };
    op.owners(key)?;
    op.check_quota(key)?;
    Ok(op.changed(op.new_resource(key.clone(), body.spec, body.tags)))
}

/// The resource with a checked spec, without looking at what it refers to: for `document`, as [`create`].
pub fn update(state: &MeshState, context: &OpContext, key: &Key, spec: SpecPair) -> Result<Resource, ApiError> {
    let op = Op { state, context };
    let old = op.existing(key)?;
    let mut resource = op.updated(old, spec);
    // Whoever gives it other weights by a file means them to stay.
    resource.lease = old.lease.clone().filter(|kept| lease::applies(kept, old, &resource));
    Ok(resource)
}

/// Checks what a resource refers to, in a state that holds it.
pub fn check(state: &MeshState, context: &OpContext, key: &Key) -> Result<(), ApiError> {
    let op = Op { state, context };
    let resource = op.existing(key)?;
    op.check_references(key, &resource.spec)
}

/// Checks that nothing needs a resource any more, in a state that holds it: for `document`, as [`check`].
pub fn check_delete(state: &MeshState, context: &OpContext, key: &Key) -> Result<(), ApiError> {
    let op = Op { state, context };
    op.existing(key)?;
    op.unneeded(key)
}

/// The node or router that a virtual service names as its provider.
#[must_use]
pub fn provider(key: &Key, spec: &VirtualServiceSpec) -> Option<Key> {
    virtual_service::provider(key, spec).map(|(provider, _)| provider)
}

/// One operation on its way.
struct Op<'a> {
    state: &'a MeshState,
    context: &'a OpContext,
}

impl Op<'_> {
    fn begin_key(&self, key: &Key, owner: Option<&str>) -> Result<(), ApiError> {
        let parent = (!key.parent.is_empty()).then_some(key.parent.as_str());
        self.begin(key.kind, Some(&key.mesh), parent, Some(&key.name), owner)
    }

    /// What every operation on a kind checks first: names in the path, and who owns the mesh.
    fn begin(
        &self,
        kind: Kind,
        mesh: Option<&str>,
        parent: Option<&str>,
        name: Option<&str>,
        owner: Option<&str>,
    ) -> Result<(), ApiError> {
        let mut out = Vec::new();
        if kind != Kind::Mesh
            && let Some(mesh) = mesh
        {
            validate::path_name(Kind::Mesh, mesh, &mut out);
        }
        if let (Some(parent_kind), Some(parent)) = (kind.parent(), parent) {
            validate::path_name(parent_kind, parent, &mut out);
        }
        if let Some(name) = name {
            validate::path_name(kind, name, &mut out);
        }
        if !out.is_empty() {
            return Err(ApiError::invalid(out));
        }
        match (owner, mesh) {
            // Sharing between accounts does not exist here: another account has no meshes.
            (Some(owner), Some(mesh)) if owner != self.context.account => {
                Err(ApiError::not_found(&Key::mesh(mesh), owner))
            }
            _ => Ok(()),
        }
    }

    /// The mesh, and then the router or gateway, that something hangs on.
    fn owners(&self, key: &Key) -> Result<(), ApiError> {
        let mut above: Vec<Key> = Vec::new();
        let mut owner = key.owner();
        while let Some(key) = owner {
            owner = key.owner();
            above.push(key);
        }
        for key in above.iter().rev() {
            self.existing(key).map_err(|error| error.at(key.kind.name_member()))?;
        }
        Ok(())
    }

    fn existing(&self, key: &Key) -> Result<&Arc<Resource>, ApiError> {
        self.owners(key)?;
        self.state.get(key).ok_or_else(|| ApiError::not_found(key, &self.context.account))
    }

    /// A resource that a spec names, at `path` in it.
    fn referenced(&self, key: &Key, path: &str) -> Result<&Arc<Resource>, ApiError> {
        self.state.get(key).ok_or_else(|| ApiError::not_found(key, &self.context.account).at(path))
    }

    fn reply(&self, resource: Arc<Resource>, status: Status) -> Reply {
        Reply::Resource { resource, status, account: self.context.account.clone() }
    }

    fn unchanged(&self, resource: &Arc<Resource>) -> Outcome {
        Outcome { changes: Vec::new(), reply: self.reply(Arc::clone(resource), Status::Active) }
    }

    fn changed(&self, resource: Resource) -> Outcome {
        let resource = Arc::new(resource);
        let changes = vec![(resource.key.clone(), Some(Arc::clone(&resource)))];
        Outcome { changes, reply: self.reply(resource, Status::Active) }
    }

    fn new_resource(&self, key: Key, spec: SpecPair, tags: BTreeMap<String, String>) -> Resource {
        let context = self.context;
        Resource {
            arn: format!("arn:aws:appmesh:{}:{}:{}", context.region, context.account, key.path()),
            key,
            uid: context.uid.clone(),
            version: 1,
            created_at: context.now,
            last_updated_at: context.now,
            raw: spec.raw,
            spec: spec.typed,
            tags,
            generation: None,
            lease: None,
            lapsed: None,
            fuse: None,
            tokens: Vec::new(),
        }
    }

    fn updated(&self, old: &Resource, spec: SpecPair) -> Resource {
        let lapsed = old.lapsed.filter(|_| lease::same_weights(&old.spec, &spec.typed));
        Resource {
            lapsed,
            version: old.version.saturating_add(1),
            last_updated_at: self.context.now,
            raw: spec.raw,
            spec: spec.typed,
            ..old.clone()
        }
    }

    fn create(
        &self,
        kind: Kind,
        mesh: Option<&str>,
        parent: Option<&str>,
        body: CreateBody,
    ) -> Result<Outcome, ApiError> {
        let key = match (mesh, parent) {
            (None, _) => Key::mesh(body.name),
            (Some(mesh), None) => Key::child(mesh, kind, body.name),
            (Some(mesh), Some(parent)) => Key::grandchild(mesh, kind, parent, &body.name),
        };
        self.owners(&key)?;
        let fingerprint = fingerprint("create", &key, &body.spec.raw, &json!(body.tags));
        if let Some(outcome) = self.repeated(body.token.as_deref(), &fingerprint, &body.spec)? {
            return Ok(outcome);
        }
        if self.state.get(&key).is_some() {
            let message = format!("{} with name {} already exists", kind.title(), key.name);
            return Err(ApiError::new(ErrorCode::Conflict, message).at(kind.name_member()));
        }
        self.check_quota(&key)?;
        self.check_references(&key, &body.spec.typed)?;
        let mut resource = self.new_resource(key, body.spec, body.tags);
        remember(&mut resource, body.token, fingerprint);
        Ok(self.changed(resource))
    }

    fn update(
        &self,
        key: &Key,
        spec: SpecPair,
        token: Option<String>,
        extensions: &Extensions,
    ) -> Result<Outcome, ApiError> {
        let old = self.existing(key)?;
        let generation = extensions.generation;
        if let (Some(asked), Some(last)) = (generation, old.generation)
            && asked < last
        {
            let message = format!(
                "x-tidegate-generation {asked} is stale: an update of {} with generation {last} was accepted before",
                key.describe()
            );
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        let fingerprint = fingerprint("update", key, &spec.raw, &Value::Null);
        if let Some(outcome) = self.repeated(token.as_deref(), &fingerprint, &spec)? {
            return Ok(outcome);
        }
        if let Some(resource) = lease::renewed(old, &spec.typed, extensions)? {
            return Ok(self.changed(resource));
        }
        self.check_references(key, &spec.typed)?;
        let mut resource = self.updated(old, spec);
        resource.generation = generation.or(old.generation);
        lease::begin(&mut resource, extensions);
        remember(&mut resource, token, fingerprint);
        Ok(self.changed(resource))
    }

    fn delete(&self, key: &Key) -> Result<Outcome, ApiError> {
        let old = self.existing(key)?;
        self.unneeded(key)?;
        let mut gone = Resource::clone(old);
        gone.last_updated_at = self.context.now;
        // Every example of AWS shows a deletion as one more version, except that of a mesh (appmesh "ARNs, versions").
        if key.kind != Kind::Mesh {
            gone.version = gone.version.saturating_add(1);
        }
        Ok(Outcome { changes: vec![(key.clone(), None)], reply: self.reply(Arc::new(gone), Status::Deleted) })
    }

    /// Whether something keeps a resource from being deleted.
    fn unneeded(&self, key: &Key) -> Result<(), ApiError> {
        match key.kind {
            Kind::Mesh => mesh::check_delete(self, key),
            Kind::VirtualNode => virtual_node::check_delete(self, key),
            Kind::VirtualRouter => virtual_router::check_delete(self, key),
            Kind::VirtualService => virtual_service::check_delete(self, key),
            Kind::VirtualGateway => virtual_gateway::check_delete(self, key),
            Kind::Route | Kind::GatewayRoute => Ok(()),
        }
    }

    fn list(&self, kind: Kind, mesh: Option<&str>, parent: Option<&str>, page: &Page) -> Result<Outcome, ApiError> {
        let parent_name = parent.unwrap_or_default();
        if let Some(mesh) = mesh {
            self.owners(&Key::grandchild(mesh, kind, parent_name, ""))?;
        }
        let cut = page::asked(page, page::LIST_MAX, format!("{kind}/{}/{parent_name}", mesh.unwrap_or_default()))?;
        let all: Box<dyn Iterator<Item = &Arc<Resource>>> = match mesh {
            None => Box::new(self.state.meshes_from(cut.from())),
            Some(mesh) => Box::new(self.state.children_from(mesh, kind, parent_name, cut.from())),
        };
        let (items, next_token) = cut.take(all.map(|resource| (resource.key.name.as_str(), resource)));
        let items = items.into_iter().cloned().collect();
        let reply = Reply::List { kind, items, account: self.context.account.clone(), next_token };
        Ok(Outcome { changes: Vec::new(), reply })
    }

    /// References to other resources, and what they ask of this one.
    fn check_references(&self, key: &Key, spec: &Spec) -> Result<(), ApiError> {
        match spec {
            Spec::Mesh(_) => Ok(()),
            Spec::VirtualNode(spec) => virtual_node::check(self, key, spec),
            Spec::VirtualRouter(spec) => virtual_router::check(self, key, spec),
            Spec::Route(spec) => route::check(self, key, spec),
            Spec::VirtualService(spec) => virtual_service::check(self, key, spec),
            Spec::VirtualGateway(spec) => virtual_gateway::check(self, key, spec),
            Spec::GatewayRoute(spec) => gateway_route::check(self, key, spec),
        }
    }

    fn check_quota(&self, key: &Key) -> Result<(), ApiError> {
        let quotas = self.context.quotas;
        let limit = match key.kind {
            Kind::Mesh => quotas.meshes,
            Kind::VirtualNode | Kind::VirtualRouter | Kind::VirtualService => quotas.per_mesh,
            Kind::Route => quotas.routes_per_router,
            Kind::VirtualGateway => quotas.gateways_per_mesh,
            Kind::GatewayRoute => quotas.routes_per_gateway,
        };
        let count = self.state.count(key);
        if count < limit {
            return Ok(());
        }
        let place = key.owner().map_or_else(|| "the account".to_owned(), |owner| owner.describe());
        let message = format!("{place} already has {count} {}, and {limit} are allowed", key.kind.plural());
        Err(ApiError::new(ErrorCode::LimitExceeded, message))
    }

    /// A client token seen before: the same request gets the same answer, another is a conflict.
    fn repeated(&self, token: Option<&str>, fingerprint: &str, spec: &SpecPair) -> Result<Option<Outcome>, ApiError> {
        let Some((resource, used)) = token.and_then(|token| self.state.token(token)) else { return Ok(None) };
        if used.fingerprint != fingerprint {
            let message = format!(
                "The request contains a client token that was used for a previous request with different \
                 specifications: {}",
                used.token
            );
            return Err(ApiError::new(ErrorCode::Conflict, message).at("clientToken"));
        }
        // The same fingerprint is the same spec, so the answer of then can be rebuilt from the request.
        let mut then = Resource::clone(resource);
        then.version = used.version;
        then.last_updated_at = used.at;
        then.raw = spec.raw.clone();
        then.spec = spec.typed.clone();
        Ok(Some(Outcome { changes: Vec::new(), reply: self.reply(Arc::new(then), Status::Active) }))
    }
}

/// What makes two requests the same: operation, resource, spec, tags. In hex.
fn fingerprint(operation: &str, key: &Key, spec: &Value, tags: &Value) -> String {
    let canonical = format!("{operation}\n{}\n{}\n{tags}", key.path(), sorted(spec));
    Sha256::digest(canonical.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same JSON with the members of each object by name: a client may order them anew when it repeats itself.
/// As deep as a spec's shape, since unknown members are gone.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            Value::Object(members.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn remember(resource: &mut Resource, token: Option<String>, fingerprint: String) {
    let Some(token) = token else { return };
    resource.tokens.push(TokenUse { token, fingerprint, version: resource.version, at: resource.last_updated_at });
    let surplus = resource.tokens.len().saturating_sub(TOKENS_KEPT);
    resource.tokens.drain(..surplus);
}

#[cfg(test)]
mod tests;
