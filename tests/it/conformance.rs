//! What a mesh's documents mean for requests, judged on a real data plane: the cases of `tests/conformance/*.yaml`, which any
//! data plane has to pass. They are read when the test runs, so one more needs no compiling. The test prints a table.

mod backend;
mod case;
mod certificates;
mod client;
mod differential;
mod judge;
mod plane;

use crate::kit::envoy::binary;
use backend::Memory;
use case::Places;
use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};
use judge::Bench;
use plane::{Plane, Running};
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use tidegate::clock::Monotonic;

/// Files that are tried at the same time: each has proxies of its own.
const AT_ONCE: usize = 2;
/// Fewer cases than that are a loss, by [`Plane::ALL`].
const LEAST: [usize; 2] = [150, 140];

/// A case and what came of it.
#[derive(Clone)]
struct Verdict {
    plane: Plane,
    group: String,
    area: String,
    name: String,
    result: Result<(), String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_on_every_data_plane() {
    if binary().await.is_none() {
        return;
    }
    let all = Plane::ALL.into_iter().flat_map(|plane| files().into_iter().map(move |file| (plane, file)));
    let groups = stream::iter(all).map(async |(plane, file)| {
        // What panics in one file leaves the table of the others.
        let verdicts = AssertUnwindSafe(group(plane, &file)).catch_unwind().await;
        verdicts.unwrap_or_else(|panic| vec![panicked(plane, &file, &*panic)])
    });
    let verdicts: Vec<Verdict> = groups.buffered(AT_ONCE).collect::<Vec<_>>().await.concat();
    let failed = show(&verdicts);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    for (plane, least) in Plane::ALL.into_iter().zip(LEAST) {
        let count = count(&verdicts, plane);
        assert!(count >= least || only().is_some(), "only {count} cases on {}", plane.word());
    }
}

/// `TIDEGATE_CONFORMANCE=routes` tries one file alone.
#[expect(clippy::disallowed_methods, reason = "the switch of whoever runs the tests")]
fn only() -> Option<String> {
    std::env::var("TIDEGATE_CONFORMANCE").ok()
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.retain(|file| only().is_none_or(|only| stem(file) == only));
    files.sort();
    files
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn panicked(plane: Plane, file: &Path, panic: &(dyn Any + Send)) -> Verdict {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let group = stem(file);
    Verdict { plane, area: group.clone(), name: "it panicked".into(), result: Err(text.unwrap_or_default()), group }
}

/// All cases of a file, on one set of proxies.
async fn group(plane: Plane, file: &Path) -> Vec<Verdict> {
    let name = stem(file);
    let began = Monotonic::now();
    let folder = tempfile::tempdir().unwrap();
    let mut places = Places::new(folder.path());
    let group = case::read(file, &mut places).unwrap_or_else(|error| panic!("{error}"));
    if !plane.is_among(group.only.as_deref()) {
        return Vec::new();
    }
    certificates::write(folder.path(), &group.certificates);
    let memory = Memory::default();
    for (name, kind) in &group.backends {
        backend::start(name, kind, places.port(name), folder.path(), &memory).await;
    }
    let running = Running::start(plane, &group, &mut places).await;
    let bench = Bench { defaults: &group.defaults, memory: &memory, folder: folder.path() };
    let mut verdicts = Vec::new();
    for case in &group.cases {
        if !plane.is_among(case.only.as_deref()) {
            continue;
        }
        running.change(case, folder.path()).await;
        let mut result = Ok(());
        for (number, request) in case.requests.iter().enumerate() {
            result = judge::request(&bench, request).await.map_err(|found| format!("request {}: {found}", number + 1));
            if result.is_err() {
                break;
            }
        }
        let area = case.area.clone().unwrap_or_else(|| name.clone());
        verdicts.push(Verdict { plane, group: name.clone(), area, name: case.name.clone(), result });
    }
    let took = format!("proxies took all of their configuration ({} ms)", began.elapsed().as_millis());
    let result = running.check().await;
    verdicts.push(Verdict { plane, group: name.clone(), area: name, name: took, result });
    verdicts
}

/// Prints the table; answers what failed.
#[expect(clippy::print_stdout, reason = "the table is what a person reads")]
fn show(verdicts: &[Verdict]) -> Vec<String> {
    for verdict in verdicts {
        let word = if verdict.result.is_ok() { "ok" } else { "FAILED" };
        println!("{word:<7} {:<7} {:<12} {:<12} {}", verdict.plane.word(), verdict.group, verdict.area, verdict.name);
    }
    for plane in Plane::ALL {
        println!("{} cases on {}", count(verdicts, plane), plane.word());
    }
    let failures = verdicts.iter().filter_map(|verdict| {
        let reason = verdict.result.as_ref().err()?;
        Some(format!("{} on {}: {}: {reason}", verdict.group, verdict.plane.word(), verdict.name))
    });
    failures.collect()
}

fn count(verdicts: &[Verdict], plane: Plane) -> usize {
    verdicts.iter().filter(|verdict| verdict.plane == plane).count()
}
