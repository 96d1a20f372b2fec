//! Freezes: the same in memory and in both databases.

use crate::kit::directory;
use crate::kit::memory::MemoryJournal;
use crate::kit::postgres::Server;
use tidegate::base::time::Timestamp;
use tidegate::ports::{Freeze, Freezes};
use tidegate::rollout::event::Actor;
use tidegate::store::sqlite::SqliteStore;

fn person(name: &str) -> Actor {
    Actor { name: name.into(), via: "token".into() }
}

fn freeze(policy: Option<&str>, reason: &str, at: i64) -> Freeze {
    Freeze { policy: policy.map(str::to_owned), reason: reason.into(), by: person("ben"), at: Timestamp(at) }
}

/// Answers what is in force at the end.
async fn one_for_each_policy_and_one_for_all(freezes: &dyn Freezes) -> Vec<Freeze> {
    assert_eq!(freezes.in_force().await.expect("readable"), []);
    let [all, carts, shop] =
        [freeze(None, "payday", 3), freeze(Some("carts"), "a fault", 2), freeze(Some("shop"), "it's \"odd\"", 1)];
    for kept in [&shop, &carts, &all] {
        assert!(freezes.freeze(kept).await.expect("written"));
        assert!(!freezes.freeze(&freeze(kept.policy.as_deref(), "again", 9)).await.expect("asked"), "the first stays");
    }
    assert_eq!(freezes.in_force().await.expect("readable"), [all.clone(), carts.clone(), shop.clone()]);
    let lift = async |policy| freezes.lift(policy, Timestamp(7), &person("ann")).await.expect("asked");
    assert_eq!(lift(Some("nope")).await, None);
    assert_eq!(lift(Some("carts")).await, Some(carts));
    assert_eq!(lift(Some("carts")).await, None);
    assert_eq!(lift(None).await, Some(all));
    // What was lifted can be frozen anew, and stays on record.
    let anew = freeze(Some("carts"), "once more", 8);
    assert!(freezes.freeze(&anew).await.expect("written"));
    let left = vec![anew, shop];
    assert_eq!(freezes.in_force().await.expect("readable"), left);
    left
}

#[tokio::test]
async fn in_memory() {
    one_for_each_policy_and_one_for_all(&MemoryJournal::default()).await;
}

#[tokio::test]
async fn in_sqlite_they_survive_a_restart() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let left = one_for_each_policy_and_one_for_all(&store).await;
    store.close().await;
    // With the directory's lock.
    drop(store);
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    assert_eq!(store.in_force().await.expect("readable"), left);
    store.close().await;
}

#[tokio::test]
async fn in_postgresql_one_that_does_not_drive_keeps_them_too() {
    let Some(server) = Server::start().await else { return };
    let driver = server.drive("a").await;
    let left = one_for_each_policy_and_one_for_all(&driver).await;
    let standby = server.open("b").await;
    assert_eq!(standby.in_force().await.expect("readable"), left);
    let all = freeze(None, "payday", 20);
    assert!(standby.freeze(&all).await.expect("written"));
    assert_eq!(driver.in_force().await.expect("readable")[0], all);
    driver.close().await;
    standby.close().await;
}
