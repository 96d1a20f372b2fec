//! Deliveries in the shapes of the real senders (`tests/golden/hooks`), and everything else that a stranger may send.

use super::event::{Event, Source};
use super::*;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;

const DIGEST: &str = "sha256:5f0c1de6a2b9f8c04d7be1735a90c2846e1f3bd7c8a95b20614fd3e7982ac1b0";
const SHA: &str = "7c4e1f0a9b3d5826e4f7c1b0a2d3948576efab01";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hooks")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(format!("{name}.json"))).unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    pairs.iter().map(pair).collect()
}

/// The one event that a body of this source is; for GitHub under this kind.
fn event(source: Source, kind: &str, body: &[u8]) -> Result<Event, String> {
    let deliveries =
        deliveries(source, &headers(&[("x-github-event", kind)]), body).map_err(|error| error.to_string())?;
    let [delivery] = deliveries.try_into().unwrap();
    Ok(delivery.event)
}

fn of(source: Source, kind: &str, name: &str) -> Event {
    event(source, kind, &fixture(name)).unwrap()
}

/// Why an event starts nothing.
fn nothing(event: Event) -> String {
    let Event::Nothing(why) = event else { panic!("{event:?}") };
    why
}

/// Reference, who and commit of a push.
fn pushed(event: Event) -> (String, Option<String>, Option<String>) {
    let Event::Image(pushed) = event else { panic!("{event:?}") };
    (pushed.image.to_string(), pushed.pushed_by, pushed.revision)
}

/// A fixture with something else in one place.
fn with(name: &str, pointer: &str, value: Value) -> Vec<u8> {
    let mut body: Value = serde_json::from_slice(&fixture(name)).unwrap();
    *body.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {name}")) = value;
    body.to_string().into_bytes()
}

#[test]
fn ecr_pushes_are_of_the_events_account_and_region() {
    let ecr = |name| of(Source::Ecr, "", name);
    let registry = "111122223333.dkr.ecr.eu-central-1.amazonaws.com";
    assert_eq!(pushed(ecr("ecr-push")), (format!("{registry}/shop/checkout:v1.4.0@{DIGEST}"), None, None));
    let index = pushed(ecr("ecr-push-index-without-tag"));
    assert_eq!(index.0, format!("{registry}/shop/checkout@{DIGEST}"));
    for (region, suffix) in
        [("cn-north-1", "amazonaws.com.cn"), ("us-isob-east-1", "sc2s.sgov.gov"), ("us-gov-west-1", "amazonaws.com")]
    {
        let image = pushed(event(Source::Ecr, "", &with("ecr-push", "/region", json!(region))).unwrap()).0;
        assert!(image.starts_with(&format!("111122223333.dkr.ecr.{region}.{suffix}/")), "{image}");
    }
}

#[test]
fn ecr_events_that_start_nothing_say_why() {
    let ecr = |name| nothing(of(Source::Ecr, "", name));
    assert_eq!(ecr("ecr-delete"), "the action is `DELETE`, not `PUSH`");
    assert_eq!(ecr("ecr-scan"), "`ECR Image Scan` of `aws.ecr` is no push of an image");
    assert_eq!(ecr("ecr-push-chart"), "`application/vnd.cncf.helm.config.v1+json` is no image to run");
    let failed = event(Source::Ecr, "", &with("ecr-push", "/detail/result", json!("FAILURE"))).unwrap();
    assert_eq!(nothing(failed), "the push ended with `FAILURE`");
}

#[test]
fn ecr_bodies_that_are_wrong_say_where() {
    let error = |pointer, value| event(Source::Ecr, "", &with("ecr-push", pointer, value)).unwrap_err();
    let digest = "`detail.image-digest`: `sha256:12` is no digest: `sha256:` and 64, or `sha512:` and 128 lower-case hexadecimal digits";
    assert_eq!(error("/detail/image-digest", json!("sha256:12")), digest);
    assert_eq!(error("/detail/image-digest", json!(null)), "`detail.image-digest` is missing");
    assert_eq!(error("/detail/repository-name", json!(7)), "`detail.repository-name` must be text");
    assert!(error("/detail/image-tag", json!("a b")).contains("`a b` is no tag"));
    assert_eq!(error("/account", json!("me")), "`account`: `me` is not an account of AWS: 12 digits");
    assert!(error("/region", json!("eu.example.com/x")).contains("is not a region of AWS"));
    assert!(error("/detail-type", json!("")).contains("send the matched event as it is"));
    let list = event(Source::Ecr, "", b"[]").unwrap_err();
    assert_eq!(list, "the body is no event of EventBridge: it is a list, and one event a request is taken");
}

#[test]
fn github_packages_of_both_kinds_are_images() {
    let image = format!("ghcr.io/shop/checkout:v1.4.0@{DIGEST}");
    for (kind, name) in [("registry_package", "github-registry-package"), ("package", "github-package-updated")] {
        let expected = (image.clone(), Some("ada".to_owned()), Some(SHA.to_owned()));
        assert_eq!(pushed(of(Source::Github, kind, name)), expected);
    }
    // Manifests below an index: no tag, and no commit to trust.
    let without = pushed(of(Source::Github, "package", "github-package-without-tag"));
    assert_eq!(without, (format!("ghcr.io/shop/checkout@{DIGEST}"), Some("ada".to_owned()), None));
    // Without an address the name is put together as GitHub does.
    let body = with("github-registry-package", "/registry_package/package_version/package_url", json!(null));
    assert_eq!(pushed(event(Source::Github, "registry_package", &body).unwrap()).0, image);
}

#[test]
fn github_packages_that_start_nothing_or_are_wrong() {
    let npm = nothing(of(Source::Github, "registry_package", "github-package-npm"));
    assert_eq!(npm, "a package of type `npm` is no container image");
    let package = |pointer, value| event(Source::Github, "package", &with("github-package-updated", pointer, value));
    assert!(nothing(package("/action", json!("deleted")).unwrap()).contains("the action is `deleted`"));
    let error = package("/package/package_version/version", json!("1.0")).unwrap_err();
    assert!(error.starts_with("`package.package_version.version`: `1.0` is no digest"), "{error}");
    // The body of one kind under the name of the other.
    let error = event(Source::Github, "registry_package", &fixture("github-package-updated")).unwrap_err();
    assert_eq!(error, "`registry_package` is missing");
}

#[test]
fn github_workflows_succeed_on_branches_of_their_own() {
    let workflow = |name| of(Source::Github, "workflow_run", name);
    let Event::Workflow(run) = workflow("github-workflow-run") else { panic!() };
    assert_eq!((run.repository.as_str(), run.branch.as_str(), run.sha.as_str()), ("Shop/checkout", "main", SHA));
    assert_eq!((run.workflow.as_str(), run.actor.as_deref()), ("release", Some("ada")));
    assert_eq!(nothing(workflow("github-workflow-run-failed")), "the workflow ended with `failure`");
    assert_eq!(nothing(workflow("github-workflow-run-of-a-fork")), "the commit is that of a fork");
    let with = |pointer, value| event(Source::Github, "workflow_run", &with("github-workflow-run", pointer, value));
    assert!(nothing(with("/action", json!("requested")).unwrap()).contains("not completed but `requested`"));
    assert!(nothing(with("/workflow_run/event", json!("pull_request_target")).unwrap()).contains("not merged"));
    assert!(nothing(with("/workflow_run/head_branch", json!(null)).unwrap()).contains("no branch"));
    assert!(with("/workflow_run/head_sha", json!("main")).unwrap_err().contains("`main` is not a commit"));
    let error = with("/workflow_run/head_repository", json!(null)).unwrap_err();
    assert_eq!(error, "`workflow_run.head_repository.full_name` is missing");
}

#[test]
fn github_pings_and_the_rest() {
    assert_eq!(of(Source::Github, "ping", "github-ping"), Event::Ping);
    let push = nothing(of(Source::Github, "push", "github-ping"));
    assert_eq!(push, "`push` starts nothing: `registry_package` and `workflow_run` do");
    let error = deliveries(Source::Github, &HeaderMap::new(), b"{}").unwrap_err().to_string();
    assert_eq!(error, "`x-github-event` is missing");
    let form = event(Source::Github, "ping", b"payload=%7B%7D").unwrap_err();
    assert!(form.contains("it is a form: choose the content type application/json"), "{form}");
}

#[test]
fn gitlab_pipelines_and_jobs_succeed() {
    for (name, branch, workflow) in [("gitlab-pipeline", "main", "Release"), ("gitlab-job", "v1.4.0", "push-image")] {
        let Event::Workflow(run) = of(Source::Gitlab, "", name) else { panic!("{name}") };
        assert_eq!((run.repository.as_str(), run.branch.as_str(), run.sha.as_str()), ("shop/checkout", branch, SHA));
        assert_eq!((run.workflow.as_str(), run.actor.as_deref()), (workflow, Some("ada")));
    }
    let merge_request = nothing(of(Source::Gitlab, "", "gitlab-pipeline-of-a-merge-request"));
    assert_eq!(merge_request, "a pipeline of a merge request is of changes that are not merged");
    let push = nothing(of(Source::Gitlab, "", "gitlab-push"));
    assert_eq!(push, "`push` starts nothing: pipeline and job events do");
    let running = event(Source::Gitlab, "", &with("gitlab-job", "/build_status", json!("running"))).unwrap();
    assert_eq!(nothing(running), "the job is `running`");
    let job = event(Source::Gitlab, "", &with("gitlab-job", "/ref", json!("refs/merge-requests/4/head"))).unwrap();
    assert!(nothing(job).contains("not merged"));
    assert!(event(Source::Gitlab, "", b"{}").unwrap_err().contains("`object_kind` is missing"));
}

#[test]
fn registries_send_several_events_and_manifests_count() {
    let found = deliveries(Source::Registry, &HeaderMap::new(), &fixture("registry-push")).unwrap();
    let ids: Vec<&str> = found.iter().flat_map(|delivery| delivery.ids.iter().map(String::as_str)).collect();
    assert_eq!(ids[1], "registry:6f1d2c3b-0000-4000-8000-000000000001");
    let [blob, manifest, pull, delete] = found.try_into().unwrap();
    assert_eq!(nothing(blob.event), "`application/octet-stream` is no manifest of an image");
    let image = format!("registry.local:5000/shop/checkout:v1.4.0@{DIGEST}");
    assert_eq!(pushed(manifest.event), (image, Some("ci".to_owned()), None));
    assert_eq!(nothing(pull.event), "the action is `pull`, not `push`");
    assert_eq!(nothing(delete.event), "the action is `delete`, not `push`");
}

#[test]
fn a_push_that_a_registry_names_wrongly_does_not_stop_those_behind_it() {
    let body = with("registry-push", "/events/1/target/digest", json!("sha256:0"));
    let found = deliveries(Source::Registry, &HeaderMap::new(), &body).unwrap();
    let [_, manifest, _, _] = found.try_into().unwrap();
    assert!(nothing(manifest.event).contains("`sha256:0` is no digest"));
    let body = with("registry-push", "/events/1/request/host", json!("my_registry:5000"));
    let found = deliveries(Source::Registry, &HeaderMap::new(), &body).unwrap();
    assert!(matches!(&found[1].event, Event::Image(pushed) if pushed.image.registry.is_none()));
    let many = json!({ "events": vec![json!({}); 101] }).to_string();
    let error = deliveries(Source::Registry, &HeaderMap::new(), many.as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "101 events in one request, and 100 are the most");
    assert!(event(Source::Registry, "", b"{}").unwrap_err().contains("it has no list `events`"));
}

#[test]
fn ours_names_an_image_or_a_policy() {
    let image = format!("ghcr.io/shop/checkout:v1.4.0@{DIGEST}");
    let generic = pushed(of(Source::Generic, "", "generic-image"));
    assert_eq!(generic, (image.clone(), Some("ada".to_owned()), Some(SHA.to_owned())));
    let Event::Start(asked) = of(Source::Generic, "", "generic-policy") else { panic!() };
    assert_eq!((asked.policy.as_str(), asked.image.unwrap().to_string()), ("checkout", image));
    assert_eq!(asked.actor.as_deref(), Some("Ada Lovelace"));
    let alone = event(Source::Generic, "", br#"{"policy":"checkout","revision":"v2"}"#).unwrap();
    assert!(matches!(alone, Event::Start(asked) if asked.image.is_none() && asked.revision.as_deref() == Some("v2")));
    let body = json!({ "image": "checkout:v1", "digest": DIGEST }).to_string();
    assert_eq!(pushed(event(Source::Generic, "", body.as_bytes()).unwrap()).0, format!("checkout:v1@{DIGEST}"));
}

#[test]
fn ours_refuses_what_it_does_not_understand() {
    for (body, says) in [
        (json!({ "polciy": "a" }), "unknown key `polciy`: did you mean `policy`?"),
        (json!({ "policy": "a", "wait": true }), "unknown key `wait`"),
        (json!({}), "one of `policy`, `image` and `repository` is needed"),
        (json!({ "policy": "Checkout" }), "`policy`: `Checkout` is not a name of up to 63 lower-case letters"),
        (json!({ "policy": 1 }), "`policy` must be text"),
        (json!({ "image": "a:1", "repository": "a" }), "`image` and `repository` say the same: send one of them"),
        (json!({ "image": "a", "tag": "1" }), "`tag` goes with `repository`"),
        (json!({ "image": format!("a@{DIGEST}"), "digest": DIGEST }), "`image` has its digest already"),
        (json!({ "repository": "a:1" }), "`repository` has a tag or digest in it: send it as `image`"),
        (json!({ "repository": "a" }), "the image needs a tag or a digest, and best both"),
        (json!({ "policy": "a", "tag": "1" }), "`tag` and `digest` need `repository`"),
        (json!({ "repository": "A", "tag": "1" }), "`repository`: `A` is no repository: lower-case letters"),
        (json!({ "policy": "a", "id": "two words" }), "`id`: `two words` is not a word of up to 128 ASCII characters"),
        (json!({ "policy": "a", "actor": "a\nb" }), "`actor`: `a\\nb` is not one line of up to 128 characters"),
        (json!(["policy"]), "the body is no event: it is not an object: send `{...}`"),
    ] {
        let error = event(Source::Generic, "", body.to_string().as_bytes()).unwrap_err();
        assert!(error.starts_with(says), "{body}: {error}");
    }
    let broken = event(Source::Generic, "", b"{\"policy\":").unwrap_err();
    assert_eq!(broken, "the body is no JSON: EOF while parsing a value at line 1 column 10");
    assert!(event(Source::Generic, "", b"").unwrap_err().ends_with("(it is empty)"));
    let deep = "[".repeat(100_000);
    assert!(event(Source::Generic, "", deep.as_bytes()).unwrap_err().contains("recursion limit exceeded"));
}

#[test]
fn repetitions_are_told_by_id_and_body() {
    let ids = |source, pairs: &[(&'static str, &str)], body: &[u8]| {
        let found = deliveries(source, &headers(pairs), body).unwrap();
        found.into_iter().next().unwrap().ids
    };
    let ping = [("x-github-event", "ping"), ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")];
    // Of `{}`.
    let hash = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".to_owned();
    let github = ids(Source::Github, &ping, b"{}");
    assert_eq!(github, ["github:72d3162e-cc78-11e3-81ab-4c9367dc0958".to_owned(), hash.clone()]);
    // An id that is none leaves the hash.
    assert_eq!(ids(Source::Github, &[("x-github-event", "ping"), ("x-github-delivery", "a b")], b"{}"), [hash]);
    let pairs = [("idempotency-key", "f5e5f430"), ("x-gitlab-event-uuid", "13792a34")];
    assert_eq!(ids(Source::Gitlab, &pairs, &fixture("gitlab-push"))[0], "gitlab:f5e5f430");
    assert_eq!(ids(Source::Ecr, &[], &fixture("ecr-scan")), ["ecr:b1f6a7e2-4c3d-4e5f-8a9b-0c1d2e3f4a5b"]);
    assert_eq!(ids(Source::Generic, &[], &fixture("generic-image")), ["generic:run-30433642"]);
    assert!(ids(Source::Generic, &[], &fixture("generic-policy"))[0].starts_with("sha256:"));
}

#[test]
fn names_that_only_people_read_are_left_out_when_they_are_none() {
    for name in [json!("a".repeat(129)), json!("a\u{202e}b"), json!("a\nb"), json!(7), json!(null), json!("")] {
        let body = with("github-package-updated", "/sender/login", name);
        assert_eq!(pushed(event(Source::Github, "package", &body).unwrap()).1, None);
    }
}

// === Everything else ===

const KINDS: [&str; 5] = ["registry_package", "package", "workflow_run", "ping", "push"];

/// Reads a body as each source would, and checks what is promised of every answer.
fn read_by_all(body: &[u8]) -> Result<(), TestCaseError> {
    for (source, kind) in Source::ALL.into_iter().flat_map(|source| KINDS.map(|kind| (source, kind))) {
        match deliveries(source, &headers(&[("x-github-event", kind)]), body) {
            Ok(found) => {
                for delivery in found {
                    prop_assert!(!delivery.ids.is_empty() && delivery.ids.iter().all(|id| id.len() <= 200));
                    if let Event::Nothing(why) = delivery.event {
                        prop_assert!(why.len() < 1500 && !why.contains('\n'), "{}", why);
                    }
                }
            }
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.len() < 1500 && !text.contains('\n'), "{}", text);
            }
        }
    }
    Ok(())
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[a-z]{1,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..6).prop_map(|pairs| pairs.into_iter().collect()),
        ]
    })
}

/// A key of one of the formats, or any.
fn key() -> impl Strategy<Value = String> {
    const KNOWN: [&str; 18] = [
        "action",
        "detail",
        "detail-type",
        "source",
        "events",
        "target",
        "package",
        "registry_package",
        "object_kind",
        "package_version",
        "workflow_run",
        "policy",
        "image",
        "tag",
        "digest",
        "repository",
        "id",
        "object_attributes",
    ];
    prop_oneof![prop::sample::select(&KNOWN[..]).prop_map(str::to_owned), ".{0,10}"]
}

/// Every place of a value, as a pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| {
            places(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| places(value, &format!("{at}/{index}"), found))
        }
        _ => {}
    }
}

fn any_fixture() -> impl Strategy<Value = Vec<u8>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    prop::sample::select(files).prop_map(|path| std::fs::read(path).unwrap())
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in any::<Vec<u8>>()) {
        read_by_all(&body)?;
    }

    #[test]
    fn any_json_is_read_or_refused(value in any_json()) {
        read_by_all(value.to_string().as_bytes())?;
    }

    #[test]
    fn real_bodies_with_anything_in_one_place_are_read_or_refused(
        body in any_fixture(), place in any::<prop::sample::Index>(), value in any_json(),
    ) {
        let mut mutated: Value = serde_json::from_slice(&body).unwrap();
        let mut found = Vec::new();
        places(&mutated, "", &mut found);
        *mutated.pointer_mut(&found[place.index(found.len())]).unwrap() = value;
        read_by_all(mutated.to_string().as_bytes())?;
    }

    #[test]
    fn real_bodies_that_were_cut_off_or_changed_are_read_or_refused(
        body in any_fixture(), end in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        read_by_all(&body[..end.index(body.len())])?;
        let mut changed = body.clone();
        let at = at.index(changed.len());
        changed[at] = byte;
        read_by_all(&changed)?;
    }
}
