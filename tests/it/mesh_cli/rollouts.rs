//! Applying while a rollout is live.

use super::harness::{EXAMPLE, Local, folder, tidegate, write};
use super::route;

const POLICY: &str = "version: 1\nname: checkout\nroute: { mesh: shop, router: checkout-router, route: checkout }\n\
                      versions: [checkout-v1, checkout-v2]\nsteps: [10, 100]\n";

#[tokio::test]
async fn weights_are_refused_while_a_rollout_owns_the_route() {
    let policies = folder();
    write(&policies, "checkout.yaml", POLICY);
    let local = Local::start_with(&["--mesh", EXAMPLE, "--policies", policies.path().to_str().unwrap()]).await;
    let start = ["rollout", "start", "checkout", "--server", &local.api, "--output", "json"];
    let id = tidegate(&start).await.expect(0).json()[0]["id"].as_str().unwrap().to_owned();

    let files = folder();
    let shifted = write(&files, "shifted.json", &route(60, 40, "/shop"));
    let refused = local.mesh(&["apply", "--weights", "-f", &shifted]).await.expect(1);
    let owns = format!("rollout {id} of checkout owns route shop/checkout-router/checkout");
    refused.says(&["--weights is refused", &owns, "nothing was applied", &format!("tidegate rollout abort {id}")]);
    assert_eq!(local.route().await["spec"]["httpRoute"]["match"]["prefix"], "/");

    // Everything but the weights may change, and other routes may be given theirs.
    local.mesh(&["apply", "-f", &shifted]).await.expect(0);
    assert_eq!(local.route().await["spec"]["httpRoute"]["match"]["prefix"], "/shop");
    assert_ne!(local.weights().await, [60, 40]);
    let other = route(50, 50, "/other").replace("\"routeName\":\"checkout\"", "\"routeName\":\"other\"");
    let other_file = write(&files, "other.json", &other);
    local.mesh(&["apply", "--weights", "-f", &other_file]).await.expect(0);
    let shifted_other = write(&files, "other.json", &other.replace("50", "40"));
    local.mesh(&["apply", "--weights", "-f", &shifted_other]).await.expect(0);

    tidegate(&["rollout", "abort", &id, "--server", &local.api]).await.expect(0);
    tidegate(&["rollout", "watch", &id, "--server", &local.api]).await.expect(4);
    local.mesh(&["apply", "--weights", "-f", &shifted]).await.expect(0);
    assert_eq!(local.weights().await, [60, 40]);
    local.stop().await;
}

#[tokio::test]
async fn nobody_to_ask_is_no_reason_to_refuse() {
    let local = Local::start_with(&["--mesh", EXAMPLE]).await;
    let files = folder();
    let shifted = write(&files, "shifted.json", &route(60, 40, "/"));
    // Bound for a moment, so that nothing listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = format!("http://{free}");
    let applied = local.mesh(&["apply", "--weights", "-f", &shifted, "--server", &server]).await.expect(0);
    applied.says(&["remark: nobody could say whether a rollout owns a route", &server]);
    assert_eq!(local.weights().await, [60, 40]);
    local.stop().await;
}
