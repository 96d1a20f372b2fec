//! What ECS says of the health of a version's tasks.

use super::{Shop, config, json};
use tidegate::base::fault::FaultKind;
use tidegate::ports::Checked;
use tidegate::signals::tasks::TaskHealth;

#[tokio::test]
async fn tasks_are_as_healthy_as_ecs_says() {
    let Some(shop) = Shop::start().await else { return };
    let health = TaskHealth::from_config(&config(&shop.double.url));
    let well = health.check("prod", "checkout-a").await.unwrap();
    assert_eq!(well, Checked { asked: 3, failed: 0, first: None });
    assert_eq!(health.check("prod", "checkout-b").await.unwrap(), Checked::default(), "no task is no answer");
    assert_eq!(health.calls(), [("ListTasks", 2), ("DescribeTasks", 1)]);
    // The release's tasks come up and fail the health check of a container.
    shop.behave("never_healthy", json!({})).await;
    shop.deploy().await;
    let mut ill = Checked::default();
    for _ in 0..8 {
        shop.advance(1).await;
        ill = health.check("prod", "checkout-b").await.unwrap();
        if ill.failed > 0 {
            break;
        }
    }
    assert!(ill.failed > 0 && ill.failed <= ill.asked, "{ill:?}");
    assert!(
        ill.first.as_ref().is_some_and(|first| first.starts_with("task ") && first.ends_with(" is UNHEALTHY")),
        "{ill:?}"
    );
}

#[tokio::test]
async fn a_bad_day_says_whose_fault_it_is() {
    let Some(shop) = Shop::start().await else { return };
    let health = TaskHealth::from_config(&config(&shop.double.url));
    for operation in ["ListTasks", "DescribeTasks"] {
        for (kind, more, expected, text) in [
            ("throttle", json!({ "times": 3 }), FaultKind::Transient, "AWS limits the calls of this account"),
            ("deny", json!({}), FaultKind::Permanent, "not allowed: ecs:"),
            ("hang", json!({}), FaultKind::Transient, "no answer: "),
        ] {
            shop.double.fault_of("ecs", operation, kind, more).await;
            let fault = health.check("prod", "checkout-a").await.unwrap_err();
            assert_eq!(fault.kind, expected, "{operation} {kind}: {fault}");
            assert!(fault.message.contains(text), "{operation} {kind}: {fault}");
        }
    }
    let fault = health.check("prod", "nobody").await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Permanent, "{fault}");
}
