//! Tokens and TLS as a person meets them: the commands of docs/operations.md, `tidegate serve` and its clients.

use crate::program::{Process, Ran, command, finish, run, text, until};
use crate::shell::Page;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use std::path::PathBuf;
use tempfile::TempDir;

/// A directory with a configuration, and a daemon over it.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new(api: &str) -> Self {
        let place = Self { directory: TempDir::with_prefix("tidegate-test-").unwrap() };
        std::fs::create_dir(place.path("policies")).unwrap();
        let toml = format!(
            "[api]\nlisten = \"127.0.0.1:0\"\n{api}\n[database]\ndata_dir = \"{}\"\n[policies]\ndirectory = \"{}\"\n\
             [mesh]\nendpoint_url = \"http://127.0.0.1:1\"\nsigning = \"none\"\n[people.alice]\ntoken = \"alice-laptop\"\n",
            place.at("data"),
            place.at("policies")
        );
        std::fs::write(place.path("tidegate.toml"), toml).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Starts the daemon; answers it with the port of its API.
    async fn serve(&self) -> (Process, u16) {
        let process = Process::spawn({
            let mut command = command(&["serve", "--config", &self.at("tidegate.toml"), "--output", "json"]);
            // Whatever any part of it has to say: no token may be in it.
            command.env("TIDEGATE_LOG", "trace");
            command
        });
        let address = until("it listens", async || {
            let event = process.stdout.events("listening").pop()?;
            Some(text(&event["address"]).rsplit_once(':')?.1.parse().unwrap())
        });
        let port = address.await;
        (process, port)
    }

    async fn create(&self, role: &str, name: &str) -> Value {
        let words = ["token", "create", "--role", role, "--name", name, "--output", "json"];
        run(&[&words[..], &["--data-dir", &self.at("data")]].concat()).await.expect(0).json().remove(0)
    }
}

/// A client command with variables.
async fn with(variables: &[(&str, &str)], words: &[&str]) -> Ran {
    let mut command = command(words);
    command.envs(variables.iter().copied());
    finish(command).await
}

#[tokio::test]
async fn the_first_token_is_made_in_the_database_and_the_others_by_it() {
    let place = Place::new("");
    let admin = place.create("admin", "root").await;
    let (mut daemon, port) = place.serve().await;
    let server = format!("http://127.0.0.1:{port}");
    let server = server.as_str();
    let token = text(&admin["token"]);
    let ask = async |token: &str, words: &[&str]| {
        with(&[("TIDEGATE_TOKEN", token), ("TIDEGATE_SERVER", server)], words).await
    };

    let nobody = with(&[("TIDEGATE_SERVER", server)], &["rollout", "list"]).await.expect(1);
    nobody.says(&["this needs a token, and none was sent", "set TIDEGATE_TOKEN", "tidegate token create"]);
    assert_eq!(run(&["health", "--server", server]).await.expect(0).stdout, "ready\n");
    ask(&token, &["rollout", "list"]).await.expect(0);
    let loud = [("TIDEGATE_TOKEN", token.as_str()), ("TIDEGATE_SERVER", server), ("TIDEGATE_LOG", "trace")];
    let loud = with(&loud, &["rollout", "list"]).await.expect(0).says(&["TRACE"]);
    assert!(!loud.stderr.contains(&token), "the client printed its token: {}", loud.stderr);

    // By the API: an operator, who may not make tokens.
    let made = ask(&token, &["token", "create", "--role", "operator", "--name", "ci"]).await.expect(0);
    let operator = made.stdout.trim().to_owned();
    let made = made.says(&["of `ci` (operator)", "shown this once", "TIDEGATE_TOKEN"]);
    assert!(!made.stderr.contains(&operator), "data goes to stdout, and this once");
    let refused = ask(&operator, &["token", "list"]).await.expect(1);
    refused.says(&["this needs the role admin, and the token `ci` has operator", "tidegate token create --role admin"]);
    ask(&operator, &["rollout", "abort", "nope"]).await.expect(1).says(&["there is no rollout `nope`"]);
    let approve = ["rollout", "approve", "nope", "--person", "alice"];
    ask(&operator, &approve).await.expect(1).says(&["the token `ci` does not speak for `alice`", "[people.alice]"]);

    // Beside the daemon, in its database: it knows the token at once, and a revoked one no longer when it looks next.
    let alice = text(&place.create("operator", "alice-laptop").await["token"]);
    ask(&alice, &approve).await.expect(1).says(&["there is no rollout `nope`"]);
    let list = ask(&token, &["token", "list", "--output", "json"]).await.expect(0).json().remove(0);
    let names: Vec<String> = list["tokens"].as_array().unwrap().iter().map(|token| text(&token["name"])).collect();
    assert_eq!(names, ["alice-laptop", "ci", "root"]);
    let table = ask(&token, &["token", "list"]).await.expect(0).stdout;
    assert!(table.contains("alice-laptop  operator") && !table.contains("tg_"), "{table}");

    let id = text(&list["tokens"][1]["id"]);
    ask(&token, &["token", "revoke", &id]).await.expect(0);
    ask(&operator, &["rollout", "list"]).await.expect(1).says(&["was revoked at", "look at TIDEGATE_TOKEN"]);
    let data = place.at("data");
    let revoke = ["token", "revoke", &text(&list["tokens"][0]["id"]), "--data-dir", &data];
    run(&revoke).await.expect(0).says(&["for 10 s more at most"]);
    until("the daemon looks again", async || (ask(&alice, &["rollout", "list"]).await.code == Some(1)).then_some(()))
        .await;
    ask(&token, &["token", "revoke", "nope"]).await.expect(1).says(&["there is no token `nope`"]);
    run(&["token", "revoke", "nope", "--data-dir", &data]).await.expect(1).says(&["there is no token `nope`"]);

    daemon.signal("TERM").await;
    assert_eq!(daemon.ended().await.code(), Some(0));
    let said = format!("{}{}", daemon.stdout.text(), daemon.stderr.text());
    assert!(said.contains("token made"), "{said}");
    for token in [&token, &operator, &alice] {
        assert!(!said.contains(token.as_str()), "the daemon printed a token");
    }
    let database = std::fs::read(place.path("data/tidegate.db")).unwrap();
    let holds = |part: &[u8]| database.windows(part.len()).any(|window| window == part);
    assert!(holds(b"alice-laptop") && !holds(&token.as_bytes()[16..]), "the database holds no token");
}

#[tokio::test]
async fn a_token_that_cannot_be_one_and_a_place_that_cannot_be_is_wrong_usage() {
    let ran = with(&[("TIDEGATE_TOKEN", "hunter2-hunter2")], &["rollout", "list"]).await.expect(2);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    ran.says(&["TIDEGATE_TOKEN is set and is no token", "begins with tg_"]);
    let place = Place::new("");
    let token = text(&place.create("viewer", "ann").await["token"]);
    let far = ["rollout", "list", "--server", "http://tidegate.example.com"];
    let refused = with(&[("TIDEGATE_TOKEN", &token)], &far).await.expect(2);
    refused.says(&["is not sent to tidegate.example.com in clear text", "https://", "TIDEGATE_INSECURE=1"]);
    let ca = [("TIDEGATE_CA_FILE", "/nowhere/ca.pem")];
    let far = ["rollout", "list", "--server", "https://tidegate.example.com"];
    with(&ca, &far).await.expect(2).says(&["the roots /nowhere/ca.pem cannot be read", "TIDEGATE_CA_FILE"]);
    for (words, says) in [
        (&["token", "create", "--role", "root", "--name", "x"][..], "`root` is no role"),
        (&["token", "create", "--role", "admin", "--name", "two words"], "letters, digits and"),
        (&["token", "create", "--role", "admin"], "--name"),
        (&["token", "list", "--database"], "TIDEGATE_DATABASE_URL is not set"),
        (&["token", "list", "--database", "--data-dir", "x"], "cannot be used with"),
        (&["token", "list", "--server", "http://x", "--data-dir", "x"], "cannot be used with"),
    ] {
        run(words).await.expect(2).says(&[says]);
    }
    std::fs::write(place.path("file"), "").unwrap();
    run(&["token", "list", "--data-dir", &place.at("file")]).await.expect(1).says(&["cannot open", "file"]);
}

#[tokio::test]
async fn a_daemon_speaks_tls_and_says_at_its_start_what_is_wrong_with_the_files() {
    let place = Place::new("certificate = \"CERT\"\nkey = \"KEY\"");
    let toml = std::fs::read_to_string(place.path("tidegate.toml")).unwrap();
    let toml = toml.replace("CERT", &place.at("tls.crt")).replace("KEY", &place.at("tls.key"));
    std::fs::write(place.path("tidegate.toml"), toml).unwrap();
    let config = place.at("tidegate.toml");
    run(&["serve", "--config", &config]).await.expect(2).says(&[
        "the certificate",
        "tls.crt cannot be read",
        "api.certificate",
    ]);
    assert!(!place.path("data").exists(), "it stopped before it made anything");

    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(place.path("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(place.path("tls.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    run(&["serve", "--config", &config]).await.expect(2).says(&["does not belong to the certificate"]);
    std::fs::write(place.path("tls.key"), key.serialize_pem()).unwrap();
    let token = text(&place.create("viewer", "ann").await["token"]);
    let (daemon, port) = place.serve().await;
    let (server, ca) = (format!("https://127.0.0.1:{port}"), place.at("tls.crt"));
    let variables = [("TIDEGATE_TOKEN", token.as_str()), ("TIDEGATE_SERVER", &server), ("TIDEGATE_CA_FILE", &ca)];
    with(&variables, &["rollout", "list"]).await.expect(0);
    with(&variables[..2], &["rollout", "list"]).await.expect(1).says(&["is not believed", "TIDEGATE_CA_FILE"]);
    assert_eq!(daemon.terminate().await, Some(0));
}

#[tokio::test]
async fn the_block_of_the_operations_page_makes_the_first_token_and_the_others() {
    let page = Page::of("docs/operations.md", "the_block_of_the_operations_page_makes_the_first_token_and_the_others");
    let place = Place::new("");
    let block = page.raw("tokens").replace("--data-dir .tidegate", &format!("--data-dir {}", place.at("data")));
    let (daemon, port) = place.serve().await;
    let mut shell = tokio::process::Command::new("bash");
    let programs = std::path::Path::new(crate::program::TIDEGATE).parent().unwrap().display().to_string();
    shell.args(["-euo", "pipefail", "-c", &format!("PATH={programs}:$PATH\n{block}")]);
    shell.env("TIDEGATE_SERVER", format!("http://127.0.0.1:{port}")).env_remove("TIDEGATE_TOKEN").kill_on_drop(true);
    shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let ran = finish(shell).await.expect(0);
    assert!(ran.stdout.starts_with("tg_") && ran.stdout.contains("ci    operator"), "{ran:?}");
    ran.says(&["of `anna` (admin)", "of `ci` (operator)", "no rollouts yet"]);
    assert_eq!(daemon.terminate().await, Some(0));
}
