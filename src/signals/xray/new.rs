//! What the traces of one version have that those of the other have not: types of exceptions, and calls between services.
//! Pure.
//!
//! X-Ray keeps a sample, and what is rare is in few of its traces: that stable's have none of something may be luck. With
//! k of all traces of both versions having it, and all k of them the canary's, the chance of that, were both versions
//! alike, is that of drawing k traces without putting one back and drawing only the canary's: the hypergeometric tail
//! (c/(c+s)) * ((c-1)/(c+s-1)) * ... with k factors, for c and s traces of canary and stable. New is what has a chance of
//! one in a hundred at most. So at small weights a few traces prove it, and stable's silence proves nothing.
//!
//! Graphs are of several traces each, and do not say how many of them make a call, but how many calls there were: one trace
//! may have made all of them. So a graph with a call counts as one trace that makes it, which can only make the chance larger.

use aws_sdk_xray::types::{Service, TraceSummary};
use std::collections::{BTreeMap, BTreeSet};

/// Chance above which something is not called new. A gate fails after several such points in a row, which overlap.
const CHANCE: f64 = 0.01;
/// Kinds that are remembered of a version: a service throws some tens, and each has a name of up to some hundred bytes.
const MOST_KINDS: usize = 1000;
/// Traces of which graphs are asked for, spread over all that were found: ten calls for a version in each round.
const MOST_GRAPHED: usize = 50;
/// So many are named to people.
const TOLD: usize = 5;
/// Names are cut after so many characters.
const NAME_CHARS: usize = 120;
/// What a version itself is called, whichever it is.
const ITSELF: &str = "(this version)";

/// What was seen of one version: of how many traces, and how many of them had each kind.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Traces that were found, of which graphs are of a part only.
    pub(super) found: usize,
    traces: usize,
    kinds: BTreeMap<String, usize>,
}

/// Traces that are no longer in progress.
pub(super) fn finished(page: &[TraceSummary]) -> impl Iterator<Item = &TraceSummary> {
    page.iter().filter(|summary| summary.is_partial() != Some(true))
}

/// Some of many, evenly spread.
pub(super) fn spread(ids: &[String]) -> Vec<&String> {
    ids.iter().step_by(ids.len().div_ceil(MOST_GRAPHED).max(1)).collect()
}

impl Seen {
    /// Counts the types of exceptions behind the faults and errors of each trace.
    pub(super) fn add_exceptions(&mut self, page: &[TraceSummary]) {
        for summary in finished(page) {
            self.found += 1;
            self.traces += 1;
            for name in exceptions(summary) {
                self.count(name, 1);
            }
        }
    }

    /// Counts the calls between services in a graph of so many traces; what is called like the node is the version itself.
    pub(super) fn add_graph(&mut self, traces: usize, services: &[Service], node: &str) {
        self.traces += traces;
        let name = |service: &Service| {
            let name = service.name().unwrap_or_default();
            let is_itself = name == node || name.rsplit('/').next() == Some(node);
            let named = if is_itself { ITSELF } else { name };
            match service.r#type() {
                // Both of a version are itself: what received the call, and what runs it.
                Some(kind) if !is_itself && kind.starts_with("AWS::") => format!("{named} ({kind})"),
                _ => named.to_owned(),
            }
        };
        let names: BTreeMap<i32, String> =
            services.iter().filter_map(|service| Some((service.reference_id()?, name(service)))).collect();
        let mut edges: BTreeSet<String> = BTreeSet::new();
        for service in services {
            let to = service.edges().iter().filter_map(|edge| names.get(&edge.reference_id()?));
            edges.extend(to.map(|to| format!("{} -> {to}", name(service))));
        }
        edges.into_iter().filter(|edge| !edge.starts_with(" -> ")).for_each(|edge| self.count(edge, 1));
    }

    fn count(&mut self, kind: String, times: usize) {
        if self.kinds.len() < MOST_KINDS || self.kinds.contains_key(&kind) {
            *self.kinds.entry(kind).or_default() += times;
        }
    }

    /// What this version has and the other has not, where luck does not explain it; with its number of traces.
    pub(super) fn beside(&self, stable: &Self) -> Vec<(String, usize)> {
        let is_new = |(kind, times): &(&String, &usize)| {
            !stable.kinds.contains_key(*kind) && chance(**times, self.traces, stable.traces) <= CHANCE
        };
        self.kinds.iter().filter(is_new).map(|(kind, times)| (kind.clone(), *times)).collect()
    }
}

/// The chance that all of `times` traces with something are the canary's, were both versions alike.
fn chance(times: usize, canary: usize, stable: usize) -> f64 {
    let factor = |drawn: usize| {
        let left = canary.saturating_sub(drawn) as f64;
        left / (left + stable as f64).max(1.0)
    };
    (0..times.min(canary)).map(factor).product()
}

/// Types of the exceptions that a trace names as causes of its faults and errors, each once.
fn exceptions(summary: &TraceSummary) -> BTreeSet<String> {
    let faults = summary.fault_root_causes().iter().flat_map(|cause| cause.services());
    let faults = faults.flat_map(|service| service.entity_path()).flat_map(|entity| entity.exceptions());
    let errors = summary.error_root_causes().iter().flat_map(|cause| cause.services());
    let errors = errors.flat_map(|service| service.entity_path()).flat_map(|entity| entity.exceptions());
    let names = faults.chain(errors).filter_map(|exception| exception.name());
    names.filter(|name| !name.is_empty()).map(|name| name.chars().take(NAME_CHARS).collect()).collect()
}

/// What is new, for people; `None` of nothing.
pub(super) fn told(new: &[(String, usize)]) -> Option<String> {
    let named = new.iter().take(TOLD).map(|(kind, times)| format!("{kind} in {times} traces"));
    let more = (new.len() > TOLD).then(|| format!("{} more", new.len() - TOLD));
    let told: Vec<String> = named.chain(more).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_xray::types::{
        Edge, EdgeStatistics, ErrorRootCause, ErrorRootCauseEntity, ErrorRootCauseService, FaultRootCause,
        FaultRootCauseEntity, FaultRootCauseService, RootCauseException,
    };

    fn seen(traces: usize, kinds: &[(&str, usize)]) -> Seen {
        Seen { found: traces, traces, kinds: kinds.iter().map(|(kind, times)| ((*kind).to_owned(), *times)).collect() }
    }

    #[test]
    fn a_chance_is_that_of_drawing_only_the_canarys() {
        for (times, canary, stable, expected) in [
            (1, 10, 90, 0.1),
            (2, 10, 90, 10.0 * 9.0 / (100.0 * 99.0)),
            (3, 3, 1, 0.25),
            (1, 5, 0, 1.0),
            (0, 5, 5, 1.0),
            (9, 2, 2, 2.0 / 4.0 / 3.0),
            (1, 0, 0, 1.0),
        ] {
            let found = chance(times, canary, stable);
            assert!((found - expected).abs() < 1e-12, "{times} of {canary} and {stable}: {found}");
        }
    }

    #[test]
    fn new_is_what_stable_has_not_and_luck_does_not_explain() {
        let stable = seen(90, &[("Timeout", 1)]);
        for (canary, new) in [
            (seen(10, &[("NullPointer", 2)]), vec![("NullPointer".to_owned(), 2)]),
            (seen(10, &[("NullPointer", 1)]), vec![]),
            (seen(10, &[("Timeout", 10)]), vec![]),
            (seen(90, &[("NullPointer", 6)]), vec![]),
            (seen(90, &[("NullPointer", 7)]), vec![("NullPointer".to_owned(), 7)]),
        ] {
            assert_eq!(canary.beside(&stable), new, "{canary:?}");
        }
        assert_eq!(seen(100, &[("NullPointer", 100)]).beside(&seen(0, &[])), [], "stable's silence proves nothing");
    }

    #[test]
    fn exceptions_of_faults_and_errors_count_once_for_a_trace() {
        let exception = |name: &str| RootCauseException::builder().name(name).message("any text 123").build();
        let fault = |names: &[&str]| {
            let entity = FaultRootCauseEntity::builder()
                .set_exceptions(Some(names.iter().map(|name| exception(name)).collect()));
            let service = FaultRootCauseService::builder().entity_path(entity.build()).build();
            FaultRootCause::builder().services(service).build()
        };
        let entity = ErrorRootCauseEntity::builder().exceptions(exception("Invalid")).build();
        let error =
            ErrorRootCause::builder().services(ErrorRootCauseService::builder().entity_path(entity).build()).build();
        let page = [
            TraceSummary::builder()
                .fault_root_causes(fault(&["Timeout", "Timeout", ""]))
                .error_root_causes(error)
                .build(),
            TraceSummary::builder().fault_root_causes(fault(&["Timeout"])).build(),
            TraceSummary::builder().is_partial(true).fault_root_causes(fault(&["Late"])).build(),
            TraceSummary::builder().build(),
        ];
        let mut found = Seen::default();
        found.add_exceptions(&page);
        assert_eq!(found.traces, 3);
        assert_eq!(found.kinds, seen(0, &[("Invalid", 1), ("Timeout", 2)]).kinds);
    }

    fn service(id: i32, name: &str, kind: &str, edges: &[(i32, i64)]) -> Service {
        let edge = |(to, calls): &(i32, i64)| {
            let statistics = EdgeStatistics::builder().total_count(*calls).build();
            Edge::builder().reference_id(*to).summary_statistics(statistics).build()
        };
        let edges = edges.iter().map(edge).collect();
        Service::builder().reference_id(id).name(name).r#type(kind).set_edges(Some(edges)).build()
    }

    #[test]
    fn edges_are_the_same_whichever_version_they_begin_or_end_at() {
        let graph = |node: &str| {
            [
                service(0, "front", "client", &[(1, 5)]),
                service(1, &format!("shop/{node}"), "AWS::AppMesh::Proxy", &[(2, 12), (9, 1)]),
                service(2, "Orders", "AWS::DynamoDB::Table", &[]),
            ]
        };
        let [mut canary, mut stable] = [Seen::default(), Seen::default()];
        canary.add_graph(5, &graph("checkout-v2"), "checkout-v2");
        stable.add_graph(5, &graph("checkout-v1"), "checkout-v1");
        let expected =
            seen(5, &[("(this version) -> Orders (AWS::DynamoDB::Table)", 1), ("front -> (this version)", 1)]);
        assert_eq!((canary.traces, &canary.kinds), (5, &expected.kinds), "an edge to nowhere is none");
        assert_eq!(canary.kinds, stable.kinds);
        // One trace may have made all five hundred calls.
        let mails = [service(0, "checkout-v2", "", &[(1, 500)]), service(1, "mail", "remote", &[])];
        let stable = Seen { traces: 50, ..stable };
        for _ in 0..4 {
            canary.add_graph(5, &mails, "checkout-v2");
            assert_eq!(canary.beside(&stable), [], "{canary:?}");
        }
        canary.add_graph(5, &mails, "checkout-v2");
        let new = canary.beside(&stable);
        assert_eq!(new, [("(this version) -> mail".to_owned(), 5)]);
        assert_eq!(told(&new).as_deref(), Some("(this version) -> mail in 5 traces"));
    }

    #[test]
    fn what_is_kept_and_told_is_bounded() {
        let ids: Vec<String> = (0..1003).map(|id| id.to_string()).collect();
        let some = spread(&ids);
        assert!(some.len() <= MOST_GRAPHED && some.len() > MOST_GRAPHED / 2, "{}", some.len());
        assert_eq!(spread(&ids[..3]).len(), 3);
        let mut many = Seen::default();
        (0..2 * MOST_KINDS).for_each(|kind| many.count(kind.to_string(), 1));
        assert_eq!(many.kinds.len(), MOST_KINDS);
        let new: Vec<_> = (0..7).map(|kind| (format!("E{kind}"), 2)).collect();
        assert!(told(&new).unwrap().ends_with("E4 in 2 traces, 2 more"));
        assert_eq!(told(&[]), None);
    }
}
