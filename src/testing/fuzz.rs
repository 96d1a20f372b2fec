//! Bytes of a stranger, as far as they get: entry points for the fuzzer (`make fuzz`) and for the tests that go through
//! its corpus in every run. Each panics when something is not as it has to be, whatever the bytes are.

/// Heads of requests.
mod requests;
/// Tags.
mod tags;

use crate::base::certificate::SecretFiles;
use crate::base::time::Timestamp;
use crate::mesh::compile::{self, View, Whole};
use crate::mesh::document::{self, Settings, Text};
use crate::mesh::model::{Key, MeshState, Quotas, Resource, Spec};
use crate::mesh::ops::{self, OpContext};
use crate::mesh::problems::Problems;
use crate::mesh::wire;
pub use crate::proxy::fuzz::answers;
use crate::xds::server::asked;
use crate::xds::session::{Form, Session};
use crate::xds::translate::{Endpoints, Options, Resources, translate};
pub use requests::requests;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
pub use tags::tags;

/// Between the requests of one input.
const BETWEEN: &str = "\n--\n";
/// Requests of one input that are done: enough for one of each kind, and a few milliseconds.
const REQUESTS_MAX: usize = 32;
/// Messages of one input that are heard.
const MESSAGES_MAX: usize = 32;
/// What a stream may say without being answered: one message of each type, and then clusters that go. Twice that is a loop.
const PUSHES_MAX: usize = 16;

/// A mesh that has one of everything, with references between them.
const MESH: &str = include_str!("fuzz/mesh.yaml");

static STATE: LazyLock<MeshState> = LazyLock::new(|| loaded(MESH));

fn context(now: i64) -> OpContext {
    OpContext {
        now: Timestamp(now),
        uid: format!("uid-{now}"),
        account: "000000000000".into(),
        region: "us-east-1".into(),
        quotas: Quotas::AWS,
        strict: false,
    }
}

fn loaded(text: &str) -> MeshState {
    let mut state = MeshState::default();
    let documents = document::parse("fuzz/mesh.yaml", text).unwrap_or_default();
    let plan = document::plan(&state, &documents, true, &context(0), || "uid".into());
    state.commit(plan.unwrap_or_default().changes);
    state
}

/// Requests to the App Mesh API: for each its method, a space, its path with its query, and after a line's end its body;
/// `--` on a line of its own between two.
pub fn operations(bytes: &[u8]) {
    let mut state = STATE.clone();
    let (mut whole, mut problems) = (Whole::default(), Problems::default());
    let all: Vec<Key> = state.iter().map(|resource| resource.key.clone()).collect();
    let touched = whole.update(&state, &all);
    problems.update(&state, &all, touched);
    let text = String::from_utf8_lossy(bytes);
    for (at, request) in text.split(BETWEEN).take(REQUESTS_MAX).enumerate() {
        let (head, body) = request.split_once('\n').unwrap_or((request, ""));
        let (method, target) = head.split_once(' ').unwrap_or((head, ""));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parts = wire::Parts { method, path, query, extensions: wire::Asked::default(), body: body.as_bytes() };
        let context = context(i64::try_from(at).unwrap_or(i64::MAX));
        let done = wire::request(parts).and_then(|request| {
            let outcome = ops::apply(&state, &request, &context)?;
            assert!(request.writes() || outcome.changes.is_empty(), "reading changes nothing");
            Ok(outcome)
        });
        let outcome = match done {
            Ok(outcome) => outcome,
            Err(error) => {
                assert!(wire::error(&error).is_object());
                continue;
            }
        };
        drop(wire::reply(&outcome.reply));
        for resource in outcome.changes.iter().filter_map(|(_, resource)| resource.as_deref()) {
            let read = Resource::from_row(&resource.to_row());
            assert_eq!(read.as_ref(), Ok(resource), "what is stored is read back");
        }
        let changed: Vec<Key> = outcome.changes.iter().map(|(key, _)| key.clone()).collect();
        state.commit(outcome.changes);
        let touched = whole.update(&state, &changed);
        problems.update(&state, &changed, touched);
    }
    assert_eq!(state, MeshState::new(state.iter().map(|resource| Resource::clone(resource))), "an index differs");
    let afresh = compile::compile(&state, &View::AllServices, &Arc::default(), 1).config;
    let shown = whole.show(1);
    assert_eq!((&shown.services, &shown.clusters), (&afresh.services, &afresh.clusters), "the view differs");
    for resource in state.iter() {
        let (mesh, name) = (resource.key.mesh.clone(), resource.key.name.clone());
        for view in [View::Node { mesh: mesh.clone(), node: name.clone() }, View::Gateway { mesh, gateway: name }] {
            if view.key().as_ref() == Some(&resource.key) {
                drop(translated(&state, &view));
            }
        }
    }
}

/// Mesh files and CloudFormation templates. What is taken is written again in both forms, and read back to the same.
pub fn documents(bytes: &[u8]) {
    let texts = [Text { file: "f.yaml".into(), text: Ok(String::from_utf8_lossy(bytes).into_owned()) }];
    let settings = Settings::default();
    let checked = document::validate_all(&MeshState::default(), &texts, &settings, &context(0));
    let Ok(read) = document::parse_all(&texts, &settings) else {
        return assert!(!checked.problems.is_empty(), "what cannot be read is not valid");
    };
    let mut state = MeshState::default();
    let plan = document::plan(&state, &read.documents, true, &context(0), || "uid".into());
    assert_eq!(plan.is_ok(), checked.problems.is_empty(), "it is valid if it can be loaded");
    let Ok(plan) = plan else { return };
    state.commit(plan.changes);
    let plain: Vec<_> = state.iter().map(|resource| document::document(resource)).collect();
    for text in [document::render(&plain), document::template(&state).to_string()] {
        let again = document::parse("again", &text).and_then(|documents| {
            document::plan(&MeshState::default(), &documents, true, &context(0), || "uid".into())
        });
        let mut other = MeshState::default();
        other.commit(
            again.unwrap_or_else(|problems| panic!("what was written is refused: {problems:?}\n{text}")).changes,
        );
        assert_eq!(meant(&other), meant(&state), "what was written is something else");
    }
}

/// Messages of a proxy: the first byte says which form of the protocol, then come messages, each after its length in two
/// bytes, the lower one first. Every third message, the mesh has changed.
pub fn discovery(bytes: &[u8]) {
    static OFFERS: LazyLock<[Arc<Resources>; 2]> = LazyLock::new(|| {
        let view = View::Node { mesh: "m".into(), node: "client".into() };
        let other = loaded(
            &MESH.replace("weight: 90", "weight: 50").replace("- virtualService: { virtualServiceName: n.local }", ""),
        );
        [translated(&STATE, &view), translated(&other, &view)].map(Arc::new)
    });
    let Some((form, mut rest)) = bytes.split_first() else { return };
    let form = if form % 2 == 0 { Form::Whole } else { Form::Delta };
    let mut session = Session::new(form, Arc::clone(&OFFERS[0]));
    let mut now = Timestamp(0);
    for at in 0..MESSAGES_MAX {
        let [low, high, tail @ ..] = rest else { break };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (message, tail) = tail.split_at(length);
        rest = tail;
        if let Some(ask) = asked(form, message)
            && session.ask(ask).is_err()
        {
            break;
        }
        if at % 3 == 2 {
            session.replace(Arc::clone(&OFFERS[at % 2]));
        }
        // Sometimes nothing is answered for long.
        now = Timestamp(now.0 + if at % 5 == 4 { 6_000 } else { 1 });
        let pushes = std::iter::from_fn(|| session.next(now)).take(PUSHES_MAX).count();
        assert!(pushes < PUSHES_MAX, "it never stops talking");
        assert!(session.next(now).is_none(), "it has nothing more to say");
        drop((session.standing(), session.is_pending()));
    }
}

/// What people say of resources.
fn meant(state: &MeshState) -> Vec<(&Key, &Spec, &BTreeMap<String, String>)> {
    state.iter().map(|resource| (&resource.key, &resource.spec, &resource.tags)).collect()
}

fn translated(state: &MeshState, view: &View) -> Resources {
    let config = compile::compile(state, view, &Arc::default(), 1).config;
    translate(&config, &Options::default(), &Endpoints::new(), &SecretFiles::default())
}
