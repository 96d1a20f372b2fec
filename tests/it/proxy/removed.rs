//! Endpoints that discovery no longer names, and that their servers end in good order.

use super::harness::{Listed, Mesh, Proxy};
use crate::kit::echo::Echo;
use crate::kit::steady::Steady;
use crate::program::until;
use http::Method;
use std::sync::Arc;
use std::time::Duration;
use tidegate::mesh::snapshot::Discovery;
use tidegate::ports::EndpointSource;

/// Endpoints at a time, by HTTP/1.1.
const ENDPOINTS: usize = 30;
/// Of these are removed together. Look-ups are 5 s apart, so fewer would take long.
const REMOVED: usize = 25;
const ROUNDS: usize = 4;
/// From the moment at which the proxy knows, until the server stops: what a load balancer calls the deregistration delay,
/// which is minutes by default. Within it requests end that were on their way.
const DELAY: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_endpoint_removals_lose_no_request() {
    let mut serving = Vec::new();
    for _ in 0..ENDPOINTS {
        serving.push(Echo::start("v1", false).await);
    }
    let listed = Arc::new(Listed::default());
    let list = |serving: &[Echo]| listed.set(serving.iter().map(|service| service.address));
    list(&serving);
    // The retries that App Mesh gave every route by itself.
    let mesh = Mesh::new(1).discovered("v1", Discovery::by_name("v1.local".to_owned(), false), 80, 1).retries(2);
    let proxy = Proxy::from_source(mesh, Arc::clone(&listed) as Arc<dyn EndpointSource>, |_| {}).await;
    let load = Steady::start(proxy.handle.egress_address(), "shop.local");
    for _ in 0..ROUNDS {
        load.more(200).await;
        let removed: Vec<Echo> = serving.drain(..REMOVED).collect();
        for _ in 0..REMOVED {
            serving.push(Echo::start("v1", false).await);
        }
        list(&serving);
        until("the proxy knows", async || {
            let clusters = proxy.admin(Method::GET, "/clusters").await.text();
            let is_listed = |service: &Echo| clusters.contains(&format!("::{}::", service.address));
            (serving.iter().all(is_listed) && !removed.iter().any(is_listed)).then_some(())
        })
        .await;
        tokio::time::sleep(DELAY).await;
        for service in removed {
            service.drain().await;
        }
    }
    load.more(200).await;
    load.stop().await.expect_whole();
}
