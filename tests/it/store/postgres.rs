//! What only PostgreSQL can get wrong: who drives, and connections that are lost.

use super::{Rollout, id, pause, pushed};
use crate::kit::postgres::Server;
use crate::kit::{on_route, plan};
use sqlx::postgres::PgConnection;
use std::time::Duration;
use tidegate::base::fault::FaultKind;
use tidegate::base::secret::Redacted;
use tidegate::clock::Monotonic;
use tidegate::ports::{Acquired, DriverLease, Holder, Journal, JournalError, LEASE, PolicyStore};
use tidegate::rollout::event::Event;
use tidegate::store::postgres::{OpenError, PostgresStore};

const RUN_OUT: &str = "UPDATE driver_lease SET expires_at = clock_timestamp() - interval '1 millisecond'";

/// Says something as another hand, and leaves its transaction as it is.
async fn say(hand: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(hand).await.expect(sql);
}

async fn ours(store: &PostgresStore) -> u64 {
    match store.try_acquire().await.expect("asked") {
        Acquired::Ours { epoch } => epoch,
        Acquired::Theirs(holder) => panic!("{holder:?} has it"),
    }
}

async fn theirs(store: &PostgresStore) -> Holder {
    match store.try_acquire().await.expect("asked") {
        Acquired::Theirs(holder) => holder,
        Acquired::Ours { epoch } => panic!("taken, epoch {epoch}"),
    }
}

async fn held_by(store: &PostgresStore) -> Option<String> {
    store.holder().await.expect("asked").map(|holder| holder.id)
}

/// Every kind of write is refused, and none leaves a trace.
async fn writes_nothing(store: &PostgresStore, rollout: &Rollout<'_>) {
    let before = (store.position().await.expect("readable"), store.all_pushed().await.expect("readable"));
    let commit = rollout.commit(1, Event::Command { command: pause(), actor: crate::kit::ann() });
    assert!(matches!(store.commit(&commit).await, Err(JournalError::Fenced(_))), "commit");
    assert!(matches!(store.attempt(&rollout.last_effect()).await, Err(JournalError::Fenced(_))), "attempt");
    let other = on_route(plan(&[10, 100]), "pay");
    assert!(matches!(Rollout::begin(store, &other, "r-2", 1).await.map(drop), Err(JournalError::Fenced(_))), "begin");
    let fault = store.push(&pushed("late")).await.expect_err("push");
    assert_eq!(fault.kind, FaultKind::Transient, "whoever drives takes it: {fault}");
    assert_eq!((store.position().await.expect("readable"), store.all_pushed().await.expect("readable")), before);
}

// === who drives ===

#[tokio::test]
async fn without_the_lease_nothing_is_written() {
    let Some(server) = Server::start().await else { return };
    let (a, b) = (server.drive("a").await, server.open("b").await);
    let rollout = Rollout::begin(&a, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    assert_eq!(b.get(&id("r-1")).await.expect("readable"), Some(rollout.stored.clone()));
    writes_nothing(&b, &rollout).await;
    assert!(!b.renew().await.expect("asked"));
    b.release().await.expect("nothing to do");
    assert_eq!(held_by(&b).await, Some("a".into()));
}

#[tokio::test]
async fn whoever_was_taken_over_writes_nothing_more() {
    let Some(server) = Server::start().await else { return };
    let (a, b) = (server.drive("a").await, server.open("b").await);
    let rollout = Rollout::begin(&a, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    server.sql(RUN_OUT).await;
    assert_eq!(ours(&b).await, 2);
    writes_nothing(&a, &rollout).await;
    assert!(!a.renew().await.expect("asked"), "it believes in its lease");
    writes_nothing(&a, &rollout).await;
    let mut rollout = Rollout { journal: &b, ..rollout };
    rollout.order(1, pause()).await.expect("the new holder goes on");
    b.attempt(&rollout.last_effect()).await.expect("noted");
    b.push(&pushed("k")).await.expect("written");
    assert_eq!(a.inputs(&id("r-1")).await.expect("readable").len(), 2);
}

#[tokio::test]
async fn a_takeover_waits_for_a_write_under_way() {
    let Some(server) = Server::start().await else { return };
    let (a, b) = (server.drive("a").await, server.open("b").await);
    let rollout = Rollout::begin(&a, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    let commit = rollout.commit(1, Event::Command { command: pause(), actor: crate::kit::ann() });
    server.sql(RUN_OUT).await;
    let mut hand = server.hand().await;
    say(&mut hand, "BEGIN; SELECT 1 FROM rollouts FOR UPDATE").await;
    let writing = tokio::spawn({
        let a = a.clone();
        async move { a.commit(&commit).await }
    });
    server.waiting("UPDATE rollouts SET seq").await;
    let taking = tokio::spawn({
        let b = b.clone();
        async move { ours(&b).await }
    });
    server.waiting("UPDATE driver_lease SET epoch").await;
    say(&mut hand, "COMMIT").await;
    assert_eq!(writing.await.expect("no panic").expect("it came first"), 2);
    assert_eq!(taking.await.expect("no panic"), 2);
    assert_eq!(b.inputs(&id("r-1")).await.expect("readable").len(), 2, "the new holder sees it");
    assert!(matches!(a.attempt(&rollout.last_effect()).await, Err(JournalError::Fenced(_))));
}

#[tokio::test]
async fn a_write_waits_for_a_takeover_under_way_and_is_refused() {
    let Some(server) = Server::start().await else { return };
    let a = server.drive("a").await;
    let rollout = Rollout::begin(&a, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    let commit = rollout.commit(1, Event::Command { command: pause(), actor: crate::kit::ann() });
    let mut hand = server.hand().await;
    // As a daemon does it, but for the rollouts: the epoch alone must be enough.
    say(&mut hand, "BEGIN; UPDATE driver_lease SET epoch = epoch + 1, holder = 'hand'").await;
    let (committing, saving) = (a.clone(), a.clone());
    let committing = tokio::spawn(async move { committing.commit(&commit).await });
    server.waiting("FOR NO KEY UPDATE").await;
    let saving = tokio::spawn(async move { saving.push(&pushed("late")).await });
    say(&mut hand, "COMMIT").await;
    assert!(matches!(committing.await.expect("no panic"), Err(JournalError::Fenced(_))));
    assert!(saving.await.expect("no panic").is_err());
    assert_eq!(a.inputs(&id("r-1")).await.expect("readable").len(), 1);
    assert!(a.all_pushed().await.expect("readable").is_empty());
}

#[tokio::test]
async fn a_lease_runs_out_by_the_databases_clock() {
    let Some(server) = Server::start().await else { return };
    let (a, b) = (server.open("a").await, server.open("b").await);
    assert_eq!(held_by(&b).await, None, "nobody yet");
    assert_eq!(ours(&a).await, 1);
    let holder = theirs(&b).await;
    assert_eq!((holder.id.as_str(), holder.address.as_str()), ("a", "http://a.test"));
    assert!(holder.left <= LEASE && holder.left > LEASE / 2, "{holder:?}");
    server.sql("UPDATE driver_lease SET expires_at = clock_timestamp() + interval '1 second'").await;
    assert!(a.renew().await.expect("asked"));
    let left = a.holder().await.expect("asked").expect("held").left;
    assert!(left > LEASE / 2, "not extended: {left:?}");
    server.sql(RUN_OUT).await;
    assert_eq!(held_by(&b).await, None, "it ran out");
    // Nobody has taken it meanwhile.
    assert!(a.renew().await.expect("asked"));
    assert_eq!(held_by(&b).await, Some("a".into()));
    server.sql(RUN_OUT).await;
    assert_eq!(ours(&b).await, 2);
    assert!(!a.renew().await.expect("asked"));
    assert_eq!(theirs(&a).await.id, "b");
}

#[tokio::test]
async fn a_lease_that_is_given_back_can_be_taken_at_once() {
    let Some(server) = Server::start().await else { return };
    let (a, b) = (server.drive("a").await, server.open("b").await);
    let rollout = Rollout::begin(&a, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    a.release().await.expect("given back");
    assert_eq!(held_by(&a).await, None);
    writes_nothing(&a, &rollout).await;
    assert_eq!(ours(&b).await, 2);
    // Too late: it is another's.
    a.release().await.expect("nothing to do");
    assert_eq!(held_by(&a).await, Some("b".into()));
    b.release().await.expect("given back");
    assert_eq!(ours(&a).await, 3, "epochs rise");
}

#[tokio::test]
async fn taking_ones_own_lease_again_loses_no_write() {
    let Some(server) = Server::start().await else { return };
    let a = server.drive("a").await;
    let mut rollout = Rollout::begin(&a, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    let saving = tokio::spawn({
        let a = a.clone();
        async move {
            for number in 0..50 {
                a.push(&pushed(&number.to_string())).await.expect("never refused");
            }
        }
    });
    for epoch in 2..12 {
        assert_eq!(ours(&a).await, epoch);
    }
    saving.await.expect("no refusal");
    rollout.order(1, pause()).await.expect("its rollouts came along");
}

#[tokio::test]
async fn positions_are_the_order_of_commits_without_a_gap() {
    let Some(server) = Server::start().await else { return };
    let (a, b) = (server.drive("a").await, server.open("b").await);
    // Undone together with whatever shares its transaction: also rows of the journal that were written before it.
    server
        .sql(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'bad'; END $$; \
             CREATE TRIGGER no BEFORE INSERT ON pushed_policies FOR EACH ROW WHEN (NEW.name LIKE 'bad%') EXECUTE FUNCTION no()",
        )
        .await;
    let mut expected = 0;
    for store in [&a, &b, &a] {
        ours(store).await;
        let begun = (0..20).map(|number| {
            let store = store.clone();
            let name = format!("{expected}-{number}");
            tokio::spawn(async move {
                let plan = on_route(plan(&[10, 100]), &name);
                if number % 4 == 3 {
                    store.push(&pushed(&format!("bad-{name}"))).await.expect_err("refused");
                }
                Rollout::begin(&store, &plan, &name, 0).await.map(drop).expect("written");
            })
        });
        for begun in begun.collect::<Vec<_>>() {
            begun.await.expect("no panic");
        }
        expected += 20;
        let positions: Vec<u64> = b.since(0, 1000).await.expect("readable").into_iter().map(|found| found.0).collect();
        assert_eq!(positions, (1..=expected).collect::<Vec<_>>());
        assert_eq!(a.position().await.expect("readable"), expected);
        store.release().await.expect("given back");
    }
    assert!(a.all_pushed().await.expect("readable").is_empty());
}

// === what goes wrong on the way ===

#[tokio::test]
async fn a_connection_that_is_ended_while_it_writes_is_a_fault_that_passes() {
    let Some(server) = Server::start().await else { return };
    let a = server.drive("a").await;
    let mut rollout = Rollout::begin(&a, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    let commit = rollout.commit(1, Event::Command { command: pause(), actor: crate::kit::ann() });
    let mut hand = server.hand().await;
    say(&mut hand, "BEGIN; SELECT 1 FROM rollouts FOR UPDATE").await;
    let writing = tokio::spawn({
        let a = a.clone();
        async move { a.commit(&commit).await }
    });
    let process = server.waiting("UPDATE rollouts SET seq").await;
    server.sql(&format!("SELECT pg_terminate_backend({process})")).await;
    let Err(JournalError::Fault(fault)) = writing.await.expect("no panic") else { panic!("written") };
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    say(&mut hand, "COMMIT").await;
    rollout.order(1, pause()).await.expect("the next one works");
    assert_eq!(a.position().await.expect("readable"), 2, "no gap");
    // All of them, while nothing is going on: nobody notices.
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate'").await;
    rollout.order(2, tidegate::rollout::event::Command::Resume).await.expect("written");
    assert!(a.renew().await.expect("asked"));
    assert_eq!(a.live().await.expect("readable"), vec![rollout.stored.clone()]);
}

#[tokio::test]
async fn a_server_that_was_restarted_is_written_to_as_before() {
    let Some(mut server) = Server::start().await else { return };
    let a = server.drive("a").await;
    let mut rollout = Rollout::begin(&a, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    server.stop();
    let Err(JournalError::Fault(fault)) = rollout.order(1, pause()).await else { panic!("written nowhere") };
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    assert_eq!(a.renew().await.expect_err("nobody there").kind, FaultKind::Transient);
    assert_eq!(a.live().await.expect_err("nobody there").kind, FaultKind::Transient);
    server.run(&[]).await;
    rollout.order(1, pause()).await.expect("written");
    server.stop();
    server.run(&[]).await;
    rollout.order(2, tidegate::rollout::event::Command::Resume).await.expect("written at once");
    assert_eq!(a.live().await.expect("readable"), vec![rollout.stored.clone()]);
    assert!(a.renew().await.expect("asked"), "the lease outlives the server");
}

#[tokio::test]
async fn a_commit_that_fails_may_have_been_made() {
    let Some(server) = Server::start().await else { return };
    let a = server.drive("a").await;
    server
        .sql(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'bad'; END $$; \
             CREATE CONSTRAINT TRIGGER no AFTER INSERT ON pushed_policies DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW WHEN (NEW.name = 'bad') EXECUTE FUNCTION no()",
        )
        .await;
    let fault = a.push(&pushed("bad")).await.expect_err("fails at its commit");
    assert_eq!(fault.kind, FaultKind::Unknown, "{fault}");
    a.push(&pushed("good")).await.expect("the next one works");
    assert_eq!(a.all_pushed().await.expect("readable").len(), 1);
}

/// Nothing here is quick: it is the time-outs themselves that are tested, side by side.
#[tokio::test]
async fn a_database_that_hangs_is_a_fault() {
    let Some(server) = Server::start().await else { return };
    let (a, b) = (server.drive("a").await, server.open("b").await);
    let mut rollout = Rollout::begin(&a, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    let mut hand = server.hand().await;
    say(&mut hand, "BEGIN; LOCK TABLE driver_lease").await;
    let began = Monotonic::now();
    let (written, renewed, taken, read) =
        tokio::join!(rollout.order(1, pause()), a.renew(), b.try_acquire(), b.holder());
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    let Err(JournalError::Fault(fault)) = written else { panic!("{written:?}") };
    for fault in [fault, renewed.expect_err("locked"), taken.expect_err("locked"), read.expect_err("locked")] {
        assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    }
    say(&mut hand, "COMMIT").await;
    rollout.order(1, pause()).await.expect("the next one works");
    assert!(a.renew().await.expect("asked"));
    assert_eq!(held_by(&b).await, Some("a".into()));
}

/// A daemon that vanished within a transaction must not hold up the next one. What the server is told about that is
/// looked at where it is told, since waiting for it takes as long as it is.
#[tokio::test]
async fn the_server_ends_what_a_vanished_daemon_began() {
    let Some(server) = Server::start().await else { return };
    let a = server.drive("a").await;
    server
        .sql(
            "CREATE FUNCTION told() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.text = \
             current_setting('statement_timeout') || ' ' || current_setting('idle_in_transaction_session_timeout') \
             || ' ' || current_setting('synchronous_commit') || ' ' || current_setting('transaction_isolation'); \
             RETURN NEW; END $$; CREATE TRIGGER told BEFORE INSERT ON pushed_policies FOR EACH ROW EXECUTE FUNCTION told()",
        )
        .await;
    a.push(&pushed("k")).await.expect("written");
    assert_eq!(a.all_pushed().await.expect("readable")[0].text, "5s 5s on read committed");
    let mut hand = server.hand().await;
    say(&mut hand, "ALTER DATABASE postgres SET synchronous_commit = off").await;
    say(&mut hand, "ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'").await;
    let b = server.open("b").await;
    a.release().await.expect("given back");
    ours(&b).await;
    b.push(&pushed("k")).await.expect("written");
    assert_eq!(b.all_pushed().await.expect("readable")[0].text, "5s 5s on read committed");
}

// === opening ===

#[tokio::test]
async fn daemons_may_start_at_once() {
    let Some(server) = Server::start().await else { return };
    let (a, b, c) = tokio::join!(server.open("a"), server.open("b"), server.open("c"));
    let mut won = 0;
    for store in [&a, &b, &c] {
        won += usize::from(matches!(store.try_acquire().await.expect("asked"), Acquired::Ours { .. }));
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_reader_sees_and_changes_nothing() {
    let Some(server) = Server::start().await else { return };
    assert!(PostgresStore::open_read_only(&server.url()).await.expect("opens").live().await.is_err(), "made tables");
    let a = server.drive("a").await;
    let rollout = Rollout::begin(&a, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    let reader = PostgresStore::open_read_only(&server.url()).await.expect("opens beside");
    assert_eq!(reader.get(&id("r-1")).await.expect("readable"), Some(rollout.stored.clone()));
    assert_eq!(held_by(&reader).await, Some("a".into()));
    assert!(reader.push(&pushed("k")).await.is_err() && reader.try_acquire().await.is_err());
    reader.close().await;
    a.close().await;
    assert!(a.push(&pushed("k")).await.is_err(), "closed");
}

#[tokio::test]
async fn what_keeps_it_from_opening_is_told_with_what_to_do() {
    let Some(mut server) = Server::start().await else { return };
    server.sql("CREATE ROLE guarded LOGIN PASSWORD 'right'").await;
    server.open("a").await.close().await;
    let hba = "local all guarded scram-sha-256\nlocal all all trust\n";
    std::fs::write(server.data().join("pg_hba.conf"), hba).expect("writable");
    server.stop();
    server.run(&[]).await;
    let socket = server.path().display().to_string();
    let open = async |who: &str, database: &str, socket: &str| {
        let url = Redacted::new(format!("postgres://{who}@localhost/{database}?host={socket}"));
        let error = PostgresStore::open(&url, "b", "").await.map(drop).expect_err(who);
        let text = error.to_string();
        assert!(!format!("{text} {error:?}").contains("hunter2"), "{error:?}");
        (error, text)
    };
    let (error, text) = open("guarded:hunter2", "postgres", &socket).await;
    assert!(matches!(error, OpenError::Login { .. }) && text.contains("password authentication failed"), "{text}");
    let (error, text) = open("postgres:hunter2", "none", &socket).await;
    assert!(matches!(error, OpenError::NoDatabase { .. }) && text.contains("CREATE DATABASE"), "{text}");
    let (error, text) = open("guarded:right", "postgres", &socket).await;
    assert!(matches!(error, OpenError::Right { .. }) && text.contains("GRANT CREATE"), "{text}");
    let (error, text) = open("postgres:hunter2", "postgres", "/nowhere").await;
    assert!(matches!(error, OpenError::Unreachable { .. }) && text.contains("in /nowhere"), "{text}");
    server
        .sql(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9000, 'from the future', true, '', 1)",
        )
        .await;
    let (error, text) = open("postgres:hunter2", "postgres", &socket).await;
    assert!(matches!(error, OpenError::Newer { found: 9000, known, .. } if known < 9000), "{error:?}");
    assert!(text.contains("newer tidegate (schema 9000"), "{text}");
}

#[tokio::test]
async fn tls_is_spoken_and_the_server_is_checked() {
    let Some(mut server) = Server::prepare() else { return };
    if !server.certify() {
        return;
    }
    let port = server.listen();
    server.run(&["-cssl=on", "-clisten_addresses=127.0.0.1"]).await;
    let root = server.data().join("server.crt").display().to_string();
    let open = async |host: &str, parameters: &str| {
        let url = format!("postgres://postgres@{host}:{port}/postgres?{parameters}");
        PostgresStore::open(&Redacted::new(url), "a", "").await
    };
    for (host, parameters, encrypted) in [
        ("localhost", format!("sslmode=verify-full&sslrootcert={root}"), true),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={root}"), true),
        ("127.0.0.1", "sslmode=require".to_owned(), true),
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
    ] {
        let store = open(host, &parameters).await.expect(&parameters);
        let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'tidegate'";
        let seen: bool = sqlx::query_scalar(sql).fetch_one(&mut server.hand().await).await.expect("connected");
        assert_eq!(seen, encrypted, "{parameters}");
        store.close().await;
    }
    for (host, parameters) in [
        ("localhost", "sslmode=verify-full".to_owned()),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={root}")),
    ] {
        let error = open(host, &parameters).await.map(drop).expect_err(&parameters);
        assert!(matches!(error, OpenError::Tls { .. }), "{parameters}: {error:?}");
        assert!(error.to_string().contains("sslrootcert"), "{error}");
    }
}
