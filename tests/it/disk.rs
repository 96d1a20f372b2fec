//! A disk that is full, broken, read-only or slow, and a database that somebody else holds: under a daemon that drives a
//! release, as the kernel would tell it. System calls of the running process are made to fail or wait by `strace`.
//!
//! Whatever happens, traffic goes on by the last weights, nothing is decided that cannot be written down, the API shows
//! how things stand, and the release comes to its right end when the disk is well again.

use crate::program::service::Behaviour;
use crate::program::world::{Daemon, Files, World};
use crate::program::{Lines, lacks, run, until};
use futures_util::future::join_all;
use serde_json::Value;
use sqlx::Connection;
use std::collections::BTreeMap;
use std::process::Stdio;
use tidegate::demo::load::Load;
use tokio::process::{Child, Command};

/// Inputs that cannot be written before the disk is well again: one a second, so for longer than an executor tries.
const REFUSED: usize = 5;
/// Inputs that are written to a slow disk before it is fast again.
const WRITTEN: u64 = 5;
/// SQLite writes its log with the first and syncs it with the second; sockets use neither.
const WRITES: &str = "pwrite64,fdatasync";

fn have_strace() -> bool {
    let run = std::process::Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success()) || lacks("strace")
}

/// Something that happens to system calls of a process, until it is ended.
struct Tampering {
    strace: Child,
}

impl Tampering {
    /// `how` is what `strace --inject` takes behind the names of the calls: `error=ENOSPC`, `delay_enter=200000`.
    async fn begin(pid: u32, how: &str) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={WRITES}")]);
        command.args(["-e", &format!("inject={WRITES}:{how}"), "-p", &pid.to_string()]);
        let mut strace = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (said, _) = Lines::read(strace.stderr.take().unwrap());
        until("strace is attached", async || said.text().contains(" attached").then_some(())).await;
        Self { strace }
    }

    /// Ends it; the process goes on by itself.
    async fn end(mut self) {
        let pid = self.strace.id().expect("it runs");
        let interrupted = Command::new("sh").args(["-c", &format!("kill -s INT {pid}")]).status().await.unwrap();
        assert!(interrupted.success());
        self.strace.wait().await.unwrap();
    }
}

/// Waits until the daemon has told so often that an input could not be written.
async fn refusals(daemon: &Daemon, times: usize) {
    let told = || daemon.process.stderr.text().matches("input not written, nothing done").count();
    until("inputs are refused", async || (told() >= times).then_some(())).await;
}

/// A release over a disk that becomes bad while it is under way.
async fn release_over_a_bad_disk(how: &str, behaviour: Behaviour) -> Value {
    let world = World::start().await;
    world.canary.behave(behaviour);
    let load = world.daemon.load();
    let id = world.daemon.start_rollout().await;
    world.daemon.until(&id, "the first weights", |view| view["weights"]["checkout-v2"] != 0).await;
    let tampering = Tampering::begin(world.daemon.process.pid(), how).await;
    let before = world.daemon.view(&id).await;
    if how.starts_with("error=") {
        // What was on its way may arrive; from the first refusal on nothing that is not on disk may happen.
        refusals(&world.daemon, 1).await;
        let weights = world.daemon.weights().await.unwrap();
        refusals(&world.daemon, REFUSED).await;
        assert_eq!(world.daemon.weights().await.unwrap(), weights, "moved without a record");
        let now = world.daemon.view(&id).await;
        assert!(now["seq"].as_u64() <= before["seq"].as_u64().map(|seq| seq + 1), "{before} {now}");
    } else {
        let seq = |view: &Value| view["seq"].as_u64().unwrap();
        let slow = |view: &Value| view["finished"] == true || seq(view) >= seq(&before) + WRITTEN;
        world.daemon.until(&id, "inputs are written slowly", slow).await;
    }
    tampering.end().await;
    let end = world.daemon.end(&id).await;
    let (_, lost) = load.totals();
    assert_eq!(lost, 0, "{}", load.last_loss());
    load.stop().await;
    world.verify().await.expect(0);
    end
}

#[tokio::test]
async fn a_good_release_goes_on_when_the_disk_is_well_again() {
    if !have_strace() {
        return;
    }
    let ways = ["error=ENOSPC", "error=EIO", "error=EROFS", "delay_enter=150000"];
    let ends = join_all(ways.map(|how| release_over_a_bad_disk(how, Behaviour::Good))).await;
    for (how, end) in ways.iter().zip(ends) {
        assert_eq!(end["phase"], "succeeded", "{how}: {end}");
    }
}

#[tokio::test]
async fn a_bad_release_is_rolled_back_as_soon_as_that_can_be_written_down() {
    if !have_strace() {
        return;
    }
    let ways = ["error=ENOSPC", "delay_enter=150000"];
    let ends = join_all(ways.map(|how| release_over_a_bad_disk(how, Behaviour::FailsEvery(3)))).await;
    for (how, end) in ways.iter().zip(ends) {
        assert_eq!(end["phase"], "rolled_back", "{how}: {end}");
    }
}

#[tokio::test]
async fn a_database_that_somebody_holds_delays_a_release_and_decides_nothing() {
    let world = World::start().await;
    let load = world.daemon.load();
    let id = world.daemon.start_rollout().await;
    world.daemon.until(&id, "the first weights", |view| view["weights"]["checkout-v2"] != 0).await;
    let url = format!("sqlite://{}", world.files.path("data/tidegate.db").display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    // Longer than the daemon waits for a lock.
    until("a write is given up", async || {
        let log = world.daemon.process.stderr.text();
        assert_eq!(world.daemon.view(&id).await["finished"], false);
        (log.contains("input not written") && log.contains("locked")).then_some(())
    })
    .await;
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let end = world.daemon.end(&id).await;
    assert_eq!((&end["phase"], load.totals().1), (&"succeeded".into(), 0), "{end}");
    load.stop().await;
    world.verify().await.expect(0);
}

/// A small disk of its own, unmounted with this value.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// `None` where nothing may be mounted.
    fn mount(at: std::path::PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tidegate-test"]).arg(&at).stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        (mounted || lacks("the right to mount a file system (root)")).then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may have a file open for a moment.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_disk_that_really_fills_up_loses_nothing() {
    let files = Files::new([1, 2], "");
    let Some(_disk) = SmallDisk::mount(files.path("data"), "size=3m") else { return };
    let services =
        [crate::program::service::Service::start("v1").await, crate::program::service::Service::start("v2").await];
    files.write("mesh.yaml", &crate::program::world::mesh(services.each_ref().map(|one| one.address.port()), ""));
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    let load: Load = daemon.load();
    let id = daemon.start_rollout().await;
    daemon.until(&id, "the first weights", |view| view["weights"]["checkout-v2"] != 0).await;
    let ballast = files.path("data/ballast");
    // To the last byte: the write ends with an error when there is no more room.
    let full = std::fs::File::create(&ballast).and_then(|mut file| std::io::copy(&mut std::io::repeat(7), &mut file));
    assert!(full.is_err(), "the disk was not filled");
    until("a write fails", async || daemon.process.stderr.text().contains("input not written").then_some(())).await;
    assert_eq!(daemon.view(&id).await["finished"], false);
    std::fs::remove_file(&ballast).unwrap();
    let end = daemon.end(&id).await;
    assert_eq!((&end["phase"], load.totals().1), (&"succeeded".into(), 0), "{end}");
    load.stop().await;
    crate::program::world::verify(&files.path("data")).await.expect(0);
    assert_eq!(daemon.process.terminate().await, Some(0));
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named_at_the_start() {
    let files = Files::new([1, 2], "");
    let Some(_disk) = SmallDisk::mount(files.path("data"), "size=1m,ro") else { return };
    let arguments = files.local(&BTreeMap::new());
    let ran = run(&crate::program::world::strs(&arguments)).await.expect(1);
    ran.says(&[&files.at("data"), "Read-only file system", "--data-dir"]);
}
