//! What every store must do, written over the traits so that another one can join; then what only SQLite can get wrong.
//! What only PostgreSQL can is in `store/postgres.rs`.

mod freezes;
mod postgres;
mod stable;
mod tokens;

use crate::kit::memory::MemoryJournal;
use crate::kit::postgres::Server;
use crate::kit::{BEGINNING, SECOND, ann, beginning, directory, fresh_route, on_route, plan};
use sqlx::Connection;
use stable::the_last_rollout_that_ended_well_is_found_behind_those_that_did_not;
use std::path::Path;
use std::sync::Arc;
use tidegate::base::fault::{Fault, FaultKind};
use tidegate::base::ids::RolloutId;
use tidegate::base::time::Timestamp;
use tidegate::policy::plan::Plan;
use tidegate::ports::{Commit, Journal, JournalError, MeshRows, MeshStore, PolicyStore, PushedPolicy, Saved, Stored};
use tidegate::rollout::effect::{Effect, EffectId};
use tidegate::rollout::event::{Command, Event, Input, Observation, Outcome};
use tidegate::rollout::state::{ENGINE_VERSION, Next};
use tidegate::rollout::{next_deadline, step};
use tidegate::store::sqlite::{OpenError, SqliteStore};

/// A rollout whose commits are made by the engine.
struct Rollout<'a> {
    journal: &'a dyn Journal,
    stored: Stored,
    effects: Vec<(EffectId, Effect)>,
}

impl<'a> Rollout<'a> {
    async fn begin(journal: &'a dyn Journal, plan: &Plan, id: &str, second: i64) -> Result<Self, JournalError> {
        let last = journal.last_generation(&plan.route).await?;
        let commit = beginning(plan, id, Timestamp(BEGINNING.0 + second * SECOND), fresh_route(7), last);
        journal.begin(plan, &commit).await?;
        Ok(Self { journal, stored: Stored { plan: plan.clone(), state: commit.state }, effects: commit.effects })
    }

    fn commit(&self, second: i64, event: Event) -> Commit {
        let settles = match &event {
            Event::Settled { effect, .. } => Some(effect.clone()),
            _ => None,
        };
        let at = Timestamp(BEGINNING.0 + second * SECOND);
        let input = Input { seq: self.stored.state.seq.next(), at, event };
        let Next::Step { state, effects } = step(&self.stored.plan, &self.stored.state, &input) else {
            panic!("changes nothing: {input:?}")
        };
        let next_deadline = next_deadline(&self.stored.plan, &state);
        Commit { state: *state, input, effects, settles, next_deadline }
    }

    async fn give(&mut self, second: i64, event: Event) -> Result<(), JournalError> {
        let commit = self.commit(second, event);
        self.journal.commit(&commit).await?;
        self.stored.state = commit.state;
        self.effects.extend(commit.effects);
        Ok(())
    }

    async fn order(&mut self, second: i64, command: Command) -> Result<(), JournalError> {
        self.give(second, Event::Command { command, actor: ann() }).await
    }

    fn last_effect(&self) -> EffectId {
        self.effects.last().expect("a write").0.clone()
    }

    async fn settle(&mut self, second: i64) -> Result<(), JournalError> {
        let effect = self.last_effect();
        self.give(second, Event::Settled { effect, outcome: Outcome::Applied { version: 8 } }).await
    }

    /// Aborted and seen at 0.
    async fn finish(&mut self, second: i64) {
        self.order(second, abort()).await.expect("written");
        self.settle(second).await.expect("written");
        let route = Some(Ok(fresh_route(8)));
        self.give(second + 8, Event::Observed(Observation { route, live: None, ..Observation::default() }))
            .await
            .expect("written");
        assert!(self.stored.state.is_finished());
    }

    async fn unsettled(&self) -> Vec<EffectId> {
        let all = self.journal.unsettled(&self.stored.state.id).await.expect("readable");
        all.into_iter().map(|(id, _)| id).collect()
    }
}

fn abort() -> Command {
    Command::Abort { reason: "because".into() }
}

fn pause() -> Command {
    Command::Pause { reason: "because".into() }
}

/// Something to write that belongs to no rollout.
fn pushed(name: &str) -> PushedPolicy {
    PushedPolicy { name: name.to_owned(), version: 0, text: "{}".to_owned(), actor: ann(), at: BEGINNING }
}

fn id(name: &str) -> RolloutId {
    RolloutId(name.into())
}

// === every journal ===

async fn what_is_written_is_read_back(journal: &dyn Journal) {
    let plan = plan(&[10, 100]);
    assert_eq!(journal.get(&id("r-1")).await.expect("readable"), None);
    assert!(journal.inputs(&id("r-1")).await.expect("readable").is_empty());
    let mut rollout = Rollout::begin(journal, &plan, "r-1", 0).await.expect("written");
    assert_eq!(journal.unsettled(&id("r-1")).await.expect("readable"), rollout.effects);
    rollout.settle(1).await.expect("written");
    rollout.order(2, pause()).await.expect("written");
    assert_eq!(journal.get(&id("r-1")).await.expect("readable"), Some(rollout.stored.clone()));
    assert_eq!(journal.live().await.expect("readable"), vec![rollout.stored.clone()]);
    let inputs = journal.inputs(&id("r-1")).await.expect("readable");
    assert_eq!(inputs.iter().map(|row| row.input.seq.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(inputs.iter().all(|row| row.engine_version == ENGINE_VERSION));
    assert!(matches!(&inputs[2].input.event, Event::Command { command: Command::Pause { .. }, .. }));
}

async fn one_live_rollout_for_each_route(journal: &dyn Journal) {
    let plan = plan(&[10, 100]);
    let mut first = Rollout::begin(journal, &plan, "r-1", 0).await.expect("written");
    let Err(JournalError::AlreadyLive { id: live, route, since, by }) =
        Rollout::begin(journal, &plan, "r-2", 1).await.map(drop)
    else {
        panic!("two at once")
    };
    assert_eq!((live, route, by.as_str()), (id("r-1"), plan.route.clone(), "ann (test)"));
    assert_eq!(since, BEGINNING.rfc3339());
    assert_eq!(journal.get(&id("r-2")).await.expect("readable"), None);
    Rollout::begin(journal, &on_route(plan.clone(), "pay"), "r-3", 1).await.expect("another route");
    first.finish(2).await;
    Rollout::begin(journal, &plan, "r-2", 20).await.expect("the first has ended");
}

async fn an_input_out_of_turn_writes_nothing(journal: &dyn Journal) {
    let mut rollout = Rollout::begin(journal, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    let late = rollout.commit(1, Event::Command { command: abort(), actor: ann() });
    rollout.order(1, pause()).await.expect("written");
    let again = late.clone();
    for commit in [late, again] {
        assert!(matches!(journal.commit(&commit).await, Err(JournalError::Ahead(rollout)) if rollout == id("r-1")));
    }
    assert_eq!(journal.get(&id("r-1")).await.expect("readable"), Some(rollout.stored.clone()));
    assert_eq!(journal.inputs(&id("r-1")).await.expect("readable").len(), 2);
    assert_eq!(rollout.unsettled().await, [rollout.last_effect()]);
    let nobody = Rollout {
        stored: Stored {
            state: {
                let mut s = rollout.stored.state.clone();
                s.id = id("r-9");
                s
            },
            ..rollout.stored.clone()
        },
        journal,
        effects: vec![],
    };
    let commit = nobody.commit(2, Event::Command { command: abort(), actor: ann() });
    assert!(matches!(journal.commit(&commit).await, Err(JournalError::Fenced(_))), "a rollout that nobody began");
}

async fn effects_are_settled_once_or_superseded(journal: &dyn Journal) {
    let mut rollout = Rollout::begin(journal, &plan(&[10, 50, 100]), "r-1", 0).await.expect("written");
    let first = rollout.last_effect();
    assert_eq!(rollout.unsettled().await, std::slice::from_ref(&first));
    journal.attempt(&first).await.expect("noted");
    journal.attempt(&first).await.expect("noted again");
    // Abandoned for a newer write before it was answered.
    rollout.order(1, abort()).await.expect("written");
    let second = rollout.last_effect();
    assert_ne!(first, second);
    assert_eq!(rollout.unsettled().await, std::slice::from_ref(&second));
    rollout.settle(2).await.expect("written");
    assert!(rollout.unsettled().await.is_empty());
    let unknown = EffectId { n: 7, ..second };
    assert!(matches!(journal.attempt(&unknown).await, Err(JournalError::Fenced(_))), "never intended");
}

async fn generations_are_remembered_for_each_route(journal: &dyn Journal) {
    let plan = plan(&[10, 100]);
    assert_eq!(journal.last_generation(&plan.route).await.expect("readable"), 0);
    let mut first = Rollout::begin(journal, &plan, "r-1", 0).await.expect("written");
    assert_eq!(journal.last_generation(&plan.route).await.expect("readable"), 1);
    first.finish(1).await;
    assert_eq!(journal.last_generation(&plan.route).await.expect("readable"), 2);
    let second = Rollout::begin(journal, &plan, "r-2", 20).await.expect("written");
    assert_eq!(second.stored.state.generation, 3);
    let other = on_route(plan.clone(), "pay");
    assert_eq!(journal.last_generation(&other.route).await.expect("readable"), 0);
}

async fn lists_show_the_live_ones_first_and_then_the_newest(journal: &dyn Journal) {
    for (name, second, ends) in [("a", 0, true), ("b", 100, false), ("c", 200, true), ("d", 300, false)] {
        let plan = on_route(plan(&[10, 100]), name);
        let mut rollout = Rollout::begin(journal, &plan, name, second).await.expect("written");
        if ends {
            rollout.finish(second + 1).await;
        }
    }
    let names = |all: Vec<Stored>| all.into_iter().map(|stored| stored.state.id.0).collect::<Vec<_>>();
    assert_eq!(names(journal.list(10).await.expect("readable")), ["d", "b", "c", "a"]);
    assert_eq!(names(journal.list(3).await.expect("readable")), ["d", "b", "c"]);
    let mut live = names(journal.live().await.expect("readable"));
    live.sort();
    assert_eq!(live, ["b", "d"]);
}

/// Runs every rule on a journal of its own.
macro_rules! every_journal {
    ($module:ident, $with:path: $($rule:ident),+ $(,)?) => {
        mod $module {
            $(#[tokio::test]
            async fn $rule() {
                $with(async |journal| super::$rule(journal).await).await;
            })+
        }
    };
}

async fn with_memory(rule: impl AsyncFnOnce(&dyn Journal)) {
    rule(&MemoryJournal::default()).await;
}

async fn with_sqlite(rule: impl AsyncFnOnce(&dyn Journal)) {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    rule(&store).await;
    store.close().await;
}

async fn with_postgres(rule: impl AsyncFnOnce(&dyn Journal)) {
    let Some(server) = Server::start().await else { return };
    let store = server.drive("a").await;
    rule(&store).await;
    store.close().await;
}

every_journal!(memory, super::with_memory:
    what_is_written_is_read_back,
    one_live_rollout_for_each_route,
    an_input_out_of_turn_writes_nothing,
    effects_are_settled_once_or_superseded,
    generations_are_remembered_for_each_route,
    the_last_rollout_that_ended_well_is_found_behind_those_that_did_not,
    lists_show_the_live_ones_first_and_then_the_newest,
);
every_journal!(sqlite, super::with_sqlite:
    what_is_written_is_read_back,
    one_live_rollout_for_each_route,
    an_input_out_of_turn_writes_nothing,
    effects_are_settled_once_or_superseded,
    generations_are_remembered_for_each_route,
    the_last_rollout_that_ended_well_is_found_behind_those_that_did_not,
    lists_show_the_live_ones_first_and_then_the_newest,
);
every_journal!(postgresql, super::with_postgres:
    what_is_written_is_read_back,
    one_live_rollout_for_each_route,
    an_input_out_of_turn_writes_nothing,
    effects_are_settled_once_or_superseded,
    generations_are_remembered_for_each_route,
    the_last_rollout_that_ended_well_is_found_behind_those_that_did_not,
    lists_show_the_live_ones_first_and_then_the_newest,
);

mod triggers;

// === every mesh store ===

async fn resources_are_kept(store: &dyn MeshStore) {
    assert_eq!(store.load().await.expect("readable"), MeshRows { is_all: true, ..MeshRows::default() });
    let some = |key: &str, body: &str| (key.to_owned(), Some(body.to_owned()));
    let none = |key: &str| (key.to_owned(), None);
    let since = async |seen: u64| {
        let mut found = store.since(seen).await.expect("readable");
        found.rows.sort();
        assert!(!found.is_all);
        (found.sequence, found.rows)
    };
    let first = store.save(0, vec![some("b", "1"), some("a", "2")]).await.expect("written");
    assert_eq!(first, Saved::Done(1));
    // Whoever does not know of it changes nothing.
    for seen in [0, 2, 7] {
        assert_eq!(store.save(seen, vec![some("a", "late"), none("b")]).await.expect("asked"), Saved::Behind);
    }
    let second = vec![some("a", "3"), none("b"), none("none"), some("c", "{}")];
    assert_eq!(store.save(1, second).await.expect("written"), Saved::Done(2));
    let kept = store.load().await.expect("readable");
    assert_eq!(kept, MeshRows { sequence: 2, rows: vec![some("a", "3"), some("c", "{}")], is_all: true });
    assert_eq!(since(2).await, (2, vec![]));
    assert_eq!(since(1).await, (2, vec![some("a", "3"), none("b"), some("c", "{}"), none("none")]));
    assert_eq!(since(0).await, since(1).await);
    // One that comes back is no longer deleted.
    assert_eq!(store.save(2, vec![some("b", "4")]).await.expect("written"), Saved::Done(3));
    assert_eq!(since(2).await, (3, vec![some("b", "4")]));
    assert_eq!(since(1).await.1, [some("a", "3"), some("b", "4"), some("c", "{}"), none("none")]);
    assert_eq!(store.save(3, vec![]).await.expect("nothing to do"), Saved::Done(4));
    // A number from elsewhere, such as before a backup was put back.
    let all = store.since(99).await.expect("readable");
    assert!(all.is_all && all.sequence == 4 && all.rows.len() == 3, "{all:?}");
}

/// Of many that write at once each knows what it writes upon.
async fn changes_follow_each_other(stores: Vec<Arc<dyn MeshStore>>) {
    let writes = stores.into_iter().enumerate().map(|(number, store)| {
        tokio::spawn(async move {
            for _ in 0..10 {
                loop {
                    let found = store.load().await.expect("readable");
                    let counted = found.rows.first().and_then(|(_, body)| body.as_deref()).unwrap_or("0");
                    let next = counted.parse::<u64>().expect("a number") + 1;
                    let own = (format!("z-{number}-{next}"), Some("1".to_owned()));
                    let change = vec![("counter".to_owned(), Some(next.to_string())), own];
                    if let Saved::Done(_) = store.save(found.sequence, change).await.expect("asked") {
                        break;
                    }
                }
            }
        })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.expect("no panic");
    }
}

#[tokio::test]
async fn sqlite_keeps_resources() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    resources_are_kept(&store).await;
    assert!(!store.is_shared());
    store.close().await;
}

#[tokio::test]
async fn postgresql_keeps_resources() {
    let Some(server) = Server::start().await else { return };
    // Nobody has the lease, and nobody needs it.
    let store = server.open("a").await;
    resources_are_kept(&store).await;
    assert!(store.is_shared());
    store.close().await;
}

#[tokio::test]
async fn changes_of_the_mesh_follow_each_other_in_both() {
    let directory = directory();
    let sqlite = SqliteStore::open(directory.path()).await.expect("opens");
    changes_follow_each_other((0..3).map(|_| Arc::new(sqlite.clone()) as _).collect()).await;
    assert_eq!(sqlite.load().await.expect("readable").rows.len(), 31);
    let Some(server) = Server::start().await else { return };
    let (a, b) = (server.drive("a").await, server.open("b").await);
    changes_follow_each_other(vec![Arc::new(a.clone()), Arc::new(b.clone()), Arc::new(b.clone())]).await;
    for store in [&a, &b] {
        let all = store.load().await.expect("readable");
        assert_eq!((all.sequence, all.rows.len()), (30, 31));
        assert_eq!(all.rows[0], ("counter".to_owned(), Some("30".to_owned())));
    }
}

// === SQLite alone ===

/// Another hand in the database.
async fn sql(directory: &Path, statement: &'static str) {
    let url = format!("sqlite://{}", directory.join("tidegate.db").display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("opens");
    let done = sqlx::raw_sql(statement).execute(&mut connection).await.expect(statement);
    assert!(done.rows_affected() > 0 || statement.starts_with("CREATE"), "{statement} changed nothing");
    connection.close().await.expect("closes");
}

#[tokio::test]
async fn a_process_that_was_taken_over_writes_nothing_more() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let mut rollout = Rollout::begin(&store, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    // As another process does when it opens the database.
    sql(
        directory.path(),
        "UPDATE driver_lease SET epoch = epoch + 1; UPDATE rollouts SET lease_epoch = lease_epoch + 1",
    )
    .await;
    assert!(matches!(rollout.order(1, pause()).await, Err(JournalError::Fenced(_))));
    assert!(matches!(store.attempt(&rollout.last_effect()).await, Err(JournalError::Fenced(_))));
    let other = on_route(plan(&[10, 100]), "pay");
    assert!(matches!(Rollout::begin(&store, &other, "r-2", 1).await.map(drop), Err(JournalError::Fenced(_))));
    assert_eq!(store.inputs(&id("r-1")).await.expect("readable").len(), 1);
    store.close().await;
}

#[tokio::test]
async fn writes_that_wait_together_are_written_together_and_fail_alone() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    // Refused by the database itself, so that the transaction which it shares with others breaks.
    sql(
        directory.path(),
        "CREATE TRIGGER no_bad_rows BEFORE INSERT ON pushed_policies WHEN new.name LIKE 'bad%' BEGIN SELECT raise(ROLLBACK, 'bad'); END",
    )
    .await;
    // Held by another hand, so that all of them wait.
    let url = format!("sqlite://{}", directory.path().join("tidegate.db").display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.expect("opens");
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.expect("held");
    let writes = (0..100).map(|number| {
        let store = store.clone();
        let key = if number == 50 { "bad".to_owned() } else { format!("good-{number:02}") };
        tokio::spawn(async move { store.push(&pushed(&key)).await })
    });
    let writes: Vec<_> = writes.collect();
    tokio::task::yield_now().await;
    sqlx::raw_sql("COMMIT").execute(&mut other).await.expect("let go");
    let mut failed = Vec::new();
    for (number, write) in writes.into_iter().enumerate() {
        if write.await.expect("no panic").is_err() {
            failed.push(number);
        }
    }
    assert_eq!(failed, [50]);
    assert_eq!(store.all_pushed().await.expect("readable").len(), 99);
    other.close().await.expect("closes");
    store.close().await;
}

#[tokio::test]
async fn the_next_process_takes_over() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let rollout = Rollout::begin(&store, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    let (stored, effects) = (rollout.stored, rollout.effects);
    store.close().await;
    drop(store);
    let store = SqliteStore::open(directory.path()).await.expect("opens again");
    assert_eq!(store.live().await.expect("readable"), vec![stored.clone()]);
    assert_eq!(store.unsettled(&id("r-1")).await.expect("readable"), effects);
    let mut rollout = Rollout { journal: &store, stored, effects };
    rollout.finish(1).await;
    assert!(store.live().await.expect("readable").is_empty());
    store.close().await;
}

#[tokio::test]
async fn a_directory_in_use_names_the_process() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let error = SqliteStore::open(directory.path()).await.map(drop).expect_err("in use");
    assert!(matches!(error, OpenError::Locked { .. }));
    let text = error.to_string();
    assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
    assert!(text.contains(&directory.path().display().to_string()) && text.contains("--data-dir"), "{text}");
    store.close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_name() {
    let directory = directory();
    SqliteStore::open(directory.path()).await.expect("opens").close().await;
    sql(
        directory.path(),
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
         VALUES (9000, 'from the future', '2030-01-01', 1, x'00', 1)",
    )
    .await;
    let error = SqliteStore::open(directory.path()).await.map(drop).expect_err("newer");
    assert!(matches!(error, OpenError::Newer { found: 9000, known, .. } if known < 9000), "{error:?}");
    assert!(error.to_string().contains("newer tidegate (schema 9000"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_name() {
    let directory = directory();
    std::fs::write(directory.path().join("tidegate.db"), "not a database, and long enough to be looked at".repeat(50))
        .expect("writable");
    let error = SqliteStore::open(directory.path()).await.map(drop).expect_err("no database");
    assert!(error.to_string().contains("tidegate.db"), "{error}");
}

/// Damages a row, and expects a lasting fault that names the rollout and says what to think of.
async fn damaged(statement: &'static str, read: impl AsyncFn(&SqliteStore) -> Result<(), Fault>) {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    Rollout::begin(&store, &plan(&[10, 100]), "r-1", 0).await.map(drop).expect("written");
    read(&store).await.expect("readable before");
    sql(directory.path(), statement).await;
    let fault = read(&store).await.expect_err(statement);
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert!(fault.message.contains("r-1"), "{fault}");
    store.close().await;
}

#[tokio::test]
async fn damaged_rows_are_told_by_name() {
    let get = async |store: &SqliteStore| store.get(&id("r-1")).await.map(drop);
    let live = async |store: &SqliteStore| store.live().await.map(drop);
    let inputs = async |store: &SqliteStore| store.inputs(&id("r-1")).await.map(drop);
    let unsettled = async |store: &SqliteStore| store.unsettled(&id("r-1")).await.map(drop);
    damaged("UPDATE rollouts SET state = '{'", get).await;
    damaged("UPDATE rollouts SET plan = replace(plan, '\"weight\":10', '\"weight\":101')", live).await;
    damaged("UPDATE rollouts SET format = 99", get).await;
    damaged("UPDATE journal SET input = 'nothing'", inputs).await;
    damaged("UPDATE effects SET body = '{\"do\":\"dance\"}'", unsettled).await;
}

#[tokio::test]
async fn resources_are_written_all_or_none() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    sql(
        directory.path(),
        "CREATE TRIGGER no BEFORE INSERT ON mesh_resources WHEN NEW.key = 'b' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    let some = |key: &str| (key.to_owned(), Some("1".to_owned()));
    let fault = store.save(0, vec![some("a"), some("b")]).await.expect_err("refused");
    assert_eq!(fault.kind, FaultKind::Permanent);
    assert_eq!(store.load().await.expect("readable").rows, [], "half of it was written");
    assert_eq!(store.save(0, vec![some("a")]).await.expect("the next one works"), Saved::Done(1));
    store.close().await;
}

#[tokio::test]
async fn a_failed_commit_leaves_nothing_behind() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let mut rollout = Rollout::begin(&store, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    sql(directory.path(), "CREATE TRIGGER no BEFORE INSERT ON effects BEGIN SELECT RAISE(ABORT, 'no'); END").await;
    assert!(matches!(rollout.order(1, abort()).await, Err(JournalError::Fault(_))));
    assert_eq!(store.get(&id("r-1")).await.expect("readable"), Some(rollout.stored.clone()));
    assert_eq!(store.inputs(&id("r-1")).await.expect("readable").len(), 1);
    rollout.order(1, pause()).await.expect("the next one works");
    store.close().await;
}

#[tokio::test]
async fn a_reader_beside_a_daemon_sees_and_changes_nothing() {
    let directory = directory();
    assert!(SqliteStore::open_read_only(directory.path()).await.is_err(), "made a database");
    let store = SqliteStore::open(directory.path()).await.expect("opens");
    let mut rollout = Rollout::begin(&store, &plan(&[10, 100]), "r-1", 0).await.expect("written");
    let reader = SqliteStore::open_read_only(directory.path()).await.expect("opens beside");
    assert_eq!(reader.get(&id("r-1")).await.expect("readable"), Some(rollout.stored.clone()));
    let commit = rollout.commit(1, Event::Command { command: pause(), actor: ann() });
    assert!(reader.commit(&commit).await.is_err());
    rollout.order(1, pause()).await.expect("the daemon goes on");
    reader.close().await;
    store.close().await;
}
