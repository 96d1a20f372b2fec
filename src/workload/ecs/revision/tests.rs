//! The next revision as a function of the last.

use super::*;
use proptest::prelude::*;

fn described() -> Value {
    json!({
        "taskDefinition": {
            "taskDefinitionArn": "arn:aws:ecs:us-east-1:1:task-definition/web:7",
            "family": "web",
            "revision": 7,
            "status": "ACTIVE",
            "requiresAttributes": [{ "name": "x" }],
            "compatibilities": ["EC2"],
            "registeredAt": 1.5,
            "registeredBy": "arn:aws:iam::1:user/x",
            "containerDefinitions": [
                { "name": "app", "image": "web:1", "essential": true, "newerThanTheSdk": { "a": [1, 2.5, null] } },
                { "name": "envoy", "image": "envoy:1", "healthCheck": { "command": ["CMD", "true"] } },
            ],
            "memberOfTheFuture": { "mode": "x" },
        },
        "tags": [
            { "key": "team", "value": "payments" },
            { "key": "tidegate:rollout", "value": "r-1" },
            { "key": "tidegate:revision", "value": "v1" },
            { "key": "aws:cloudformation:stack-name", "value": "shop" },
            { "key": "AWS:x", "value": "y" },
        ],
    })
}

fn rollout() -> RolloutId {
    RolloutId("r-2".to_owned())
}

fn release<'a>(rollout: &'a RolloutId, revision: Option<&'a str>) -> Release<'a> {
    Release { rollout, container: "app", image: "web:2", revision }
}

#[test]
fn only_the_image_and_the_tags_change() {
    let rollout = rollout();
    let request = next(&described(), &release(&rollout, Some("v2"))).unwrap();
    let expected = json!({
        "family": "web",
        "containerDefinitions": [
            { "name": "app", "image": "web:2", "essential": true, "newerThanTheSdk": { "a": [1, 2.5, null] } },
            { "name": "envoy", "image": "envoy:1", "healthCheck": { "command": ["CMD", "true"] } },
        ],
        "memberOfTheFuture": { "mode": "x" },
        "tags": [
            { "key": "team", "value": "payments" },
            { "key": "tidegate:rollout", "value": "r-2" },
            { "key": "tidegate:revision", "value": "v2" },
        ],
    });
    // As text, since the order of members stays too.
    assert_eq!(request.to_string(), expected.to_string());
}

#[test]
fn what_cannot_be_released_is_refused_by_name() {
    let rollout = rollout();
    let wrong = Release { container: "web", ..release(&rollout, None) };
    let unfit = next(&described(), &wrong).unwrap_err();
    assert_eq!(unfit.to_string(), "no container `web` (there are: app, envoy); correct `workload.ecs.container`");
    for answer in [json!({}), json!({ "taskDefinition": null }), json!({ "taskDefinition": { "family": "web" } })] {
        assert_eq!(next(&answer, &release(&rollout, None)), Err(Unfit::NoDefinition), "{answer}");
    }
    for (own, fits) in [(49, true), (50, false)] {
        let mut many = described();
        many["tags"] = (0..own).map(|number| json!({ "key": number.to_string(), "value": "" })).collect();
        assert_eq!(next(&many, &release(&rollout, None)).is_ok(), fits, "{own} tags of its own");
    }
}

#[test]
fn a_revision_is_recognised_by_rollout_and_image() {
    let rollout = rollout();
    let release = release(&rollout, None);
    assert!(!is_of(&described(), &release));
    let mut made = next(&described(), &release).unwrap();
    let tags = made.as_object_mut().unwrap().remove("tags").unwrap();
    let made = json!({ "taskDefinition": made, "tags": tags });
    assert!(is_of(&made, &release));
    assert!(!is_of(&made, &Release { image: "web:3", ..release }));
    assert!(!is_of(&made, &Release { rollout: &RolloutId("r-3".to_owned()), ..release }));
    assert!(!is_of(&json!({ "taskDefinition": made["taskDefinition"] }), &release), "without tags it is nobody's");
}

#[test]
fn only_checks_of_essential_containers_count() {
    let checked =
        |container: Value| has_health_check(&json!({ "taskDefinition": { "containerDefinitions": [container] } }));
    let check = json!({ "command": ["CMD", "true"] });
    assert!(checked(json!({ "healthCheck": check })));
    assert!(checked(json!({ "healthCheck": check, "essential": true })));
    assert!(!checked(json!({ "healthCheck": check, "essential": false })));
    assert!(!checked(json!({ "essential": true })));
    assert!(!has_health_check(&json!({})));
}

#[test]
fn names_of_revisions_are_read() {
    for (name, expected) in [
        ("arn:aws:ecs:us-east-1:1:task-definition/web:7", ("web", Some(7), "web:7")),
        ("web:7", ("web", Some(7), "web:7")),
        ("web", ("web", None, "web")),
        ("", ("", None, "")),
        ("web:x", ("web", None, "web:x")),
    ] {
        assert_eq!((family(name), number(name), short(name)), expected, "{name}");
    }
}

proptest! {
    /// Whatever is released, its tag is one that AWS takes.
    #[test]
    fn any_text_becomes_a_tag(text in any::<String>()) {
        let value = tag_value(&text);
        prop_assert!(value.chars().count() <= 256);
        prop_assert!(value.chars().all(|character| character.is_alphanumeric() || " _.:/=+-@".contains(character)));
        prop_assert_eq!(tag_value(&value), value.clone());
    }
}
