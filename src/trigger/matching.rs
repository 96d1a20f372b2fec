//! An event and all policies: which rollouts it asks for, and why no others.

use super::event::{Event, ImagePushed, WorkflowSucceeded};
use super::filter::{ImageFilter, WorkflowRule};
use super::image::{ImageRef, Pin};
use crate::policy::plan::{ImageRule, Plan, WorkflowImage};

/// Reasons that one answer holds: with more policies than this, those that wait for something else are counted.
const REASONS_MAX: usize = 20;

/// A policy by name, with its plan or all that is wrong with it.
pub type Known = (String, Result<Plan, String>);

/// A rollout that an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The policy.
    pub policy: String,
    /// What to deploy, by its digest where that is known.
    pub image: Option<String>,
    /// What is released, for people: the commit, else the tag.
    pub revision: Option<String>,
    /// Who released, as the sender calls them.
    pub by: Option<String>,
}

/// What comes of an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matched {
    /// Rollouts that it asks for.
    pub wanted: Vec<Wanted>,
    /// Why it asks for no others.
    pub nothing: Vec<String>,
}

/// Why an event that names a policy cannot be followed. The sender can correct it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmatched {
    /// There is no such policy.
    #[error("there is no policy `{name}`{}", if known.is_empty() { String::new() } else { format!(" (there are: {known})") })]
    NoSuchPolicy {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// It is not valid.
    #[error("policy `{name}` is not valid:\n{problems}")]
    Invalid {
        /// The name.
        name: String,
        /// The problems.
        problems: String,
    },
}

/// Compares an event with all policies.
///
/// # Errors
/// The event names a policy that cannot be started.
pub fn matched(event: &Event, policies: &[Known]) -> Result<Matched, Unmatched> {
    match event {
        Event::Ping => Ok(Matched::nothing("a ping: somebody is here")),
        Event::Nothing(why) => Ok(Matched::nothing(why)),
        Event::Start(asked) => {
            let known = policies.iter().find(|(name, _)| *name == asked.policy);
            match known {
                Some((_, Ok(_))) => {}
                Some((name, Err(problems))) => {
                    return Err(Unmatched::Invalid { name: name.clone(), problems: problems.clone() });
                }
                None => {
                    let names: Vec<&str> = policies.iter().map(|(name, _)| name.as_str()).take(REASONS_MAX).collect();
                    return Err(Unmatched::NoSuchPolicy { name: asked.policy.clone(), known: names.join(", ") });
                }
            }
            Ok(Matched::one(&asked.policy, asked.image.as_ref(), asked.revision.as_deref(), asked.actor.as_deref()))
        }
        Event::Image(pushed) => Ok(each(policies, "a pushed image", |plan| {
            let rule = plan.start.as_ref()?.image.as_ref()?;
            Some(admitted(rule, pushed).map(|()| pushed.clone()))
        })),
        Event::Workflow(run) => Ok(each(policies, "a workflow", |plan| {
            let rule = plan.start.as_ref()?.workflow.as_ref()?;
            Some(made(rule, run))
        })),
    }
}

fn admitted(rule: &ImageRule, pushed: &ImagePushed) -> Result<(), String> {
    let filter = ImageFilter::new(&rule.repository, rule.tag.as_deref()).map_err(|error| error.to_string())?;
    filter.admits(&pushed.image).map_err(|mismatch| mismatch.to_string())
}

fn made(rule: &WorkflowImage, run: &WorkflowSucceeded) -> Result<ImagePushed, String> {
    let WorkflowImage { repository, branch, workflow, image } = rule;
    let rule = WorkflowRule::new(repository, branch, workflow.as_deref(), image).map_err(|error| error.to_string())?;
    rule.image(run).map_err(|mismatch| mismatch.to_string())
}

/// Asks each policy; `None` where it waits for nothing of that kind.
fn each(policies: &[Known], what: &str, ask: impl Fn(&Plan) -> Option<Result<ImagePushed, String>>) -> Matched {
    let (mut matched, mut others) = (Matched::default(), 0_usize);
    for (name, plan) in policies {
        let reason = match plan {
            Err(_) => format!("policy `{name}` is not valid, so it starts nothing"),
            Ok(plan) => match ask(plan) {
                None => continue,
                Some(Ok(_)) if plan.workload.is_none() => {
                    format!("policy `{name}`: it has no `workload`, so nothing would deploy the image")
                }
                Some(Ok(pushed)) => {
                    let ImagePushed { image, pushed_by, revision, .. } = pushed;
                    let one = Matched::one(name, Some(&image), revision.as_deref(), pushed_by.as_deref());
                    matched.wanted.extend(one.wanted);
                    matched.nothing.extend(one.nothing);
                    continue;
                }
                Some(Err(why)) => format!("policy `{name}`: {why}"),
            },
        };
        if matched.nothing.len() < REASONS_MAX { matched.nothing.push(reason) } else { others += 1 }
    }
    if others > 0 {
        matched.nothing.push(format!("{others} more policies wait for something else"));
    }
    if matched == Matched::default() {
        return Matched::nothing(&format!("no policy waits for {what}: `start.on` says what one waits for"));
    }
    matched
}

impl Matched {
    fn nothing(why: &str) -> Self {
        Self { wanted: Vec::new(), nothing: vec![why.to_owned()] }
    }

    fn one(policy: &str, image: Option<&ImageRef>, revision: Option<&str>, by: Option<&str>) -> Self {
        let tag = image.and_then(|image| image.tag.as_ref()).map(ToString::to_string);
        let deployed = match image.map(|image| image.to_deploy(Pin::TagOrDigest)).transpose() {
            Ok(deployed) => deployed,
            Err(error) => return Self::nothing(&format!("policy `{policy}`: {error}")),
        };
        let revision = revision.map(str::to_owned).or(tag);
        let wanted = Wanted { policy: policy.to_owned(), image: deployed, revision, by: by.map(str::to_owned) };
        Self { wanted: vec![wanted], nothing: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Source, StartAsked};
    use super::*;

    const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn policy(name: &str, start: &str, deploys: bool) -> Known {
        let workload = "workload: { ecs: { cluster: c, services: { a: x, b: y }, container: app } }\n";
        let text = format!(
            "version: 1\nname: {name}\nroute: {{ mesh: m, router: r, route: {name} }}\nversions: [a, b]\nsteps: [100]\n{start}\n{}",
            if deploys { workload } else { "" }
        );
        let plan = crate::policy::compile("p.yaml", &text);
        (name.to_owned(), plan.map(|compiled| compiled.plan).map_err(|problems| format!("{problems:?}")))
    }

    fn policies() -> Vec<Known> {
        vec![
            policy("by-tag", "start: { on: { image: { repository: shop/checkout, tag: \"v*\" } } }", true),
            policy(
                "by-commit",
                "start: { on: { workflow: { repository: Shop/checkout, branch: main, image: \"shop/checkout:{sha}\" } } }",
                true,
            ),
            policy("bare", "start: { on: { image: { repository: shop/checkout } } }", false),
            policy("by-name", "", false),
            policy("broken", "steps: []", true),
        ]
    }

    fn pushed(image: &str) -> Event {
        let image = ImageRef::parse(&image.replace("DIGEST", DIGEST)).unwrap();
        Event::Image(ImagePushed { image, pushed_by: Some("ada".into()), revision: None, source: Source::Ecr })
    }

    #[test]
    fn an_image_starts_the_policies_that_wait_for_it() {
        let found = matched(&pushed("ghcr.io/shop/checkout:v1@DIGEST"), &policies()).unwrap();
        let wanted = Wanted {
            policy: "by-tag".into(),
            image: Some(format!("ghcr.io/shop/checkout@{DIGEST}")),
            revision: Some("v1".into()),
            by: Some("ada".into()),
        };
        assert_eq!(found.wanted, [wanted]);
        assert_eq!(
            found.nothing,
            [
                "policy `bare`: it has no `workload`, so nothing would deploy the image",
                "policy `broken` is not valid, so it starts nothing"
            ]
        );
        let other = matched(&pushed("ghcr.io/shop/checkout:latest@DIGEST"), &policies()[..1]).unwrap();
        assert_eq!(other, Matched::nothing("policy `by-tag`: the tag `latest` does not fit `v*`"));
    }

    #[test]
    fn a_workflow_starts_what_it_has_made() {
        let run = WorkflowSucceeded {
            repository: "shop/checkout".into(),
            branch: "main".into(),
            sha: "0a".repeat(20),
            workflow: "build".into(),
            actor: None,
            source: Source::Github,
        };
        let found = matched(&Event::Workflow(run.clone()), &policies()[..2]).unwrap();
        let [wanted] = &found.wanted[..] else { panic!("{found:?}") };
        assert_eq!(
            (wanted.image.as_deref(), wanted.revision.as_deref()),
            (Some(&*format!("shop/checkout:{}", run.sha)), Some(&*run.sha))
        );
        let none = matched(&Event::Workflow(run), &policies()[3..4]).unwrap();
        assert_eq!(none, Matched::nothing("no policy waits for a workflow: `start.on` says what one waits for"));
    }

    #[test]
    fn a_name_starts_that_policy_or_is_told_what_is_wrong() {
        let asked = |policy: &str| {
            let asked = StartAsked { policy: policy.into(), image: None, revision: Some("r7".into()), actor: None };
            matched(&Event::Start(asked), &policies())
        };
        let found = asked("by-name").unwrap();
        assert_eq!((found.wanted.len(), found.wanted[0].revision.as_deref()), (1, Some("r7")));
        let error = asked("none").unwrap_err().to_string();
        assert_eq!(error, "there is no policy `none` (there are: by-tag, by-commit, bare, by-name, broken)");
        assert!(asked("broken").unwrap_err().to_string().starts_with("policy `broken` is not valid:"));
    }

    #[test]
    fn an_answer_with_many_policies_is_bounded() {
        let many: Vec<Known> = (0..50)
            .map(|n| policy(&format!("p{n}"), "start: { on: { image: { repository: other } } }", true))
            .collect();
        let found = matched(&pushed("shop/checkout:v1"), &many).unwrap();
        assert_eq!((found.nothing.len(), found.nothing[20].as_str()), (21, "30 more policies wait for something else"));
    }
}
