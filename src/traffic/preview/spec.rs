//! The route of a preview out of the route that it stands beside. Pure.

use crate::policy::plan::PreviewHeader;
use aws_sdk_appmesh::types::{
    GrpcRoute, GrpcRouteMetadata, GrpcRouteMetadataMatchMethod, HeaderMatchMethod, HttpRoute, HttpRouteHeader,
    RouteSpec, WeightedTarget,
};

/// Priority of a route without one, which comes after all that have one (0 to 1000, the lower first).
const NO_PRIORITY: i32 = 1001;
/// Conditions on headers, or on metadata, that a route has at most (the model's HttpRouteHeaders).
const CONDITIONS_MAX: usize = 10;
/// All of the weight, whatever the number.
const ALL: i32 = 100;

/// Why a route can have no preview beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// Connections have no headers.
    #[error("it is a route of TCP, and a connection has no header")]
    Tcp,
    /// Nothing comes before it.
    #[error("it has priority 0, and nothing can be tried before it")]
    First,
    /// There is no room for another condition.
    #[error("it has {CONDITIONS_MAX} conditions on headers, which is the most")]
    Full,
    /// It does not lead to the canary.
    #[error("it does not have the canary as one of its targets, or more than once")]
    NoTarget,
    /// The header is none.
    #[error("the preview's header cannot stand in a route")]
    Header,
}

impl Unfit {
    /// What to do about it.
    pub(super) const fn hint(self) -> &'static str {
        match self {
            Self::Tcp => "take `preview` out of the policy; a first step of 1 is the smallest exposure",
            Self::First => "give the route a priority of 1 or more, or none: the preview's takes the one before it",
            Self::Full => "take a condition out of the route's match, or `preview` out of the policy",
            Self::NoTarget => "let both versions be targets of the route, once each",
            Self::Header => "correct `preview.header` in the policy",
        }
    }
}

/// A route that is tried just before another one, matches what that one does where the header is there as well, and gives
/// the canary everything. Retries and timeouts are the other one's.
pub(super) fn beside(route: &RouteSpec, canary: &str, header: &PreviewHeader) -> Result<RouteSpec, Unfit> {
    let priority = route.priority.unwrap_or(NO_PRIORITY) - 1;
    if priority < 0 {
        return Err(Unfit::First);
    }
    let mut spec = route.clone();
    spec.priority = Some(priority);
    if let Some(http) = spec.http_route.as_mut().or(spec.http2_route.as_mut()) {
        http_beside(http, canary, header)?;
    } else if let Some(grpc) = &mut spec.grpc_route {
        grpc_beside(grpc, canary, header)?;
    } else {
        return Err(Unfit::Tcp);
    }
    Ok(spec)
}

fn http_beside(route: &mut HttpRoute, canary: &str, header: &PreviewHeader) -> Result<(), Unfit> {
    let condition =
        HttpRouteHeader::builder().name(&header.name).r#match(HeaderMatchMethod::Exact(header.value.clone()));
    let condition = condition.build().map_err(|_| Unfit::Header)?;
    let conditions = route.r#match.as_mut().ok_or(Unfit::Header)?.headers.get_or_insert_default();
    if conditions.len() >= CONDITIONS_MAX {
        return Err(Unfit::Full);
    }
    conditions.push(condition);
    all_to(canary, &mut route.action.as_mut().ok_or(Unfit::NoTarget)?.weighted_targets)
}

fn grpc_beside(route: &mut GrpcRoute, canary: &str, header: &PreviewHeader) -> Result<(), Unfit> {
    let exact = GrpcRouteMetadataMatchMethod::Exact(header.value.clone());
    let condition = GrpcRouteMetadata::builder().name(&header.name).r#match(exact);
    let condition = condition.build().map_err(|_| Unfit::Header)?;
    let conditions = route.r#match.as_mut().ok_or(Unfit::Header)?.metadata.get_or_insert_default();
    if conditions.len() >= CONDITIONS_MAX {
        return Err(Unfit::Full);
    }
    conditions.push(condition);
    all_to(canary, &mut route.action.as_mut().ok_or(Unfit::NoTarget)?.weighted_targets)
}

/// Gives the canary everything. The other targets stay, with nothing: of a route of two versions a control plane knows which
/// Envoys have it, and of one with a single version it does not.
fn all_to(canary: &str, targets: &mut [WeightedTarget]) -> Result<(), Unfit> {
    if targets.iter().filter(|target| target.virtual_node == canary).count() != 1 {
        return Err(Unfit::NoTarget);
    }
    for target in targets {
        target.weight = if target.virtual_node == canary { ALL } else { 0 };
    }
    Ok(())
}

/// Whether a route sends what has the header to the canary, and nothing elsewhere. What else it matches by is not compared:
/// somebody may have changed the other route since.
pub(super) fn fits(spec: &RouteSpec, canary: &str, header: &PreviewHeader) -> bool {
    let is_name = |name: &str| name.eq_ignore_ascii_case(&header.name);
    let leads = |targets: &[WeightedTarget]| {
        let mut weighty = targets.iter().filter(|target| target.weight > 0);
        weighty.next().is_some_and(|target| target.virtual_node == canary) && weighty.next().is_none()
    };
    if let Some(http) = spec.http_route.as_ref().or(spec.http2_route.as_ref()) {
        let exact = HeaderMatchMethod::Exact(header.value.clone());
        let is_it = |condition: &HttpRouteHeader| {
            is_name(&condition.name) && condition.r#match.as_ref() == Some(&exact) && condition.invert != Some(true)
        };
        return http.r#match.as_ref().is_some_and(|wanted| wanted.headers().iter().any(is_it))
            && http.action.as_ref().is_some_and(|action| leads(action.weighted_targets()));
    }
    let exact = GrpcRouteMetadataMatchMethod::Exact(header.value.clone());
    let is_it = |condition: &GrpcRouteMetadata| {
        is_name(&condition.name) && condition.r#match.as_ref() == Some(&exact) && condition.invert != Some(true)
    };
    spec.grpc_route.as_ref().is_some_and(|grpc| {
        grpc.r#match.as_ref().is_some_and(|wanted| wanted.metadata().iter().any(is_it))
            && grpc.action.as_ref().is_some_and(|action| leads(action.weighted_targets()))
    })
}

#[cfg(test)]
mod tests;
