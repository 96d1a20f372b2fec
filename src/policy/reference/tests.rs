//! The committed page against the table, and whether what it shows is true.

use super::super::compile;
use super::markdown;
use saphyr::{LoadableYamlNode, Yaml};
use std::collections::BTreeSet;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policies.md");

#[test]
fn the_committed_page_is_what_the_table_says() {
    let page = markdown();
    #[expect(clippy::disallowed_methods, reason = "the switch of whoever runs the tests")]
    if std::env::var("UPDATE_GOLDEN").is_ok() {
        std::fs::write(PAGE, &page).unwrap();
    }
    let committed = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert_eq!(page, committed, "docs/policies.md: run with UPDATE_GOLDEN=1 if this is meant");
}

/// YAML blocks of the page.
fn blocks(page: &str) -> Vec<&str> {
    page.split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

#[test]
fn the_smallest_policy_is_valid_and_every_example_is_yaml() {
    let page = markdown();
    let blocks = blocks(&page);
    compile("smallest.yaml", blocks[0]).expect("the smallest policy is valid");
    for block in &blocks {
        let parsed = Yaml::load_from_str(block).unwrap_or_else(|error| panic!("{block}: {error}"));
        assert!(parsed.len() == 1 && parsed[0].is_mapping(), "{block}");
    }
    assert!(page.contains("steps:\n  - { weight: 10, min: 10s,"), "a step's long form");
}

#[test]
fn every_link_leads_to_one_heading() {
    let page = markdown();
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## `")).collect();
    let anchors: BTreeSet<String> = headings.iter().map(|heading| super::anchor(heading)).collect();
    assert_eq!(anchors.len(), headings.len(), "two headings with one anchor");
    let linked: BTreeSet<String> =
        page.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()).collect();
    assert_eq!(linked, anchors);
}

#[test]
fn rows_have_four_cells_and_code_is_closed() {
    for line in markdown().lines().filter(|line| line.starts_with('|')) {
        assert_eq!(line.replace("\\|", "").matches('|').count(), 5, "{line}");
        // The one rule whose own text has code with quotes in it closes it as well.
        assert_eq!(line.matches('`').count() % 2, 0, "{line}");
    }
}
