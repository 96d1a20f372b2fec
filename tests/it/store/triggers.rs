//! What came from outside is kept the same way by every store: deliveries, their starts, pushed policies.

use crate::kit::memory::MemoryJournal;
use crate::kit::postgres::Server;
use crate::kit::{BEGINNING, ann, directory};
use tidegate::base::ids::RolloutId;
use tidegate::base::time::Timestamp;
use tidegate::ports::{Deliveries, HookOutcome, HookStart, PolicyStore, PushedPolicy, Received};
use tidegate::store::sqlite::SqliteStore;

fn received(ids: &[&str], rollouts: &[&str]) -> Received {
    let start = |id: &&str| HookStart {
        rollout: RolloutId((*id).to_owned()),
        policy: "checkout".into(),
        image: Some("shop/checkout@sha256:abc".into()),
        revision: (*id != "r-2").then(|| "v2".into()),
        actor: ann(),
        at: BEGINNING,
        not_before: (*id == "r-2").then_some(Timestamp(BEGINNING.0 + 1000)),
        outside_windows: (*id == "r-2").then(|| "a reason".into()),
        outcome: None,
    };
    Received {
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        source: "github".into(),
        at: BEGINNING,
        nothing: vec!["policy `cart`: no".into()],
        starts: rollouts.iter().map(start).collect(),
    }
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

async fn a_delivery_is_seen_by_any_of_its_ids(store: &dyn Deliveries) {
    let first = received(&["github:1", "sha256:a"], &["r-1", "r-2"]);
    assert!(store.receive(&first).await.expect("written"));
    for again in [&["github:1"][..], &["github:2", "sha256:a"], &["github:1", "sha256:b"]] {
        assert!(!store.receive(&received(again, &["r-9"])).await.expect("written"), "{again:?}");
        let seen = store.seen(&ids(again)).await.expect("readable").expect("seen");
        assert_eq!(seen, Received { ids: ids(again), ..first.clone() });
    }
    // What was refused left nothing behind.
    assert!(store.seen(&ids(&["github:2", "sha256:b"])).await.expect("readable").is_none());
    assert!(store.receive(&received(&["github:2", "github:2"], &[])).await.expect("written"));
    assert_eq!(store.start(&RolloutId("r-9".into())).await.expect("readable"), None);
}

async fn a_start_is_open_until_it_has_its_first_outcome(store: &dyn Deliveries) {
    let rollout = |start: HookStart| start.rollout.0;
    let open = async || store.open().await.expect("readable").into_iter().map(rollout).collect::<Vec<_>>();
    assert!(store.receive(&received(&["a"], &["r-3", "r-1"])).await.expect("written"));
    assert!(store.receive(&received(&["b"], &["r-2"])).await.expect("written"));
    assert_eq!(open().await, ["r-3", "r-1", "r-2"], "in the order in which they came");
    let refused = HookOutcome::Refused { why: "w".into(), hint: "h".into() };
    store.settle(&RolloutId("r-1".into()), &refused).await.expect("written");
    store.settle(&RolloutId("r-1".into()), &HookOutcome::Started).await.expect("no harm");
    store.settle(&RolloutId("r-0".into()), &HookOutcome::Started).await.expect("no harm");
    assert_eq!(open().await, ["r-3", "r-2"]);
    let kept = store.start(&RolloutId("r-1".into())).await.expect("readable").expect("there");
    let [_, expected] = &received(&["a"], &["r-3", "r-1"]).starts[..] else { unreachable!("as made") };
    assert_eq!(kept, HookStart { outcome: Some(refused), ..expected.clone() });
}

fn policy(name: &str, text: &str) -> PushedPolicy {
    PushedPolicy { name: name.into(), version: 0, text: text.into(), actor: ann(), at: BEGINNING }
}

async fn a_policys_versions_are_counted(store: &dyn PolicyStore) {
    assert_eq!(store.pushed("checkout").await.expect("readable"), None);
    assert_eq!(store.push(&policy("checkout", "one")).await.expect("written"), 1);
    assert_eq!(store.push(&policy("cart", "one")).await.expect("written"), 1);
    assert_eq!(store.push(&policy("checkout", "two")).await.expect("written"), 2);
    let later = PushedPolicy { at: Timestamp(BEGINNING.0 + 1), ..policy("checkout", "two") };
    assert_eq!(store.push(&later).await.expect("written"), 2, "the same text is no new version");
    let kept = store.pushed("checkout").await.expect("readable");
    assert_eq!(kept, Some(PushedPolicy { version: 2, ..policy("checkout", "two") }));
    let all = store.all_pushed().await.expect("readable");
    assert_eq!(
        all.iter().map(|one| (one.name.as_str(), one.version)).collect::<Vec<_>>(),
        [("cart", 1), ("checkout", 2)]
    );
    assert_eq!(store.push(&policy("checkout", "one")).await.expect("written"), 3, "going back is a version too");
    // More versions than are kept.
    for n in 4..=60 {
        assert_eq!(store.push(&policy("checkout", &n.to_string())).await.expect("written"), n);
    }
    assert_eq!(store.pushed("checkout").await.expect("readable").expect("there").version, 60);
}

#[tokio::test]
async fn memory_keeps_deliveries() {
    a_delivery_is_seen_by_any_of_its_ids(&MemoryJournal::default()).await;
    a_start_is_open_until_it_has_its_first_outcome(&MemoryJournal::default()).await;
}

#[tokio::test]
async fn sqlite_keeps_deliveries_and_pushed_policies() {
    for n in 0..3 {
        let directory = directory();
        let store = SqliteStore::open(directory.path()).await.expect("opens");
        match n {
            0 => a_delivery_is_seen_by_any_of_its_ids(&store).await,
            1 => a_start_is_open_until_it_has_its_first_outcome(&store).await,
            _ => a_policys_versions_are_counted(&store).await,
        }
        store.close().await;
    }
}

#[tokio::test]
async fn postgresql_keeps_deliveries() {
    let Some(server) = Server::start().await else { return };
    let store = server.drive("a").await;
    a_delivery_is_seen_by_any_of_its_ids(&store).await;
    store.close().await;
}

#[tokio::test]
async fn postgresql_keeps_starts_and_pushed_policies() {
    let Some(server) = Server::start().await else { return };
    let store = server.drive("a").await;
    a_start_is_open_until_it_has_its_first_outcome(&store).await;
    a_policys_versions_are_counted(&store).await;
    store.close().await;
}

#[tokio::test]
async fn whoever_does_not_drive_keeps_nothing() {
    let Some(server) = Server::start().await else { return };
    let (first, second) = (server.drive("a").await, server.open("b").await);
    let delivery = received(&["a"], &["r-1"]);
    let fault = second.receive(&delivery).await.expect_err("another one drives");
    assert!(fault.to_string().contains("nothing was written"), "{fault}");
    let fault = PolicyStore::push(&second, &policy("checkout", "one")).await.expect_err("another one drives");
    assert!(fault.to_string().contains("nothing was written"), "{fault}");
    assert!(first.receive(&delivery).await.expect("it drives"));
    // Both read.
    assert!(second.seen(&delivery.ids).await.expect("readable").is_some());
    second.close().await;
    first.close().await;
}

#[tokio::test]
async fn old_deliveries_are_forgotten_but_not_open_starts() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    assert!(store.receive(&received(&["open"], &["r-open"])).await.expect("written"));
    assert!(store.receive(&received(&["done"], &["r-done"])).await.expect("written"));
    store.settle(&RolloutId("r-done".into()), &HookOutcome::Started).await.expect("written");
    // As if ten thousand had come since.
    super::sql(
        directory.path(),
        "INSERT INTO deliveries (position, source, at_ms, reasons) VALUES (10002, 'github', 0, '[]')",
    )
    .await;
    assert!(store.receive(&received(&["new"], &[])).await.expect("written"));
    let seen = async |id: &str| store.seen(&ids(&[id])).await.expect("readable").is_some();
    assert_eq!((seen("open").await, seen("done").await, seen("new").await), (true, false, true));
    store.close().await;
}
