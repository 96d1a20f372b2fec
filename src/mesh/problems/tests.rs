//! Tests of `mesh::problems`.

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
    // Two services have it.
    let vain = ["s", "t"].map(|name| (Key::child("m", Kind::VirtualService, name), vec![compiled.clone()]));
    let mut problems = Problems::default();
    let touched = Touched { problems: vain.into_iter().collect(), compiled: 2 };
    let keys: Vec<&Key> = state.iter().map(|resource| &resource.key).collect();
    let difference = problems.update(&state, keys, touched);
    assert_eq!((difference.came.len(), difference.went.len()), (4, 0));
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
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
