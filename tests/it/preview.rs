//! The new version by a header, before any weight: the example's route on a real daemon.

use crate::program::run;
use crate::program::world::{HOST, World};
use tidegate::demo::service::VERSION_HEADER;

async fn who_answers(world: &World, preview: Option<&str>) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = http.get(world.daemon.url("egress")).header("host", HOST);
    if let Some(value) = preview {
        request = request.header("x-preview", value);
    }
    let answer = request.send().await.unwrap();
    answer.headers()[VERSION_HEADER].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_header_previews_the_new_version_before_any_weight() {
    let world = World::start().await;
    let endpoint = world.daemon.url("appmesh");
    let apply = ["mesh", "apply", "--yes", "-f", "examples/preview/route.yaml", "--endpoint-url", &endpoint];
    let applied = run(&apply).await.expect(0);
    assert!(applied.stdout.contains("created route checkout-router/checkout-preview"), "{}", applied.stdout);
    assert_eq!(who_answers(&world, Some("1")).await, "v2");
    assert_eq!(who_answers(&world, Some("0")).await, "v1");
    assert_eq!(who_answers(&world, None).await, "v1");
    assert_eq!(world.daemon.weights().await.unwrap()["checkout-v2"], 0);
}

#[tokio::test]
async fn a_page_of_another_site_reaches_neither_the_mesh_nor_the_admin_pages() {
    let world = World::start().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (name, path) in [("admin", "/quitquitquit"), ("admin", "/drain_listeners"), ("appmesh", "/v20190125/meshes")] {
        let request = http.post(format!("{}{path}", world.daemon.url(name))).header("origin", "http://evil.example");
        assert_eq!(request.send().await.unwrap().status().as_u16(), 403, "{name}{path}");
    }
    assert_eq!(who_answers(&world, None).await, "v1");
}
