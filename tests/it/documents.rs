//! The shell blocks of the pages in `docs/`, run as they stand, and a look at all documents for one that nothing runs.

mod aws;
mod migration;

use crate::kit::postgres::Server;
use crate::shell::{Page, Ports, RUN, Terminal, blocks, copy_moved, expect, have, root};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tidegate::clock::Monotonic;

/// README.md and the pages of `docs/`, by their paths from the root.
fn documents() -> Vec<String> {
    let pages = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let pages = pages.map(|name| format!("docs/{}", name.to_str().unwrap()));
    let mut all: Vec<String> = pages.filter(|path| path.ends_with(".md")).collect();
    all.push("README.md".to_owned());
    all.sort();
    all
}

/// Every source file of the integration tests.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

#[test]
fn every_shell_block_is_run_or_says_why_not() {
    let documents = documents();
    assert!(documents.len() > 8, "{documents:?}");
    for file in &documents {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let found = blocks(file, &text);
        let marked: BTreeSet<&str> = found.iter().map(|block| block.name.as_str()).collect();
        assert_eq!(marked.len(), found.len(), "{file}: two blocks of one name");
        let rows = RUN.iter().filter(|(of, _, _)| of == file);
        let run: BTreeSet<&str> = rows.flat_map(|(_, _, names)| names.iter().copied()).collect();
        assert_eq!(marked, run, "{file}: blocks that are marked, and blocks that RUN has a test for");
        for line in text.lines().filter_map(|line| line.strip_prefix("<!-- not run: ")) {
            assert!(line.trim_end_matches(" -->").len() > 8, "{file}: `{line}` is no reason");
        }
    }
    let texts: String =
        sources(&root().join("tests/it")).iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for (file, test, _) in RUN {
        assert!(documents.iter().any(|known| known == file), "RUN names {file}, which is not there");
        assert!(texts.contains(&format!("fn {test}() {{")), "RUN names the test {test}, which is not there");
        assert!(texts.contains(&format!("\"{test}\");")), "{test} asks for no block");
    }
}

#[test]
fn markers_are_read() {
    let text = "<!-- test: a, terminal 2 -->\n```sh\none\ntwo\n```\n\n<!-- not run: b -->\n\n```sh\nthree\n```\n```text\nx\n```";
    let found = blocks("x.md", text);
    assert_eq!((found.len(), found[0].name.as_str(), found[0].text.as_str()), (1, "a", "one\ntwo"));
    for wrong in [
        "```sh\none\n```",
        "```console\n$ one\n```",
        "- in a list:\n  ```sh\n  one\n  ```",
        "<!-- test: a -->\ntext",
        "<!-- test: a -->\n<!-- test: b -->\n```sh\none\n```",
    ] {
        assert!(std::panic::catch_unwind(|| blocks("x.md", wrong)).is_err(), "{wrong}");
    }
}

/// A directory as the README leaves it, with terminals in it and `tidegate local` in a terminal of its own.
struct Desk {
    ports: Ports,
    directory: TempDir,
    began: Monotonic,
    _local: Terminal,
}

impl Desk {
    fn new() -> Self {
        let (ports, directory, began) = (Ports::pick(), tempfile::tempdir().unwrap(), Monotonic::now());
        copy_moved(&root().join("examples"), &directory.path().join("examples"), &ports);
        let readme = Page::of("README.md", "the_walk_of_the_readme_does_what_it_says");
        let mut local = Terminal::open(directory.path(), began, &ports);
        local.stay(&readme.text("local", &ports));
        local.wait_for(&["Ctrl-C stops it"]);
        Self { ports, directory, began, _local: local }
    }

    fn terminal(&self) -> Terminal {
        Terminal::open(self.directory.path(), self.began, &self.ports)
    }

    /// The configuration of a page, as the file that the page calls it.
    fn configure(&self, page: &Page) {
        let text = page.text("tidegate.toml", &self.ports);
        std::fs::write(self.directory.path().join("tidegate.toml"), text).unwrap();
    }
}

#[test]
fn the_pages_about_a_running_daemon_do_what_they_say() {
    if !["bash", "python3", "curl"].into_iter().all(have) {
        return;
    }
    let desk = Desk::new();
    let page = |file| Page::of(file, "the_pages_about_a_running_daemon_do_what_they_say");
    let [mesh, proxy, api] = ["docs/MESH.md", "docs/PROXY.md", "docs/API.md"].map(page);
    let [journal, operations] = ["docs/JOURNAL.md", "docs/operations.md"].map(page);
    let observability = page("docs/proxy-observability.md");
    let [mut first, mut second] = [desk.terminal(), desk.terminal()];
    let ports = &desk.ports;

    expect(&first.run(&mesh.text("tool", ports)), &["valid", "nothing to change: 6 resources as described"]);
    let exported = std::fs::read_to_string(desk.directory.path().join("mesh.yaml")).unwrap();
    expect(&exported, &["checkout-router", r#""weight": 100"#]);
    let aws = mesh.text("aws", ports);
    if have("aws") {
        expect(&first.run(&aws), &[r#""routeName": "checkout""#, r#""weight": 100"#]);
    }
    expect(&first.run(&proxy.text("admin", ports)), &[r#""state":"LIVE""#, "tidegate_proxy_requests_total"]);
    let counts = first.run(&observability.text("counts", ports));
    expect(&counts, &[".membership_total: 1", r#""name":"server.live","value":1"#, "cluster_statuses", "level: info"]);

    second.enter(&api.text("events", ports));
    expect(&first.run(&api.text("start", ports)), &[r#""policy":"checkout""#, r#""canary":"checkout-v2""#]);
    expect(&first.run(&api.text("verb", ports)), &[r#""reason":"paused by"#]);
    second.wait_for(&["event: rollout", r#""phase":"paused""#]);

    let frozen = first.run(&operations.text("freeze", ports));
    expect(
        &frozen,
        &["checkout: frozen (payday); r-", "everything: frozen since", "everything: lifted", "checkout: lifted"],
    );

    expect(&first.run(&journal.text("verify", ports)), &["1 rollout, 0 differ"]);
    first.run(&journal.text("export", ports));
    let exported = std::fs::read_to_string(desk.directory.path().join("journal.jsonl")).unwrap();
    expect(&exported, &[r#"{"rollout":"r-"#, r#""engine_version":3"#]);

    let shell = operations.text("backup", ports);
    if have("sqlite3") {
        first.run(&shell);
    }
    first.run(&operations.text("backup by python", ports));
    expect(&first.run(&operations.text("restore", ports)), &["1 rollout, 0 differ"]);
    [mesh, proxy, api, journal, operations, observability].iter().for_each(Page::done);
}

#[test]
fn the_smallest_daemon_of_the_operations_page_runs() {
    if !have("bash") {
        return;
    }
    let desk = Desk::new();
    let page = Page::of("docs/operations.md", "the_smallest_daemon_of_the_operations_page_runs");
    desk.configure(&page);
    let [mut first, mut daemon] = [desk.terminal(), desk.terminal()];
    let text = |name| page.text(name, &desk.ports);
    expect(&first.run(&text("print config")), &["[database]\ndata_dir = \"controller\"\n", "signing = \"none\""]);
    expect(&first.run(&text("doctor")), &["1 of them report", "checkout-v1 100, checkout-v2 0"]);
    daemon.stay(&text("serve"));
    daemon.wait_for(&["tidegate is ready"]);
    expect(&first.run(&text("health")), &["no rollouts yet"]);
    page.done();
}

#[tokio::test]
async fn the_database_of_the_operations_page_serves_a_daemon() {
    if !["bash", "psql"].into_iter().all(have) {
        return;
    }
    let Some(mut server) = Server::prepare() else { return };
    let desk = Desk::new();
    server.listen_at(desk.ports.moved("5432").parse().unwrap());
    server.run(&["-clisten_addresses=127.0.0.1"]).await;
    let page = Page::of("docs/operations.md", "the_database_of_the_operations_page_serves_a_daemon");
    desk.configure(&page);
    let [mut first, mut daemon] = [desk.terminal(), desk.terminal()];
    let text = |name| page.text(name, &desk.ports);
    expect(&first.run(&text("postgres")), &["CREATE ROLE", "CREATE DATABASE"]);
    daemon.stay(&text("postgres serve"));
    daemon.wait_for(&["this daemon drives"]);
    expect(&first.run(&text("postgres verify")), &["0 differ"]);
    page.done();
}
