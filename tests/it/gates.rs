//! docs/gates.md: every example is compiled, and its pictures are drawn from the gates' own numbers.
//!
//! `UPDATE_GOLDEN=1 cargo nextest run -E 'test(gates::)'` draws them anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use tidegate::base::time::Millis;
use tidegate::policy::compile;
use tidegate::policy::plan::{GateRule, Plan, SignalQuery};
use tidegate::signals::cloudwatch::CloudWatch;
use tidegate::signals::xray;

const HEAD: &str = "version: 1\nname: checkout\nroute: { mesh: shop, router: r, route: checkout }\nversions: [a, b]\n\
    workload: { ecs: { cluster: prod, services: { a: shop-a, b: shop-b }, container: app } }\n\
    steps: [{ weight: 10, min: 5m }, 100]\nstep_defaults: { min: 5m, max: 1h }\n";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn compiled(gates: &str) -> Plan {
    let has_steps = gates.lines().any(|line| line.starts_with("steps:"));
    let head = HEAD.lines().filter(|line| !has_steps || !line.starts_with("steps:"));
    let head: String = head.map(|line| format!("{line}\n")).collect();
    match compile("gates.md", &format!("{head}{gates}")) {
        Ok(compiled) => compiled.plan,
        Err(problems) => panic!("{problems:?} in\n{gates}"),
    }
}

/// The blocks of YAML of the page.
fn examples() -> Vec<String> {
    let page = std::fs::read_to_string(root().join("docs/gates.md")).expect("the page");
    let blocks = page.split("```yaml\n").skip(1);
    blocks.map(|rest| rest.split("```").next().expect("a part").to_owned()).collect()
}

#[test]
fn every_example_of_the_page_is_a_policy() {
    let all = examples();
    assert!(all.len() >= 7, "{}", all.len());
    let plans: Vec<Plan> = all.iter().map(|gates| compiled(gates)).collect();
    let sources: std::collections::BTreeSet<&str> = plans
        .iter()
        .flat_map(Plan::signals)
        .map(|(_, signal)| match signal.query {
            SignalQuery::Cloudwatch(_) => "cloudwatch",
            SignalQuery::Xray(_) => "xray",
            SignalQuery::Prometheus { .. } => "prometheus",
            SignalQuery::Http { .. } => "http",
            SignalQuery::Webhook(_) => "webhook",
        })
        .collect();
    assert_eq!(sources.len(), 5, "an example of each source: {sources:?}");
}

// === pictures ===

/// The longest that it takes from the first bad moment until a gate fails the release, when everything is on time.
fn slowest(gates: &str) -> Millis {
    let plan = compiled(&format!("gates:\n  - {{ name: g, {gates} }}\n"));
    let times = |span: Millis, breaches: u32| span.0 * u64::from(breaches);
    match &plan.gates[0].rule {
        GateRule::Health { interval, breaches, .. } => Millis(times(*interval, *breaches)),
        GateRule::Signal(signal) => {
            let (span, breaches) = (signal.span(), signal.breaches);
            // The span that the bad moment is in is only partly bad, so one more; then the source's lag, and the next asking.
            match &signal.query {
                query if query.is_yes_or_no() => Millis(times(signal.interval, breaches)),
                SignalQuery::Cloudwatch(_) => {
                    Millis(times(span, breaches + 1) + CloudWatch::lag(span).0 + signal.interval.0)
                }
                SignalQuery::Xray(_) => Millis(times(span, breaches) + xray::LAG.0 + span.0),
                SignalQuery::Prometheus { .. } | SignalQuery::Http { .. } | SignalQuery::Webhook(_) => {
                    Millis(times(span, breaches))
                }
            }
        }
        other => panic!("a gate on requests has no such time: {other:?}"),
    }
}

struct Picture {
    text: String,
    width: u32,
    height: u32,
}

const INK: &str = "#1f2937";
const PALE: &str = "#6b7280";

impl Picture {
    fn new(width: u32, height: u32, title: &str) -> Self {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             font-family=\"sans-serif\" font-size=\"14\">\n<title>{title}</title>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>"
        );
        Self { text, width, height }
    }

    fn bar(&mut self, (x, y, width, height): (u32, u32, u32, u32), fill: &str) {
        assert!(x + width <= self.width && y + height <= self.height, "outside of the picture");
        let _ = writeln!(
            self.text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"3\" fill=\"{fill}\"/>"
        );
    }

    fn words(&mut self, (x, y): (u32, u32), fill: &str, anchor: &str, words: &str) {
        assert!(x <= self.width && y <= self.height, "outside of the picture");
        let _ =
            writeln!(self.text, "<text x=\"{x}\" y=\"{y}\" fill=\"{fill}\" text-anchor=\"{anchor}\">{words}</text>");
    }

    fn line(&mut self, (x, y): (u32, u32), (to_x, to_y): (u32, u32), stroke: &str) {
        let _ = writeln!(
            self.text,
            "<path d=\"M{x} {y}L{to_x} {to_y}\" stroke=\"{stroke}\" stroke-width=\"1.5\" fill=\"none\"/>"
        );
    }

    /// Compares with what is kept, or keeps it.
    fn check(mut self, path: &Path) {
        self.text.push_str("</svg>\n");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &self.text).expect("writable");
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == self.text, "{} is not what the gates say: UPDATE_GOLDEN=1 draws it anew", path.display());
    }
}

#[test]
fn the_bars_are_the_times_of_the_gates() {
    let rows = [
        ("health", "health: { http: /health }"),
        ("prometheus, http", "http: { url: \"http://h/\" }, max: 1"),
        ("webhook", "webhook: { url: \"http://h/\" }"),
        ("xray", "xray: { filter: '{node}', measure: fault_rate }, compare: stable, tolerate: { add: 1pp }"),
        ("cloudwatch, seconds", "cloudwatch: { namespace: S, metric: M, stat: Sum, period: 10s }, max: 1"),
        ("cloudwatch, minutes", "cloudwatch: { preset: ecs_cpu }, max: 80%"),
    ];
    let scale = |time: Millis| u32::try_from(time.0 / 1000).expect("short");
    let mut picture = Picture::new(720, 290, "How long it takes until each kind of gate can end a bad release");
    picture.words(
        (16, 24),
        INK,
        "start",
        "At most so long after the first bad moment, with the defaults and everything on time",
    );
    picture.words((170, 60), INK, "end", "requests (live)");
    picture.bar((180, 46, 5, 18), "#059669");
    picture.words((193, 60), PALE, "start", "seconds: after the failures that prove it");
    for (row, (name, gate)) in rows.iter().enumerate() {
        let (time, y) = (slowest(gate), 76 + u32::try_from(row).expect("few") * 30);
        picture.words((170, y + 14), INK, "end", name);
        picture.bar((180, y, scale(time), 18), if time.0 < 60_000 { "#2563eb" } else { "#d97706" });
        picture.words((188 + scale(time), y + 14), PALE, "start", &time.to_string());
    }
    picture.line((180, 264), (180 + 480, 264), PALE);
    for minute in 0..=8 {
        picture.line((180 + minute * 60, 264), (180 + minute * 60, 269), PALE);
        picture.words(
            (180 + minute * 60, 284),
            PALE,
            "middle",
            &if minute == 0 { "0".to_owned() } else { format!("{minute}m") },
        );
    }
    picture.check(&root().join("docs/pages/gates-time.svg"));
}

#[test]
fn a_minute_is_drawn_as_long_as_it_takes() {
    let lag = u32::try_from(CloudWatch::lag(Millis::from_seconds(60)).0 / 1000).expect("short");
    let mut picture = Picture::new(720, 190, "A minute of CloudWatch: when it begins, ends, settles and is read");
    // Two pixels to a second, from 20 s before the first whole minute.
    let x = |second: u32| 60 + second * 2;
    picture.line((x(0), 120), (x(320), 120), PALE);
    for minute in 0..=5 {
        picture.line((x(20 + minute * 60), 115), (x(20 + minute * 60), 125), PALE);
        picture.words((x(20 + minute * 60), 142), PALE, "middle", &format!("{minute}m"));
    }
    picture.line((x(0), 40), (x(0), 120), "#059669");
    picture.words((x(0) + 6, 36), "#059669", "start", "weights in force");
    picture.bar((x(0), 96, 40, 18), "#e5e7eb");
    picture.words((x(0) + 6, 90), PALE, "start", "does not count");
    picture.bar((x(20), 96, 120, 18), "#2563eb");
    picture.words((x(50), 109), "#ffffff", "middle", "first point");
    picture.bar((x(80), 96, lag * 2, 18), "#fde68a");
    picture.words((x(80 + lag / 2), 109), INK, "middle", "settles: values may still come");
    picture.line((x(80 + lag), 60), (x(80 + lag), 120), INK);
    picture.words((x(80 + lag), 54), INK, "middle", "read, judged");
    picture.bar((x(80), 156, 120, 14), "#2563eb");
    picture.bar((x(140), 156, lag * 2, 14), "#fde68a");
    picture.words((x(80) - 6, 168), PALE, "end", "the next one");
    picture.check(&root().join("docs/pages/gates-minute.svg"));
}
