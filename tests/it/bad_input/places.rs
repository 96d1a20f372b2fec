//! Places that cannot be had: ports, addresses, the data directory.

use crate::kit::ports::steady_port;
use crate::program::service::Service;
use crate::program::world::{Daemon, Files, QUICK, strs};
use crate::program::{FREE_PORTS, NAMES, command, finish, run};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use tokio::net::TcpListener;

#[tokio::test]
async fn a_taken_port_is_named_with_the_flag_that_moves_it() {
    let files = Files::new([1, 2], "");
    let ports: BTreeMap<&str, u16> = NAMES.map(|name| (name, steady_port())).into();
    for name in NAMES {
        let address = format!("127.0.0.1:{}", ports[name]);
        let holder = TcpListener::bind(&address).await.unwrap();
        let ran = run(&strs(&files.local(&ports))).await.expect(1);
        assert_eq!(ran.stdout, "", "{name}");
        ran.says(&["cannot listen on", &address, &format!("--{name} ADDR"), "port 0 "]);
        assert!(!files.path("data").exists(), "{name}: a database was made");
        drop(holder);
        for (other, port) in &ports {
            assert!(TcpListener::bind(("127.0.0.1", *port)).await.is_ok(), "{name}: {other} is still held");
        }
    }
    // By another daemon all the same, whose proxy shares its port between its own threads.
    let daemon = Daemon::start(&files.local(&ports)).await;
    let second = Files::new([1, 2], "");
    for name in NAMES {
        let one = BTreeMap::from([(name, ports[name])]);
        run(&strs(&second.local(&one))).await.expect(1).says(&[&format!("--{name} ADDR")]);
    }
    let egress = format!("127.0.0.1:{}", ports["egress"]);
    run(&[&["demo", "--once"], &FREE_PORTS[..8], &["--egress", &egress]].concat())
        .await
        .expect(1)
        .says(&["--egress ADDR"]);
    assert_eq!(daemon.process.terminate().await, Some(0));
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    let files = Files::new([1, 2], "");
    for name in NAMES {
        for address in ["0.0.0.0:0", "10.1.2.3:7070", "[::]:0"] {
            let flag = format!("--{name}");
            let mut arguments = files.local(&BTreeMap::new());
            let at = arguments.iter().position(|argument| *argument == flag).unwrap();
            arguments[at + 1] = address.to_owned();
            let ran = run(&strs(&arguments)).await.expect(2);
            ran.says(&[&format!("{flag} {address} is not a loopback address"), "127.0.0.0/8"]);
            run(&["demo", "--once", &flag, address]).await.expect(2).says(&["is not a loopback address"]);
        }
    }
    assert!(!files.path("data").exists());
}

#[tokio::test]
async fn two_flags_with_one_address_are_told_apart() {
    let ran = run(&["demo", "--once", "--admin", "127.0.0.1:7072"]).await.expect(2);
    ran.says(&["--xds and --admin are both 127.0.0.1:7072", "another port"]);
    let ran = run(&["local", "--api", "127.0.0.1:4321", "--egress", "127.0.0.1:4321"]).await.expect(2);
    ran.says(&["--api and --egress are both 127.0.0.1:4321"]);
}

#[tokio::test]
async fn a_data_directory_belongs_to_one_daemon() {
    let files = Files::new([1, 2], "");
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    let pid = format!("(process {})", daemon.process.pid());
    let ran = run(&strs(&files.local(&BTreeMap::new()))).await.expect(1);
    ran.says(&[&files.at("data"), "in use by another tidegate", &pid, "--data-dir"]);
    // The first one did not notice, and a dead one holds nothing.
    daemon.run(&["health"]).await.expect(0);
    daemon.process.kill().await;
    Daemon::start(&files.local(&BTreeMap::new())).await;
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_left_alone() {
    let files = Files::new([1, 2], "");
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    assert_eq!(daemon.process.terminate().await, Some(0));
    let database = sqlx::SqlitePool::connect(&format!("sqlite://{}", files.at("data/tidegate.db"))).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9001, 'of tomorrow', TRUE, x'00', 0)",
    )
    .execute(&database)
    .await
    .unwrap();
    database.close().await;
    let ran = run(&strs(&files.local(&BTreeMap::new()))).await.expect(1);
    ran.says(&["tidegate.db was written by a newer tidegate (schema 9001, this one knows", "run that release"]);
}

#[tokio::test]
async fn a_damaged_database_is_named_and_not_overwritten() {
    let files = Files::new([1, 2], "");
    std::fs::create_dir(files.path("data")).unwrap();
    let garbage = "not a database at all. ".repeat(500);
    files.write("data/tidegate.db", &garbage);
    let ran = run(&strs(&files.local(&BTreeMap::new()))).await.expect(1);
    ran.says(&[&files.at("data/tidegate.db"), "not a database", "--data-dir"]);
    assert_eq!(std::fs::read_to_string(files.path("data/tidegate.db")).unwrap(), garbage);
    let verify = run(&["journal", "verify", "--data-dir", &files.at("data")]).await.expect(1);
    verify.says(&["not a database"]);

    // A row that says nothing: the daemon names the rollout rather than going on without it.
    let services = (Service::start("v1").await, Service::start("v2").await);
    let files = Files::new([services.0.address.port(), services.1.address.port()], "");
    files.write("policies/checkout.yaml", QUICK);
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    daemon.start_rollout().await;
    assert_eq!(daemon.process.terminate().await, Some(0));
    let database = sqlx::SqlitePool::connect(&format!("sqlite://{}", files.at("data/tidegate.db"))).await.unwrap();
    sqlx::query("UPDATE rollouts SET state = '{}'").execute(&database).await.unwrap();
    database.close().await;
    run(&strs(&files.local(&BTreeMap::new()))).await.expect(1).says(&["the rollout's state cannot be read"]);
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_is_named() {
    let files = Files::new([1, 2], "");
    files.write("data", "a file where a directory should be");
    run(&strs(&files.local(&BTreeMap::new()))).await.expect(1).says(&[&files.at("data"), "cannot open"]);

    std::fs::remove_file(files.path("data")).unwrap();
    std::fs::create_dir(files.path("data")).unwrap();
    // Whoever runs the tests may be root, for whom no directory is read-only; so the program runs as nobody then.
    let mut command = command(&strs(&files.local(&BTreeMap::new())));
    let set = |name: &str, mode| std::fs::set_permissions(files.path(name), PermissionsExt::from_mode(mode)).unwrap();
    set("data", 0o555);
    set("", 0o755);
    if std::fs::write(files.path("data/probe"), "").is_ok() {
        std::fs::remove_file(files.path("data/probe")).unwrap();
        command.uid(65_534).gid(65_534);
        if command.spawn().is_err() {
            #[expect(clippy::print_stderr, reason = "the one way in which a test tells that it was skipped")]
            {
                eprintln!("skipped: nobody may not run the program where it lies");
            }
            return;
        }
    }
    finish(command).await.expect(1).says(&[&files.at("data"), "Permission denied"]);
}
