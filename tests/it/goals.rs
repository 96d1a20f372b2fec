//! `make bench-judge`: measures what the judge is held to, and writes the tables and the picture of docs/JUDGE.md.
//!
//! Without `TIDEGATE_GOALS` the page is only compared with the form that these tables have: the figures of a smaller run are
//! checked beside the code (`simulate::goals::tests`).

use std::path::Path;
use tidegate::simulate::goals::{Scale, markdown, measure, picture};
use tidegate::simulate::run::Run;

const PAGE: &str = "docs/JUDGE.md";
const PICTURE: &str = "docs/pages/judge.svg";
/// Between these lines of the page stands what is measured.
const MARKS: [&str; 2] = ["<!-- measured: begin -->\n", "<!-- measured: end -->\n"];

/// Every core gets the same part of the numbers; the order stays.
fn spread(runs: u64, one: &(dyn Fn(u64) -> Run + Sync)) -> Vec<Run> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let part = runs.div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let numbers = worker * part..((worker + 1) * part).min(runs);
                scope.spawn(move || numbers.map(one).collect::<Vec<_>>())
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

fn parts(page: &str) -> [&str; 3] {
    let (before, rest) = page.split_once(MARKS[0]).unwrap();
    let (measured, after) = rest.split_once(MARKS[1]).unwrap();
    [before, measured, after]
}

#[test]
fn the_page_about_the_judge_has_what_is_measured() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap();
    let [before, measured, after] = parts(&page);
    if std::env::var_os("TIDEGATE_GOALS").is_none() {
        let rows = |text: &str| text.lines().filter(|line| line.starts_with("| ")).count();
        let tables = markdown(&measure(Scale { healthy: 1, bad: 1, peers: 1, courses: 1, more: 1 }, &spread));
        assert_eq!(rows(measured), rows(&tables), "{PAGE} has other tables: run `make bench-judge`");
        assert!(root.join(PICTURE).is_file(), "{PICTURE} is missing: run `make bench-judge`");
        return;
    }
    let goals = measure(Scale::FULL, &spread);
    let tables = markdown(&goals);
    eprintln!("{tables}");
    std::fs::write(root.join(PAGE), format!("{before}{}{tables}{}{after}", MARKS[0], MARKS[1])).unwrap();
    std::fs::write(root.join(PICTURE), picture(&goals)).unwrap();
}
