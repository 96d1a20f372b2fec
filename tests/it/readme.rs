//! The README's walk, executed: every marked shell block runs as it stands, in the terminals that the text names.

use crate::shell::{Page, Ports, Terminal, copy_moved, expect, have, root};
use tidegate::clock::Monotonic;

#[test]
fn the_demo_of_the_readme_ends_as_shown() {
    if !have("bash") {
        return;
    }
    let (directory, ports) = (tempfile::tempdir().unwrap(), Ports::pick());
    let page = Page::of("README.md", "the_demo_of_the_readme_ends_as_shown");
    let mut terminal = Terminal::open(directory.path(), Monotonic::now(), &ports);
    let said = terminal.run(&page.text("demo", &ports));
    expect(&said, &["bad: rolled_back, as it should."]);
    page.done();
}

#[test]
fn the_walk_of_the_readme_does_what_it_says() {
    if !["bash", "python3", "curl"].into_iter().all(have) {
        return;
    }
    let (ports, began) = (Ports::pick(), Monotonic::now());
    let page = Page::of("README.md", "the_walk_of_the_readme_does_what_it_says");
    let directory = tempfile::tempdir().unwrap();
    copy_moved(&root().join("examples"), &directory.path().join("examples"), &ports);
    let [mut first, mut second, mut third] = [(); 3].map(|()| Terminal::open(directory.path(), began, &ports));
    let text = |name: &str| page.text(name, &ports);

    first.enter(&text("services"));
    first.wait_for(&["checkout v1 listens", "checkout v2 listens"]);
    second.stay(&text("local"));
    second.wait_for(&["Ctrl-C stops it"]);
    expect(&first.run(&text("look")), &["valid, 3 steps", "checkout v1\n"]);
    third.stay(&text("load"));
    third.wait_for(&["checkout v1"]);

    expect(&first.run(&text("good")), &["succeeded"]);
    let split = r#"[{"virtualNode":"checkout-v1","weight":0},{"virtualNode":"checkout-v2","weight":100}]"#;
    expect(&first.run(&text("weights")), &[r#""phase":"succeeded""#, split]);
    let aws = text("aws");
    if have("aws") {
        expect(&first.run(&aws), &[r#""weight": 100"#]);
    }
    third.wait_for(&["checkout v2"]);
    first.enter(&text("replace"));
    first.wait_for(&["checkout v3 listens"]);
    expect(&first.run(&text("bad")), &["rolled_back", "exit code 3"]);
    third.wait_for(&["checkout v3"]);
    first.enter(&text("replace again"));
    first.wait_for(&["checkout v4 listens"]);
    expect(&first.run(&text("abort")), &["aborted", "exit code 4"]);
    expect(&first.run(&text("journal")), &["3 rollouts, 0 differ"]);
    // Ctrl-C in the others.
    drop((second, third));
    first.run(&text("clear"));
    page.done();
}
