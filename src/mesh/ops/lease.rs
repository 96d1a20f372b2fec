//! Weight leases: what begins, renews and ends one, and what is written when one runs out.
//!
//! A renewal changes the lease alone, and the fuse where it brings another: neither version nor time nor client tokens, so that
//! proxies are told nothing (but of another fuse) and a client's own repetitions are still known. Every other update ends the lease that was there.

use super::OpContext;
use crate::mesh::error::{ApiError, ErrorCode};
use crate::mesh::model::lease::{self, Lapsed, Lease, Term};
use crate::mesh::model::{Change, Extensions, Key, MeshState, Resource, Spec};
use crate::mesh::validate::{self, Unknown};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A lease that ran out, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Expired {
    /// The route as it is from then on.
    pub change: Change,
    /// In a sentence, for people.
    pub said: String,
}

/// The route with its lease renewed; `None` where the update is to be made like any other.
///
/// # Errors
/// The fallback or the fuse does not fit the route; or the renewal is of a version or of weights that the route does not have (any more).
pub(super) fn renewed(old: &Resource, spec: &Spec, extensions: &Extensions) -> Result<Option<Resource>, ApiError> {
    let unfit = |fuse| lease::unfit_fuse(fuse, spec.route()?);
    if let Some(why) = extensions.fuse.as_ref().and_then(unfit) {
        return Err(ApiError::new(ErrorCode::BadRequest, format!("x-tidegate-fuse: {why}")));
    }
    let Some(ask) = &extensions.lease else { return rearmed(old, spec, extensions) };
    if let Some(why) = spec.route().and_then(|route| lease::unfit(&ask.fallback, route)) {
        return Err(ApiError::new(ErrorCode::BadRequest, format!("x-tidegate-lease: {why}")));
    }
    let unchanged = old.spec == *spec;
    match (ask.renews, &old.lease) {
        (Some(version), _) if version != old.version || !unchanged => {
            return Err(too_late("x-tidegate-lease", version, old, unchanged));
        }
        (Some(_), _) | (None, Some(_)) if unchanged => {}
        _ => return Ok(None),
    }
    Ok(Some(Resource {
        lease: Some(old.lease.as_ref().map_or_else(|| ask.begun(), |kept| ask.renewed(kept))),
        lapsed: None,
        generation: extensions.generation.or(old.generation),
        fuse: extensions.fuse.clone().or_else(|| old.fuse.clone()),
        ..old.clone()
    }))
}

/// The route with another fuse and nothing else changed; `None` where the update is to be made like any other.
fn rearmed(old: &Resource, spec: &Spec, extensions: &Extensions) -> Result<Option<Resource>, ApiError> {
    let (Some(version), Some(fuse)) = (extensions.fuse_renews, &extensions.fuse) else { return Ok(None) };
    let unchanged = old.spec == *spec;
    if version != old.version || !unchanged {
        return Err(too_late("x-tidegate-fuse", version, old, unchanged));
    }
    let generation = extensions.generation.or(old.generation);
    Ok(Some(Resource { generation, fuse: Some(fuse.clone()), ..old.clone() }))
}

fn too_late(header: &str, version: i64, old: &Resource, unchanged: bool) -> ApiError {
    let what = if unchanged { "" } else { ", with another spec" };
    let (is, at) = (old.key.describe(), old.version);
    ApiError::new(
        ErrorCode::Conflict,
        format!("{header}: version {version} cannot be renewed: {is} is at version {at}{what}"),
    )
}

/// What an update that is no renewal leaves of the extensions: what it brought along, and nothing from before.
pub(super) fn begin(resource: &mut Resource, extensions: &Extensions) {
    resource.lease = extensions.lease.as_ref().map(lease::LeaseAsk::begun);
    resource.fuse.clone_from(&extensions.fuse);
    if resource.lease.is_some() {
        resource.lapsed = None;
    }
}

/// Whether a lease goes on through a change by a file: the weights are what they were, and the fallback can be written.
pub(super) fn applies(kept: &Lease, old: &Resource, new: &Resource) -> bool {
    let fits = new.spec.route().is_some_and(|route| lease::unfit(&kept.fallback, route).is_none());
    fits && same_weights(&old.spec, &new.spec)
}

/// Whether two specs give every node the same weight. One that is named by neither has none.
pub(super) fn same_weights(old: &Spec, new: &Spec) -> bool {
    let weights = |spec: &Spec| {
        let mut by_node: BTreeMap<(String, Option<u16>), u32> = BTreeMap::new();
        for target in spec.route().into_iter().flat_map(|route| route.targets()).filter(|target| target.weight > 0) {
            *by_node.entry((target.virtual_node.clone(), target.port)).or_default() += target.weight;
        }
        by_node
    };
    weights(old) == weights(new)
}

/// What becomes of a route whose lease ran out; `None` where it does not have that lease any more.
#[must_use]
pub fn expire(state: &MeshState, key: &Key, term: &Term, context: &OpContext) -> Option<Expired> {
    let old = state.get(key).filter(|route| route.term().as_ref() == Some(term))?;
    let (kept, route) = (old.lease.as_ref()?, old.spec.route()?);
    let mut next = Resource { lease: None, ..Resource::clone(old) };
    let ran_out = format!("the weight lease of {} ran out", kept.span);
    let said = match fallback(old, kept) {
        Err(why) => format!("{ran_out}, and its fallback cannot be written: {why}; the weights stay"),
        Ok(spec) if same_weights(&spec.typed, &old.spec) => format!("{ran_out}; its fallback is what the route has"),
        Ok(spec) => {
            let was = lease::said(route.targets());
            next.version = old.version.saturating_add(1);
            next.last_updated_at = context.now;
            next.raw = spec.raw;
            next.spec = spec.typed;
            next.lapsed = Some(Lapsed { at: context.now, span: kept.span });
            let now = next.spec.route().map(|route| lease::said(route.targets())).unwrap_or_default();
            format!(
                "{ran_out}: nobody renewed it, and its fallback was written as version {}: {now} (was {was})",
                next.version
            )
        }
    };
    Some(Expired { change: (key.clone(), Some(Arc::new(next))), said })
}

/// The spec with the weights of a lease's fallback.
fn fallback(old: &Resource, kept: &Lease) -> Result<validate::SpecPair, String> {
    let route = old.spec.route().ok_or("it is no route")?;
    if let Some(why) = lease::unfit(&kept.fallback, route) {
        return Err(why);
    }
    let mut raw = old.raw.clone();
    let pointer = format!("/{}/action/weightedTargets", route.member());
    let targets = raw.pointer_mut(&pointer).and_then(Value::as_array_mut).ok_or("it has no targets")?;
    for (target, weight) in targets.iter_mut().zip(lease::weights(&kept.fallback, route.targets())) {
        target["weight"] = weight.into();
    }
    let problem = |violations: Vec<crate::mesh::error::Violation>| {
        violations.first().map_or_else(String::new, |violation| format!("{}: {}", violation.path, violation.message))
    };
    validate::spec(old.key.kind, &raw, Unknown::Drop).map_err(problem)
}

/// What is to be told of a route whose lease ran out, for as long as it has the weights of the fallback.
#[must_use]
pub fn told(route: &Resource) -> Option<String> {
    let lapsed = route.lapsed?;
    let weights = route.spec.route().map(|route| lease::said(route.targets())).unwrap_or_default();
    Some(format!(
        "the weight lease of {} ran out at {}: nobody renewed it, and the route has the weights of its fallback ({weights}) \
         until somebody changes them",
        lapsed.span,
        lapsed.at.rfc3339()
    ))
}
