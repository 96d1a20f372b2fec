//! `tidegate serve` as the control plane of its own mesh: alone on SQLite, and several on one PostgreSQL.

use super::sdk::{client_at, create_all, route};
use crate::kit::postgres::Server;
use crate::program::world::{Api, Files, strs};
use crate::program::{Process, command, finish, run, until};
use aws_sdk_appmesh::Client;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tidegate::clock::Monotonic;

/// A key of one's own, with its secret in the environment.
const KEYS: &str = "[mesh.keys.admin]\nid = \"AKIDADMIN\"\nallow = \"write\"\n[mesh.keys.reader]\nid = \"AKIDREADER\"\n\
                    secret = [\"reader-secret-old\", \"reader-secret-new\"]\nallow = \"read\"\nmesh = \"shop\"\n";
const SECRET: &str = "admin-secret-admin-secret";

fn config(files: &Files, mesh: &str) -> String {
    format!(
        "[api]\nlisten = \"127.0.0.1:0\"\nauth = \"none\"\nadvertise_url = \"http://127.0.0.1:0\"\n[policies]\n\
         directory = \"{}\"\n[mesh]\nlisten = \"127.0.0.1:0\"\nxds_listen = \"127.0.0.1:0\"\n\
         region = \"eu-central-1\"\naccount = \"123456789012\"\n{mesh}",
        files.at("policies")
    )
}

/// A daemon by a configuration, once it listens.
async fn start(files: &Files, config: &str, variables: &[(&str, &str)]) -> (Process, BTreeMap<String, SocketAddr>) {
    let name = format!("tidegate-{}.toml", tidegate::clock::seed());
    files.write(&name, config);
    let arguments = ["serve", "--output", "json", "--config", &files.at(&name)].map(str::to_owned);
    let mut program = command(&strs(&arguments));
    program.envs(variables.iter().copied());
    let mut process = Process::spawn(program);
    let addresses = process.listening(3).await;
    (process, addresses)
}

fn admin(addresses: &BTreeMap<String, SocketAddr>) -> Client {
    client_at(&format!("http://{}", addresses["appmesh"]), "AKIDADMIN", SECRET, "eu-central-1")
}

/// The weight of the second node, and the route's version.
async fn weight(client: &Client) -> (i32, i64) {
    let described = client.describe_route().mesh_name("shop").virtual_router_name("r").route_name("x");
    let data = described.send().await.unwrap().route.unwrap();
    let targets = data.spec.unwrap().http_route.unwrap().action.unwrap().weighted_targets;
    (targets[1].weight, data.metadata.unwrap().version)
}

#[tokio::test]
async fn a_daemon_drives_the_mesh_that_it_hosts() {
    let files = Files::new([9001, 9002], "");
    let own = format!("[database]\ndata_dir = \"{}\"\n", files.at("own"));
    // A SQLite database belongs to one daemon.
    let text =
        |mesh: &str| format!("{}{own}", config(&files, mesh).replace("advertise_url = \"http://127.0.0.1:0\"\n", ""));
    let (process, addresses) = start(&files, &text("auth = \"none\"\n"), &[]).await;
    let endpoint = format!("http://{}", addresses["appmesh"]);
    run(&["mesh", "apply", "--yes", "--endpoint-url", &endpoint, "-f", &files.at("mesh.yaml")]).await.expect(0);
    let api = Api::new(addresses);
    let id = api.start_rollout().await;
    // Nobody acknowledges it, since no proxy is there; that it was written is seen at the mesh.
    until("the first share is in the mesh", async || {
        let view = api.weights().await?;
        (view.get("checkout-v2") == Some(&10)).then_some(())
    })
    .await;
    let (status, _) = api.post(&format!("/v1/rollouts/{id}/abort"), &json!({"reason": "enough"})).await;
    assert_eq!(status, 200);
    until("it went back", async || (api.weights().await?.get("checkout-v2") == Some(&0)).then_some(())).await;
    assert_eq!(process.terminate().await, Some(0));
    // What it hosts is there again after a restart, and again asks for a signature where it has keys.
    let secret = [("TIDEGATE_MESH_KEY_SECRET_ADMIN", SECRET)];
    let (process, addresses) = start(&files, &text(KEYS), &secret).await;
    let meshes = admin(&addresses).list_meshes().send().await.unwrap().meshes;
    assert_eq!((meshes.len(), meshes[0].mesh_name()), (1, "shop"));
    let stranger = reqwest::get(format!("http://{}/v20190125/meshes", addresses["appmesh"])).await.unwrap();
    assert_eq!(stranger.status().as_u16(), 403);
    let reader = client_at(&format!("http://{}", addresses["appmesh"]), "AKIDREADER", "reader-secret-new", "us-east-1");
    reader.describe_mesh().mesh_name("shop").send().await.unwrap();
    assert!(reader.delete_mesh().mesh_name("shop").send().await.is_err());
    the_command_line_signs(&files, &format!("http://{}", addresses["appmesh"])).await;
    assert_eq!(process.terminate().await, Some(0));
}

/// `tidegate mesh` with a key that may write, one that may not, and none.
async fn the_command_line_signs(files: &Files, endpoint: &str) {
    files.write("more.yaml", "meshName: shop\nvirtualServiceName: a/b c.local\nspec: {}\n");
    let mesh = async |key: &[&str], arguments: &[&str]| {
        let mut program = command(&[&["mesh"], arguments, &["--endpoint-url", endpoint]].concat());
        program.envs(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].into_iter().zip(key));
        finish(program).await
    };
    let (admin, reader, more) = (["AKIDADMIN", SECRET], ["AKIDREADER", "reader-secret-old"], files.at("more.yaml"));
    mesh(&[], &["export"]).await.expect(1).says(&["asks for signed requests: set AWS_ACCESS_KEY_ID"]);
    mesh(&["AKIDNOBODY", SECRET], &["export"]).await.expect(1).says(&["UnrecognizedClientException", "AKIDNOBODY"]);
    mesh(&reader, &["apply", "--yes", "-f", &more]).await.expect(1).says(&["ForbiddenException", "[mesh.keys.reader]"]);
    mesh(&admin, &["apply", "--yes", "-f", &more]).await.expect(0);
    mesh(&reader, &["diff", "-f", &more]).await.expect(0);
    assert!(mesh(&admin, &["export"]).await.expect(0).stdout.contains("a/b c.local"));
}

/// Both write at once, also the one that does not drive: every change is made upon the one before it, and both see all.
#[tokio::test]
#[expect(clippy::print_stderr, reason = "what was seen")]
async fn daemons_on_one_database_serve_one_mesh() {
    const EACH: i64 = 20;
    let Some(server) = Server::start().await else { return };
    let files = Files::new([9001, 9002], "");
    let text = config(&files, KEYS);
    let url = server.url();
    let variables = [("TIDEGATE_DATABASE_URL", url.reveal().as_str()), ("TIDEGATE_MESH_KEY_SECRET_ADMIN", SECRET)];
    let ((one, first), (two, second)) =
        tokio::join!(start(&files, &text, &variables), start(&files, &text, &variables));
    let (a, b) = (admin(&first), admin(&second));
    create_all(&a).await;
    until("the other one has it", async || b.describe_mesh().mesh_name("shop").send().await.ok()).await;
    let writes = |client: &Client| {
        let client = client.clone();
        async move {
            let mut versions = Vec::new();
            for number in 0..EACH {
                let share = i32::try_from(number).unwrap();
                let spec = route(&[("v1", 100 - share), ("v2", share)]);
                let update =
                    client.update_route().mesh_name("shop").virtual_router_name("r").route_name("x").spec(spec);
                versions.push(update.send().await.unwrap().route.unwrap().metadata.unwrap().version);
            }
            versions
        }
    };
    let began = Monotonic::now();
    let (by_a, by_b, by_both) = tokio::join!(writes(&a), writes(&b), writes(&a));
    let took = began.elapsed();
    for versions in [&by_a, &by_b, &by_both] {
        assert!(versions.is_sorted(), "{versions:?}");
    }
    let mut versions = [by_a, by_b, by_both].concat();
    versions.sort_unstable();
    assert_eq!(versions, (2..2 + 3 * EACH).collect::<Vec<_>>());

    let mut last = 1 + 3 * EACH;
    for (writer, other) in [(&a, &b), (&b, &a)] {
        last += 1;
        let update = writer.update_route().mesh_name("shop").virtual_router_name("r").route_name("x");
        update.spec(route(&[("v1", 1), ("v2", 99)])).send().await.unwrap();
        let written = Monotonic::now();
        until("the other one sees it", async || (weight(other).await == (99, last)).then_some(())).await;
        eprintln!("{} changes in {took:?}; seen by the other one after {:?}", 3 * EACH, written.elapsed());
    }
    // A name that was taken through one is taken through the other, at once.
    a.create_mesh().mesh_name("taken").send().await.unwrap();
    assert!(b.create_mesh().mesh_name("taken").send().await.unwrap_err().into_service_error().is_conflict_exception());
    b.delete_mesh().mesh_name("taken").send().await.unwrap();
    assert!(a.delete_mesh().mesh_name("taken").send().await.unwrap_err().into_service_error().is_not_found_exception());
    // One of them goes on by itself.
    assert_eq!(one.terminate().await, Some(0));
    assert_eq!(weight(&b).await, (99, last));
    b.create_mesh().mesh_name("alone").send().await.unwrap();
    assert_eq!(two.terminate().await, Some(0));
}

#[tokio::test]
async fn a_mesh_that_anyone_could_change_is_not_served() {
    let files = Files::new([9001, 9002], "");
    for (mesh, said) in [
        (
            "listen = \"0.0.0.0:7071\"\nauth = \"none\"\n",
            vec!["`mesh.auth = \"none\"` is for loopback addresses, and 0.0.0.0:7071"],
        ),
        (
            "listen = \"127.0.0.1:1\"\nxds_listen = \"[::]:7072\"\nauth = \"none\"\n",
            vec!["[::]:7072 of `mesh.xds_listen`"],
        ),
        ("listen = \"127.0.0.1:1\"\n", vec!["needs keys of `[mesh.keys]`", "mesh.auth = \"none\""]),
        (
            "listen = \"127.0.0.1:1\"\nendpoint_url = \"http://a\"\nauth = \"none\"\n",
            vec!["`mesh.endpoint_url` is for a mesh elsewhere", "leave one of them out"],
        ),
        ("strict = true\n", vec!["`mesh.strict` is for a mesh of this daemon's own", "set mesh.listen"]),
        ("listen = \"127.0.0.1:1\"\nauth = \"none\"\nstrict = \"yes\"\n", vec!["`mesh.strict` must be true or false"]),
        ("listen = \"127.0.0.1:1\"\nauth = \"none\"\naccount = \"12\"\n", vec!["`mesh.account` must be 12 digits"]),
        (
            "listen = \"127.0.0.1:1\"\nauth = \"none\"\ncertificate = \"a\"\n",
            vec!["tidegate.toml:4:15: `mesh.certificate` needs `mesh.key`", "its private key"],
        ),
        (
            "listen = \"127.0.0.1:1\"\nauth = \"none\"\nkey = \"a\"\nclients = \"b\"\n",
            vec!["tidegate.toml:4:7: `mesh.key` needs `mesh.certificate`", "its certificate chain"],
        ),
        (
            "listen = \"127.0.0.1:1\"\nauth = \"none\"\nclients = \"a\"\n",
            vec![
                "tidegate.toml:4:11: `mesh.clients` needs `mesh.certificate` and `mesh.key`",
                "name the files of both",
            ],
        ),
        // Certificates of proxies open no door to the API, so off loopback there are keys with them too.
        (
            "listen = \"0.0.0.0:1\"\nauth = \"none\"\ncertificate = \"a\"\nkey = \"b\"\nclients = \"c\"\n",
            vec!["`mesh.auth = \"none\"` is for loopback addresses, and 0.0.0.0:1"],
        ),
        (
            "certificate = \"a\"\nkey = \"b\"\n",
            vec![
                "`mesh.certificate` is for a mesh of this daemon's own",
                "`mesh.key` is for a mesh",
                "set mesh.listen",
            ],
        ),
        ("clients = \"a\"\n", vec!["`mesh.clients` is for a mesh of this daemon's own"]),
        (
            "[mesh.keys.ci]\nid = \"A\"\n",
            vec!["`mesh.keys.ci` has no secret", "$TIDEGATE_MESH_KEY_SECRET_CI", "openssl"],
        ),
        ("[mesh.keys.ci]\nsecret = \"0123456789abcdef\"\n", vec!["`mesh.keys.ci` has no `id`"]),
        ("[mesh.keys.ci]\nid = \"A\"\nsecret = \"short\"\n", vec!["must have 16 to 512 characters"]),
        (
            "[mesh.keys.ci]\nid = \"A\"\nsecret = \"0123456789abcdef\"\nallow = \"all\"\n",
            vec!["`mesh.keys.ci.allow` must be one of read, write"],
        ),
        ("[mesh.keys.ci]\nsecrets = \"x\"\n", vec!["an access key has no key `secrets`", "did you mean `secret`?"]),
        ("[mesh.keys]\nci = 1\n", vec!["`mesh.keys.ci` is a section"]),
    ] {
        files.write("tidegate.toml", &format!("[mesh]\n{mesh}"));
        let ended = run(&["serve", "--config", &files.at("tidegate.toml")]).await.expect(2);
        for part in said {
            assert!(ended.stderr.contains(part), "{mesh}: no `{part}` in {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("0123456789abcdef") && !ended.stderr.contains("short"), "{}", ended.stderr);
    }
    // What is right is printed with its secrets masked.
    files.write("tidegate.toml", &config(&files, KEYS).replace("advertise_url = \"http://127.0.0.1:0\"\n", ""));
    let mut program = command(&["serve", "--print-config", "--config", &files.at("tidegate.toml")]);
    program.env("TIDEGATE_MESH_KEY_SECRET_ADMIN", SECRET);
    let printed = finish(program).await.expect(0).stdout;
    assert!(!printed.contains(SECRET) && !printed.contains("reader-secret"), "{printed}");
    assert!(printed.contains("strict = false  # default"), "{printed}");
    let reader = "[mesh.keys.reader]\nid = \"AKIDREADER\"\nsecret = [\"********\", \"********\"]\nallow = \"read\"\nmesh = \"shop\"\n";
    assert!(printed.contains(reader), "{printed}");
    // Variables alone declare keys as well, and what they say of one that the file has counts.
    let declared = async |text: &str| {
        let mut program = command(&["serve", "--print-config", "--config", &files.at("tidegate.toml")]);
        program.env("TIDEGATE_MESH_KEYS", text).env("TIDEGATE_MESH_KEY_SECRET_ADMIN", SECRET);
        program.env("TIDEGATE_MESH_KEY_SECRET_PROXIES", SECRET);
        finish(program).await
    };
    let printed = declared("proxies:AKIDPROXIES:read:shop, admin:AKIDOTHER:read").await.expect(0).stdout;
    for section in [
        "[mesh.keys.proxies]\nid = \"AKIDPROXIES\"\nsecret = \"********\"\nallow = \"read\"\nmesh = \"shop\"\n",
        "[mesh.keys.admin]\nid = \"AKIDOTHER\"\nsecret = \"********\"\nallow = \"read\"\n",
    ] {
        assert!(printed.contains(section), "{printed}");
    }
    for (text, said) in [
        ("ci", "$TIDEGATE_MESH_KEYS: an access key is NAME:ID:ALLOW"),
        ("proxies:AKIDPROXIES:rite", "`mesh.keys.proxies.allow` must be one of read, write"),
        ("ci:AKIDCI:write", "neither in the file nor in $TIDEGATE_MESH_KEY_SECRET_CI"),
    ] {
        declared(text).await.expect(2).says(&[said]);
    }
}
