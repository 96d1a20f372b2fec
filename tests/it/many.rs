//! Many rollouts in one daemon: it goes on answering, every weight is written, every change is told, and what it costs is
//! measured. `TIDEGATE_ROLLOUTS` is their number (10 unless it is set; `make many` makes it 200).

use crate::program::service::Service;
use crate::program::world::{Api, Daemon, Files};
use crate::program::{text, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::clock::Monotonic;

const ROLLOUTS: usize = 10;
/// Starts under way at a time: each reads its route first, for up to 5 s.
const AT_A_TIME: usize = 8;
/// Each answer may wait for the disk behind many commits; a client gives up later than this.
const SLOWEST_ANSWER: Duration = Duration::from_secs(5);
/// Long enough for ten readings of each.
const WATCHED: Duration = Duration::from_secs(10);

fn rollouts() -> usize {
    #[expect(clippy::disallowed_methods, reason = "the switch of whoever runs the tests")]
    let wanted = std::env::var("TIDEGATE_ROLLOUTS").ok();
    wanted.map_or(ROLLOUTS, |text| text.parse().expect("TIDEGATE_ROLLOUTS is a number"))
}

fn policy(number: usize) -> String {
    format!(
        "version: 1\nname: p{number}\nroute: {{ mesh: shop, router: r{number}, route: main }}\n\
         versions: [checkout-v1, checkout-v2]\nsteps: [10, 100]\nstep_defaults: {{ min: 1s, max: 1h }}\n"
    )
}

/// Routes of their own over the same two nodes.
fn routes(count: usize) -> String {
    (0..count).fold(String::new(), |mut mesh, number| {
        let _ = write!(
            mesh,
            "---\nmeshName: shop\nvirtualRouterName: r{number}\nspec:\n  listeners: [ {{ portMapping: {{ port: 9000, \
             protocol: http }} }} ]\n---\nmeshName: shop\nvirtualRouterName: r{number}\nrouteName: main\nspec:\n  \
             httpRoute:\n    match: {{ prefix: / }}\n    action:\n      weightedTargets:\n        - {{ virtualNode: \
             checkout-v1, weight: 100 }}\n        - {{ virtualNode: checkout-v2, weight: 0 }}\n---\nmeshName: shop\n\
             virtualServiceName: s{number}.local\nspec:\n  provider: {{ virtualRouter: {{ virtualRouterName: r{number} \
             }} }}\n"
        );
        mesh
    })
}

/// Processor time that a process has used, of one core.
fn used(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may hold anything: fields 14 and 15 are ticks of 10 ms.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Asks for everything in turn; the slowest answer.
async fn slowest(api: &Api, ids: &[String], span: Duration) -> Duration {
    let (began, mut slowest) = (Monotonic::now(), Duration::ZERO);
    let mut asked = 0;
    while began.elapsed() < span {
        let path =
            ["/v1/rollouts".to_owned(), format!("/v1/rollouts/{}", ids[asked % ids.len()]), "/readyz".to_owned()];
        let sent = Monotonic::now();
        let _ = api.try_api(&path[asked % 3]).await;
        slowest = slowest.max(sent.elapsed());
        asked += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    slowest
}

/// Positions of the changes that a listener is told of, from the first on.
fn listen(url: String) -> Arc<Mutex<Vec<u64>>> {
    let told: Arc<Mutex<Vec<u64>>> = Arc::default();
    let positions = Arc::clone(&told);
    tokio::spawn(async move {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut answer = client.get(url).header("last-event-id", "0").send().await.unwrap();
        let mut rest = String::new();
        while let Ok(Some(chunk)) = answer.chunk().await {
            rest.push_str(&String::from_utf8_lossy(&chunk));
            while let Some((line, after)) = rest.split_once('\n') {
                let position = line.strip_prefix("id: ").and_then(|id| id.trim().parse::<u64>().ok());
                positions.lock().unwrap().extend(position);
                rest = after.to_owned();
            }
        }
    });
    told
}

/// Starts all of them, a few side by side.
async fn start(api: &Api, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for few in (0..count).collect::<Vec<_>>().chunks(AT_A_TIME) {
        let starts = few.iter().map(|number| {
            let (api, body) = (api.clone(), json!({"policy": format!("p{number}")}));
            tokio::spawn(async move { api.post("/v1/rollouts", &body).await })
        });
        for started in starts.collect::<Vec<_>>() {
            let (status, view) = started.await.unwrap();
            assert_eq!(status, 201, "{view}");
            ids.push(text(&view["id"]));
        }
    }
    ids
}

async fn all_are(api: &Api, ids: &[String], what: &str, wanted: impl Fn(&Value) -> bool) {
    let mut left: BTreeSet<&String> = ids.iter().collect();
    let look = async || {
        for id in left.clone() {
            let view = api.view(id).await;
            if wanted(&view) {
                left.remove(id);
            } else {
                assert!(view["finished"] != true, "{what}: {view}");
            }
        }
        left.is_empty().then_some(())
    };
    until(what, look).await;
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "what was measured")]
async fn many_rollouts_in_one_daemon_are_all_driven_and_it_goes_on_answering() {
    let count = rollouts();
    let (stable, canary) = (Service::start("v1").await, Service::start("v2").await);
    let ports = [stable.address.port(), canary.address.port()];
    let files = Files::new(ports, "");
    files.write("mesh.yaml", &format!("{}{}", crate::program::world::mesh(ports, ""), routes(count)));
    for number in 0..count {
        files.write(&format!("policies/p{number}.yaml"), &policy(number));
    }
    let daemon = Daemon::start(&files.local(&BTreeMap::new())).await;
    let (api, pid) = (&daemon.api, daemon.process.pid());
    let told = listen(format!("{}/v1/events", api.url("api")));

    let (began, before) = (Monotonic::now(), used(pid));
    let ids = start(api, count).await;
    let at_step = |view: &Value| view["phase"] == "judging" && view["weights"]["checkout-v2"] == 10;
    all_are(api, &ids, "all are judged", at_step).await;
    eprintln!("{count} rollouts: judged after {:.1?}, {:.1?} of a core", began.elapsed(), used(pid) - before);

    let before = used(pid);
    let slowest = slowest(api, &ids, WATCHED).await;
    let share = (used(pid) - before).as_secs_f64() / WATCHED.as_secs_f64() * 100.0;
    eprintln!("{count} rollouts: at rest {share:.0} % of a core, slowest answer {slowest:.0?}");
    assert!(slowest < SLOWEST_ANSWER, "{slowest:?}");

    let (began, before) = (Monotonic::now(), used(pid));
    for id in &ids {
        let (status, view) = api.post(&format!("/v1/rollouts/{id}/abort"), &json!({"reason": "enough"})).await;
        assert_eq!(status, 200, "{view}");
    }
    all_are(api, &ids, "all have ended", |view| view["phase"] == "aborted").await;
    eprintln!("{count} rollouts: aborted after {:.1?}, {:.1?} of a core", began.elapsed(), used(pid) - before);
    let changes = until("every change is told", async || {
        let told = told.lock().unwrap();
        let ends: u64 = told.last().copied().unwrap_or_default();
        (told.len() as u64 == ends && ends >= 5 * count as u64).then_some(ends)
    });
    eprintln!("{count} rollouts: {} changes told in order", changes.await);
    assert!(told.lock().unwrap().is_sorted());
    assert_eq!(daemon.process.terminate().await, Some(0));
    crate::program::world::verify(&files.path("data")).await.expect(0);
}
