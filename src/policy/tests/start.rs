//! What starts rollouts from outside: as it arrives in the plan, and what could start nothing.

use super::{check, good, with};
use crate::policy::plan::{ImageRule, WhileLive};

#[test]
fn what_starts_rollouts_arrives_in_the_plan() {
    assert_eq!(good(&with("")).plan.start, None);
    let text = with(
        "start: { on: { image: { repository: ghcr.io/shop/checkout, tag: \"v*\" }, workflow: { repository: Shop/checkout, \
         branch: \"release/*\", workflow: build, image: \"shop/checkout:{short_sha}\" } }, while_live: queue }\n",
    );
    let start = good(&text).plan.start.unwrap();
    let image = ImageRule { repository: "ghcr.io/shop/checkout".into(), tag: Some("v*".into()) };
    assert_eq!((start.image, start.while_live), (Some(image), WhileLive::Queue));
    let workflow = start.workflow.unwrap();
    assert_eq!((workflow.branch.as_str(), workflow.workflow.as_deref()), ("release/*", Some("build")));
    assert_eq!(good(&with("start: { while_live: refuse }\n")).plan.start.unwrap().while_live, WhileLive::Refuse);
    let default = good(&with("start: { on: { image: { repository: shop } } }\n")).plan.start.unwrap();
    assert_eq!((default.while_live, default.image.unwrap().tag), (WhileLive::NewestWins, None));
}

#[test]
fn what_could_start_nothing_is_refused_with_its_place() {
    for (start, expected) in [
        (
            "{ on: {} }",
            "6:14 `start.on` waits for nothing | add `image` or `workflow`; a policy that is only started by name needs no `on`",
        ),
        (
            "{ on: { image: { repository: \"Shop/checkout:v1\" } } }",
            "6:37 `start.on.image.repository`: `Shop/checkout:v1` is no repository: lower-case letters and digits, with `.`, `_`, \
             `__` or `-` between them, in parts divided by `/`, 255 characters at most | a repository such as \
             `shop/checkout`, with or without its registry; the tag has its own key",
        ),
        (
            "{ on: { image: { tag: a } } }",
            "6:23 missing key `repository` in `start.on.image` | add `repository: shop/checkout`",
        ),
        (
            "{ on: { workflow: { repository: s, branch: m, image: \"a:{commit}\" } } }",
            "6:61 `start.on.workflow.image`: `{commit}` is no placeholder of an image: `{sha}`, `{short_sha}` and `{branch}` are \
             | for example `ghcr.io/shop/checkout:{sha}`",
        ),
        (
            "{ on: { workflow: { repository: s, branch: m, image: \"a:latest\" } } }",
            "6:61 `start.on.workflow.image`: the template has neither `{sha}` nor `{short_sha}`, so every commit would have the \
             same image",
        ),
        (
            "{ while_live: newest }",
            "6:22 `start.while_live` must be `newest_wins`, `queue` or `refuse`, found the text `newest`",
        ),
        (
            "{ windows: [\"Mon-Thu 09:00-16:00 Europe/Berln\"] }",
            "6:20 `start.windows`: there is no time zone `Europe/Berln` | did you mean `Europe/Berlin`?",
        ),
        (
            "{ at: [\"0 9 * * Mon UTC\", \"0 25 * * * UTC\"] }",
            "6:34 `start.at`: `25` is no hour | numbers from 0 to 23; `*`, `1-5`, `*/2` and lists work too",
        ),
        ("{ windows: [] }", "6:19 `start.windows` must have 1 to 64 entries, found 0"),
        ("{ on: { tag: a } }", "6:16 unknown key `tag` in `start.on` | known keys here: `image`, `workflow`"),
    ] {
        check(&with(&format!("start: {start}\n")), &[expected]);
    }
}

#[test]
fn a_policy_that_waits_for_images_and_deploys_none_is_warned_about() {
    let compiled = good(&with("start: { on: { image: { repository: shop } } }\n"));
    let warnings: Vec<_> = compiled.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(warnings, ["`start.on` waits for images, and no `workload` deploys them: it will start nothing"]);
    assert!(good(&with("start: { while_live: queue }\n")).warnings.is_empty());
}

#[test]
fn windows_and_departures_arrive_in_the_plan_as_they_are_written() {
    let (windows, at) = ("Mon-Thu 09:00-16:00 Europe/Berlin", "0 9,14 * * Mon-Thu Europe/Berlin");
    let compiled = good(&with(&format!("start: {{ windows: [\"{windows}\"], at: [\"{at}\"] }}\n")));
    assert_eq!(compiled.warnings, []);
    let start = compiled.plan.start.unwrap();
    assert_eq!((start.windows, start.at), (vec![windows.to_owned()], vec![at.to_owned()]));
}

#[test]
fn a_window_shorter_than_the_steps_and_a_departure_outside_of_it_are_warned_about() {
    let steps = "version: 1\nname: checkout\nroute: { mesh: shop, router: r, route: checkout }\nversions: [a, b]\n\
                 steps: [{ weight: 10, min: 2h, max: 3h }, { weight: 100, min: 90m, max: 2h }]\n";
    let shown = |start: &str| {
        let warnings = good(&format!("{steps}start: {start}\n")).warnings;
        let shown = |warning: &crate::policy::problem::Problem| {
            format!("{}:{} {}", warning.line, warning.column, warning.message)
        };
        warnings.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(
        shown("{ windows: [\"Mon 09:00-12:29 UTC\"] }"),
        ["6:19 the steps take 210m at least, and no window is open for longer than 209m"]
    );
    assert!(shown("{ windows: [\"Mon 09:00-11:00 UTC\", \"Mon 10:30-12:30 UTC\"] }").is_empty(), "they are one");
    assert_eq!(
        shown("{ windows: [\"Mon-Thu 09:00-16:00 UTC\"], at: [\"0 12 * * * UTC\"] }"),
        ["6:53 `start.at`: it departs when no window is open, for example on Fri 12:00"]
    );
}
