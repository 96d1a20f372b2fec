//! What the admin interface and local telemetry tell.

use super::harness::{Backend, Mesh, Proxy};
use http::Method;
use tidegate::ports::Telemetry;
use tidegate::signals::live::LocalTelemetry;

#[tokio::test]
async fn it_tells_state_counts_clusters_and_configuration() {
    let (good, bad) = (Backend::text("hello").await, Backend::status(500).await);
    let mesh = Mesh::new(3).target("v1", good.address, 1).target("v\"2\\", bad.address, 0).timeout(1000);
    let proxy = Proxy::start(mesh.clone()).await;
    let mut client = proxy.client().await;
    for _ in 0..3 {
        client.get("/").await.unwrap();
    }
    proxy.publish(&mesh.reweighted(&[0, 1])).await;
    client.get("/").await.unwrap();

    let info: serde_json::Value = serde_json::from_slice(&proxy.admin(Method::GET, "/server_info").await.body).unwrap();
    assert_eq!((&info["state"], &info["applied_version"]), (&"LIVE".into(), &4.into()));
    let clusters = proxy.admin(Method::GET, "/clusters").await.text();
    assert!(clusters.contains(&format!("::{}::health_flags::healthy\n", good.address)), "{clusters}");
    let dump: serde_json::Value = serde_json::from_slice(&proxy.admin(Method::GET, "/config_dump").await.body).unwrap();
    assert_eq!(dump["services"][0]["routes"][0]["targets"][1]["weight"], 1);

    let text = proxy.admin(Method::GET, "/stats/prometheus").await.text();
    let labels = |version: u32, target: &str, endpoint| {
        format!(
            "mesh=\"m\",router=\"shop\",route=\"all\",version=\"{version}\",target=\"{target}\",endpoint=\"{endpoint}\""
        )
    };
    let (v1, v2) = (labels(3, "v1", good.address), labels(4, "v\\\"2\\\\", bad.address));
    for line in [
        format!("tidegate_proxy_requests_total{{{v1}}} 3"),
        format!("tidegate_proxy_requests_total{{{v2}}} 1"),
        format!("tidegate_proxy_request_errors_total{{{v2},class=\"status_5xx\"}} 1"),
        format!("tidegate_proxy_request_duration_seconds_bucket{{{v1},le=\"+Inf\"}} 3"),
        format!("tidegate_proxy_request_duration_seconds_count{{{v1}}} 3"),
        format!("tidegate_proxy_request_duration_seconds_count{{{v2}}} 0"),
        "# TYPE tidegate_proxy_request_duration_seconds histogram".to_owned(),
    ] {
        assert!(text.lines().any(|each| each == line), "no {line} in\n{text}");
    }
    // Buckets are cumulative.
    let prefix = format!("tidegate_proxy_request_duration_seconds_bucket{{{v1}");
    let buckets: Vec<u64> = text
        .lines()
        .filter(|line| line.starts_with(&prefix))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(buckets.len() > 20 && buckets.is_sorted(), "{buckets:?}");
}

#[tokio::test]
async fn local_telemetry_reads_the_proxy_at_once() {
    let backend = Backend::text("hello").await;
    let proxy = Proxy::start(Mesh::new(1).target("v1", backend.address, 1)).await;
    let reporter = proxy.handle.reporter();
    let telemetry = LocalTelemetry::new(move |_| reporter.report());
    assert_eq!(telemetry.reports().await.unwrap()[0].series, []);
    proxy.client().await.get("/").await.unwrap();
    let reports = telemetry.reports().await.unwrap();
    assert_eq!((reports[0].proxy.as_str(), reports[0].series[0].outcomes.requests), ("test", 1));
}
