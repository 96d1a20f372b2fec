//! Which noise is allowed for, and what it changes.

use super::kit::{World, plan};
use crate::policy::plan::{NoiseRule, Plan};
use crate::rollout::event::MeasuredNoise;
use crate::rollout::gate::judge;
use crate::rollout::view::RolloutView;

const MEASURED: MeasuredNoise = MeasuredNoise { v: 0.25, phi: 1.0, minutes: 412, endpoints: 4 };

fn noisy(noise: NoiseRule) -> Plan {
    let mut plan = Plan { noise, ..plan(&[10, 50, 100]) };
    // So that two allowances differ by nothing else.
    plan.confidence_to_advance = 0.999_999;
    plan
}

fn world(noise: NoiseRule, measured: Option<MeasuredNoise>) -> World {
    let mut world = World::at(noisy(noise), "baking");
    world.state.past.noise = measured;
    world
}

fn told(world: &World) -> String {
    RolloutView::of(&world.plan, &world.state).noise.expect("something is allowed for, or why not")
}

#[test]
fn what_is_measured_is_allowed_for_and_told() {
    let worse = |noise, measured| {
        let mut world = world(noise, measured);
        world.traffic((400, 24), (3600, 36));
        world.read();
        judge(&world.plan, &world.state).finding.worse_log_e
    };
    let none = worse(NoiseRule::None, Some(MEASURED));
    assert_eq!(worse(NoiseRule::Auto, None), none);
    assert_eq!(worse(NoiseRule::Auto, Some(MeasuredNoise { v: 0.0, minutes: 12, ..MEASURED })), none);
    let fixed = worse(NoiseRule::Fixed { v: 0.25, phi: 1.0 }, None);
    let auto = worse(NoiseRule::Auto, Some(MEASURED));
    // The urn takes from it, and so does the ratio of 1.2 on top, which a policy's own numbers do not bring.
    assert!(none > fixed + 0.3 && fixed > auto + 0.3, "{none} {fixed} {auto}");
    assert!(fixed > worse(NoiseRule::Fixed { v: 0.25, phi: 3.0 }, None) + 0.3);

    assert_eq!(RolloutView::of(&noisy(NoiseRule::None), &world(NoiseRule::None, None).state).noise, None);
    for (noise, measured, text) in [
        (NoiseRule::Auto, None, "noise: none is allowed for, since nobody has watched stable's endpoints"),
        (
            NoiseRule::Auto,
            Some(MEASURED),
            "noise: a version's error rate may swing by 50 % of itself from minute to minute (v = 0.250; measured in 412 minutes \
             with errors on 4 endpoints of stable); that is allowed for, and 1.2 times stable's rate is tolerated",
        ),
        (
            NoiseRule::Auto,
            Some(MeasuredNoise { v: 0.0, minutes: 12, ..MEASURED }),
            "noise: none is allowed for, since 12 minutes with errors on 4 endpoints of stable are too few to measure it by \
             (30 are needed)",
        ),
        (
            NoiseRule::Auto,
            Some(MeasuredNoise { v: 0.0, endpoints: 1, ..MEASURED }),
            "noise: none is allowed for, since stable had one endpoint at a time and noise shows between two",
        ),
        (
            NoiseRule::Auto,
            Some(MeasuredNoise { v: 0.0, ..MEASURED }),
            "noise: none was found in 412 minutes with errors on 4 endpoints of stable",
        ),
        (
            NoiseRule::Fixed { v: 0.25, phi: 3.0 },
            None,
            "noise: v = 0.25 and phi = 3 are allowed for, as the policy says",
        ),
    ] {
        assert_eq!(told(&world(noise, measured)), text);
    }
}

#[test]
fn blocks_close_where_the_rollouts_own_epochs_open() {
    // The same errors in one minute and in four: within a minute they hang together, over several they add up.
    let spread = |seconds_between: u64| {
        let mut world = world(NoiseRule::Fixed { v: 1.0, phi: 1.0 }, None);
        let mut beside = World::at(noisy(NoiseRule::Fixed { v: 1.0, phi: 1.0 }), "baking");
        for _ in 0..4 {
            world.traffic((100, 2), (900, 2));
            world.read();
            // Another rollout opens blocks as it likes.
            beside.wait(61);
            beside.traffic((100, 0), (900, 9));
            beside.read();
            world.wait(seconds_between);
        }
        (judge(&world.plan, &world.state).finding.worse_log_e, world.state.evidence.blocks.len())
    };
    let ((one, blocks), (four, more_blocks)) = (spread(5), spread(61));
    assert!(more_blocks >= blocks + 3, "{blocks} {more_blocks}");
    assert!(four > one + 0.5, "{one} {four}");
}

#[test]
fn a_plan_of_before_allows_for_none() {
    let mut stored = serde_json::to_value(plan(&[10, 100])).unwrap();
    assert_eq!(stored.as_object_mut().and_then(|plan| plan.remove("noise")), None, "absent where there is none");
    assert_eq!(serde_json::from_value::<Plan>(stored).unwrap().noise, NoiseRule::None);
}
