//! What is wrong with a mesh as a whole, although each change of it was taken: what it leaves open, and what this
//! version's data plane cannot do. For the log, the start's output and `GET /v1/mesh/problems`.

use crate::mesh::compile::Problem;
use crate::mesh::model::MeshState;
use crate::mesh::ops;

/// Lines that one publication may add to the log for problems that came, and for those that went. Loading a large mesh
/// may bring thousands; the whole list is at `GET /v1/mesh/problems`.
const TOLD_MAX: usize = 20;

/// All problems of a state, sorted; `compiled` are those of its compilation for all services.
#[must_use]
pub fn problems(state: &MeshState, compiled: &[Problem]) -> Vec<Problem> {
    let open = ops::unresolved(state).into_iter().map(|open| Problem {
        resource: open.key.path(),
        message: format!("unresolved: {}: {}", open.path, open.message),
    });
    let lapsed = state.iter().filter_map(|resource| {
        ops::lease::told(resource).map(|message| Problem { resource: resource.key.path(), message })
    });
    let mut all: Vec<Problem> = open.chain(lapsed).chain(compiled.iter().cloned()).collect();
    all.sort();
    all.dedup();
    all
}

/// Tells the log what came and what went. Both lists are sorted.
pub(super) fn tell(before: &[Problem], now: &[Problem]) {
    let came: Vec<&Problem> = now.iter().filter(|problem| before.binary_search(problem).is_err()).collect();
    let went: Vec<&Problem> = before.iter().filter(|problem| now.binary_search(problem).is_err()).collect();
    for problem in came.iter().take(TOLD_MAX) {
        tracing::warn!(resource = problem.resource, problem = problem.message, "the mesh has a problem");
    }
    for problem in went.iter().take(TOLD_MAX) {
        tracing::info!(resource = problem.resource, problem = problem.message, "a problem of the mesh is gone");
    }
    let more = came.len().saturating_sub(TOLD_MAX) + went.len().saturating_sub(TOLD_MAX);
    if more > 0 {
        tracing::warn!(more, all = now.len(), "more problems of the mesh came or went; GET /v1/mesh/problems has all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;
    use crate::mesh::document;
    use crate::mesh::model::Quotas;
    use crate::mesh::ops::OpContext;

    #[test]
    fn what_is_left_open_and_what_cannot_be_done_stand_in_one_list_by_resource() {
        let text = "meshName: m\n---\n{ meshName: m, virtualServiceName: s, spec: { provider: { virtualRouter: \
                    { virtualRouterName: r } } } }\n---\n{ meshName: m, virtualNodeName: n, spec: { backends: [{ \
                    virtualService: { virtualServiceName: t } }], listeners: [{ portMapping: { port: 80, protocol: \
                    http } }] } }\n";
        let context = OpContext {
            now: Timestamp(1),
            uid: String::new(),
            account: "000000000000".into(),
            region: "us-east-1".into(),
            quotas: Quotas::AWS,
            strict: false,
        };
        let documents = document::parse("f", text).expect("reads");
        let plan = document::plan(&MeshState::default(), &documents, false, &context, String::new).expect("is taken");
        let mut state = MeshState::default();
        state.commit(plan.changes);
        let compiled = Problem { resource: "mesh/m/virtualRouter/r/route/x".into(), message: "left out".into() };
        let lines: Vec<String> =
            problems(&state, &[compiled.clone(), compiled]).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "mesh/m/virtualNode/n: unresolved: spec.backends[0].virtualService.virtualServiceName: virtualService t \
                 does not exist yet; until it does, the node cannot call it",
                "mesh/m/virtualNode/n: unresolved: spec.serviceDiscovery: is missing, so nothing says where the node \
                 is; until it is there, requests to the node are answered 503",
                "mesh/m/virtualRouter/r/route/x: left out",
                "mesh/m/virtualService/s: unresolved: spec.provider.virtualRouter.virtualRouterName: virtualRouter r \
                 does not exist yet; until it does, requests are answered 404",
            ]
        );
    }
}
