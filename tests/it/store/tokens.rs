//! Tokens in both databases, also beside a daemon that drives and by one that does not.

use crate::kit::postgres::Server;
use crate::kit::{directory, plan};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tidegate::base::time::Timestamp;
use tidegate::base::token::{Role, Token, TokenHash, TokenId, TokenRecord};
use tidegate::ports::{DriverLease, TOKENS_MAX, TokenError, Tokens};
use tidegate::store::postgres::PostgresStore;
use tidegate::store::sqlite::{OpenError, SqliteStore};

fn token(number: u16, role: Role) -> (TokenRecord, TokenHash) {
    let [high, low] = number.to_be_bytes();
    let token = Token::new([0, 0, 0, 0, high, low], [low; 32]);
    let record = TokenRecord {
        id: token.id().clone(),
        name: format!("t{number}"),
        role,
        created_at: Timestamp(i64::from(number)),
        created_by: "ann (os_user)".into(),
        revoked: None,
    };
    (record, token.hash())
}

async fn names(tokens: &dyn Tokens) -> Vec<String> {
    tokens.list().await.expect("readable").into_iter().map(|record| record.name).collect()
}

async fn tokens_are_kept_listed_and_revoked_for_good(tokens: &dyn Tokens) {
    assert_eq!(tokens.list().await.expect("readable"), []);
    let kept = [(1, Role::Viewer), (2, Role::Operator), (3, Role::Admin)].map(|(number, role)| token(number, role));
    for (record, hash) in &kept {
        assert_eq!(tokens.find(hash).await.expect("readable"), None);
        tokens.create(record, hash).await.expect("written");
        assert_eq!(tokens.find(hash).await.expect("readable").as_ref(), Some(record));
    }
    let (other, hash) = token(4, Role::Admin);
    let again = TokenRecord { id: kept[0].0.id.clone(), ..other };
    assert!(matches!(tokens.create(&again, &hash).await, Err(TokenError::Fault(_))), "an identifier is one token's");
    assert_eq!(names(tokens).await, ["t3", "t2", "t1"]);

    let revoked = tokens.revoke(&kept[1].0.id, Timestamp(77), "bob (token)").await.expect("written");
    let expected = TokenRecord { revoked: Some((Timestamp(77), "bob (token)".into())), ..kept[1].0.clone() };
    assert_eq!(revoked.as_ref(), Some(&expected));
    assert_eq!(tokens.find(&kept[1].1).await.expect("readable").as_ref(), Some(&expected), "it is still known");
    let twice = tokens.revoke(&kept[1].0.id, Timestamp(99), "eve (token)").await.expect("written");
    assert_eq!(twice, Some(expected), "the first time counts");
    assert_eq!(tokens.revoke(&TokenId("nope".into()), Timestamp(1), "bob").await.expect("asked"), None);
    assert_eq!(names(tokens).await, ["t3", "t1", "t2"]);
}

async fn there_are_not_more_than_the_most(tokens: &dyn Tokens) {
    let most = u16::try_from(TOKENS_MAX).expect("a thousand");
    for number in 0..most {
        let (record, hash) = token(number, Role::Viewer);
        tokens.create(&record, &hash).await.expect("written");
    }
    let (record, hash) = token(most, Role::Viewer);
    let full = tokens.create(&record, &hash).await.expect_err("one too many");
    assert!(matches!(full, TokenError::Full), "{full}");
    tokens.revoke(&token(0, Role::Viewer).0.id, Timestamp(1), "bob").await.expect("written");
    tokens.create(&record, &hash).await.expect("there is room again");
}

#[tokio::test]
async fn sqlite_keeps_tokens() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    tokens_are_kept_listed_and_revoked_for_good(&store).await;
    store.close().await;
}

#[tokio::test]
async fn sqlite_keeps_a_bounded_number_of_tokens() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    there_are_not_more_than_the_most(&store).await;
    store.close().await;
}

#[tokio::test]
async fn postgresql_keeps_tokens_by_a_daemon_that_stands_by() {
    let Some(server) = Server::start().await else { return };
    let (driving, standing_by) = (server.drive("a").await, server.open("b").await);
    tokens_are_kept_listed_and_revoked_for_good(&standing_by).await;
    assert_eq!(names(&driving).await, ["t3", "t1", "t2"]);
    assert!(driving.renew().await.expect("asked"), "the lease did not move");
}

#[tokio::test]
async fn postgresql_keeps_tokens_by_a_command_before_and_beside_a_daemon() {
    let Some(server) = Server::start().await else { return };
    let beside = PostgresStore::open_beside(&server.url()).await.expect("makes its tables");
    let (record, hash) = token(1, Role::Admin);
    beside.create(&record, &hash).await.expect("written");
    let daemon = server.drive("a").await;
    assert_eq!(daemon.find(&hash).await.expect("readable"), Some(record));
    let (record, hash) = token(2, Role::Viewer);
    beside.create(&record, &hash).await.expect("written");
    assert_eq!(names(&daemon).await, ["t2", "t1"]);
    assert!(super::Rollout::begin(&daemon, &plan(&[10, 100]), "r-1", 0).await.is_ok(), "it still drives");
    // And it drives nothing itself.
    assert!(super::Rollout::begin(&beside, &super::on_route(plan(&[10, 100]), "pay"), "r-2", 0).await.is_err());
}

#[tokio::test]
async fn sqlite_keeps_tokens_by_a_command_before_and_beside_a_daemon() {
    let directory = directory();
    let path = directory.path().join("new");
    let before = SqliteStore::open_beside(&path).await.expect("makes the database");
    let (record, hash) = token(1, Role::Admin);
    before.create(&record, &hash).await.expect("written");
    before.close().await;

    let daemon = SqliteStore::open(&path).await.expect("the lock was given back");
    assert_eq!(daemon.find(&hash).await.expect("readable"), Some(record));
    let mut rollout = super::Rollout::begin(&daemon, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    let beside = SqliteStore::open_beside(&path).await.expect("beside it");
    // Both write, in turns and at once: neither finds the other in its way.
    let writing = tokio::spawn({
        let beside = beside.clone();
        async move {
            for number in 2..40 {
                let (record, hash) = token(number, Role::Viewer);
                beside.create(&record, &hash).await.expect("written beside");
            }
        }
    });
    for second in 1..40 {
        let command = if second % 2 == 1 { super::pause() } else { super::Command::Resume };
        rollout.order(second, command).await.expect("it goes on driving");
    }
    writing.await.expect("no panic");
    assert_eq!(names(&daemon).await.len(), 39);
    assert!(super::Rollout::begin(&beside, &super::on_route(plan(&[10, 100]), "pay"), "r-2", 0).await.is_err());
    beside.close().await;
    daemon.close().await;
}

#[tokio::test]
async fn a_database_of_another_release_is_not_touched_beneath_its_daemon() {
    // As the first release left it, and a daemon of it that holds the lock.
    let directory = directory();
    let first = tempfile::tempdir().expect("a directory");
    let name = "0001_first_light.sql";
    std::fs::copy(format!("migrations/sqlite/{name}"), first.path().join(name)).expect("the first migration");
    let options = SqliteConnectOptions::new().filename(directory.path().join("tidegate.db")).create_if_missing(true);
    let mut connection = options.connect().await.expect("opens");
    Migrator::new(first.path()).await.expect("read").run(&mut connection).await.expect("migrated");
    connection.close().await.expect("closes");
    let lock = std::fs::File::create(directory.path().join("lock")).expect("the lock's file");
    lock.try_lock().expect("nobody has it");

    let locked = SqliteStore::open_beside(directory.path()).await.map(drop).expect_err("an older one drives");
    assert!(matches!(locked, OpenError::Locked { .. }), "{locked}");
    drop(lock);
    let opened =
        SqliteStore::open_beside(directory.path()).await.expect("nobody drives it, so it is brought up to date");
    assert_eq!(opened.list().await.expect("the table is there"), []);
    opened.close().await;
    super::sql(
        directory.path(),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9001, 'of tomorrow', TRUE, x'00', 0)",
    )
    .await;
    let newer = SqliteStore::open_beside(directory.path()).await.map(drop).expect_err("written by a newer one");
    assert!(matches!(newer, OpenError::Newer { found: 9001, .. }), "{newer}");
}
