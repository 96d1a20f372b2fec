//! docs/simulate.md, executed: the commands as they stand, and the answers to the letter.

use crate::program::run;
use crate::shell::Page;

#[tokio::test]
async fn the_page_about_simulations_answers_as_shown() {
    let page = Page::of("docs/simulate.md", "the_page_about_simulations_answers_as_shown");
    for name in ["simulate", "replay"] {
        let line = page.raw(name).to_owned();
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let ran = run(&words).await.expect(0);
        assert_eq!(ran.stdout.trim_end(), page.raw(&format!("{name} answer")).trim_end(), "{line}");
    }
    page.done();
}

#[tokio::test]
async fn a_world_of_every_option_is_answered_for_programs_and_drawn() {
    let directory = tempfile::tempdir().unwrap();
    let picture = directory.path().join("plot.svg");
    let picture = picture.to_str().unwrap();
    let options = "--traffic 100/s --stable-errors 0.5% --canary-errors 3% --stable-latency 40ms --canary-latency x2 --canary-slow 3%x4 \
                   --onset 5s --incident 5%@1s-4s --noise each:0.3 --endpoints 2 --session 3 --lag 1s --period 1s --runs 3 --seed 9 \
                   --horizon 10m --output json --plot";
    let words: Vec<&str> = ["policy", "simulate", "policies/quick-start.yaml"]
        .into_iter()
        .chain(options.split_whitespace())
        .chain([picture])
        .collect();
    let ran = run(&words).await.expect(0);
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&answer["policy"], &answer["rules"][0]["name"]), (&"checkout".into(), &"this policy".into()));
    assert_eq!(answer["rules"][0]["bad"]["runs"], 3);
    assert!(std::fs::read_to_string(picture).unwrap().starts_with("<svg "));
    // The same seed, the same answer.
    assert_eq!(run(&words).await.expect(0).stdout, ran.stdout);
}

#[tokio::test]
async fn what_cannot_be_simulated_or_replayed_says_why() {
    let without_gates = run(&["policy", "simulate", "policies/blue-green.yaml"]).await;
    without_gates.expect(2).says(&["no gate of policy `storefront` decides by requests"]);
    run(&["policy", "simulate", "policies/quick-start.yaml", "--traffic", "fast"]).await.expect(2).says(&["200/s"]);
    run(&["policy", "replay", "policies/quick-start.yaml"]).await.expect(2).says(&["--csv", "--journal"]);
    let table = run(&["policy", "replay", "policies/quick-start.yaml", "--csv", "README.md"]).await;
    table.expect(2).says(&["README.md: line 1: there is no column `at`"]);
}
