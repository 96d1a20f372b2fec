//! A fuse that tripped goes over to the process that takes over, whether or not anybody has read of it.

use super::task::{HOST, Task};
use crate::program::until;
use serde_json::Value;

/// The fuse of the only route, by the process that answers now.
async fn fuse(task: &Task) -> Option<Value> {
    let report: Value = serde_json::from_str(&task.page("/tidegate/report").await?).unwrap();
    report["fuses"].get(0).cloned()
}

#[tokio::test]
async fn what_tripped_stays_out_in_the_process_that_takes_over() {
    let mut task = Task::start().await;
    task.end_v2().await;
    let before = task.serving().await;
    // By this few failures nobody would be blamed; the test needs a trip and no statistics.
    task.arm([50, 50], "1000; canary=v2; rollout=r-1; threshold=3").await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/", task.address(0));
    let ask = async || http.get(&url).header("host", HOST).send().await.unwrap().status().as_u16();
    let tripped = until("it trips", async || {
        ask().await;
        fuse(&task).await.filter(|fuse| fuse["state"] == "tripped")
    })
    .await;
    assert!(tripped["canary_errors"].as_u64() > Some(0), "{tripped}");

    let name = task.name().await;
    let after = task.serving().await;
    let taken_over = until("the next process says so", async || {
        let is_next = task.name().await != name;
        fuse(&task).await.filter(|fuse| is_next && fuse["state"] == "tripped")
    })
    .await;
    assert_eq!(taken_over, tripped, "with what was seen until then");
    for _ in 0..40 {
        assert_eq!(ask().await, 200, "it is sent to nobody");
    }
    drop(before);
    assert_eq!(after.terminate().await, Some(0));
}
