//! Arguments of `tidegate policy simulate` and `tidegate policy replay`.

use crate::policy::units::{duration, ratio, share};
use crate::simulate::world::{Incident, Swings};
use clap::Args;
use std::path::PathBuf;

/// `tidegate policy simulate`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Without --canary-errors, --canary-latency and --canary-slow there is no bad release, and only mistakes and times are told. \
                  The same seed gives the same answer."
)]
pub struct SimulateArguments {
    /// Policy file
    #[arg(value_name = "POLICY")]
    pub file: PathBuf,
    /// The route's traffic
    #[arg(long, value_name = "REQUESTS/s", default_value = "50/s", value_parser = rate)]
    pub traffic: f64,
    /// Part of stable's requests that fail
    #[arg(long, value_name = "SHARE", default_value = "0.1%", value_parser = errors)]
    pub stable_errors: f64,
    /// Part of the bad release's requests that fail
    #[arg(long, value_name = "SHARE", value_parser = errors)]
    pub canary_errors: Option<f64>,
    /// Median of stable's latency; without it no latencies are simulated
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    pub stable_latency: Option<f64>,
    /// Spread of latencies: the standard deviation of their logarithm (0.6 makes the p99 four times the median)
    #[arg(long, value_name = "NUMBER", default_value = "0.6", value_parser = spread)]
    pub latency_spread: f64,
    /// The bad release's latency: a median, or times stable's, such as x2
    #[arg(long, value_name = "TIME|xN", value_parser = slowness, requires = "stable_latency")]
    pub canary_latency: Option<Slowness>,
    /// Part of the bad release's requests that is slower, and how many times, such as 3%x4
    #[arg(long, value_name = "SHARExN", value_parser = slow_part, requires = "stable_latency")]
    pub canary_slow: Option<(f64, f64)>,
    /// When the fault of the bad release begins, after the start
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = seconds)]
    pub onset: f64,
    /// Something that fails more requests of both versions, and from when to when: 5%@2m-7m
    #[arg(long, value_name = "SHARE@FROM-TO", value_parser = incident)]
    pub incident: Option<Incident>,
    /// Swings of the error rates from minute to minute, of both versions together or of each by itself: both:1.5, each:0.5
    #[arg(long, value_name = "both:CV|each:CV", value_parser = swings)]
    pub noise: Option<Swings>,
    /// Endpoints of stable that the daemon has watched for a day; from two on it has measured their noise
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub endpoints: u32,
    /// Requests of one session, which fail together; the proxy knows sessions and judges one request of each
    #[arg(long, value_name = "REQUESTS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub session: Option<u64>,
    /// Requests that fail together and are judged one by one, since nothing knows that they belong together
    #[arg(long, value_name = "REQUESTS", conflicts_with = "session", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub cluster: Option<u64>,
    /// How late counts are known, as from CloudWatch; live telemetry has none
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = seconds)]
    pub lag: f64,
    /// Time for which counts come together, as from CloudWatch
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = seconds)]
    pub period: f64,
    /// Rollouts of the policy with each release; under other systems' rules a fifth as many, but 50 where a fifth is less
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub runs: u64,
    /// Seed of chance
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// A rollout that is still at a step is given up after so long
    #[arg(long, value_name = "TIME", default_value = "6h", value_parser = seconds)]
    pub horizon: f64,
    /// Write a picture of the comparison as well
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

/// A latency that is given by itself or by stable's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Slowness {
    /// Milliseconds.
    MedianMs(f64),
    /// Times stable's.
    Times(f64),
}

type Read<T> = Result<T, String>;

fn rate(text: &str) -> Read<f64> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let rate = ratio(number).map_err(|_| "it is a number of requests in a second, such as 200/s".to_owned())?;
    if (0.001..=1_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("it lies between 0.001/s and 1000000/s".to_owned())
    }
}

fn errors(text: &str) -> Read<f64> {
    share(text).map_err(|error| format!("it {error}; a share is such as 0.1%"))
}

fn seconds(text: &str) -> Read<f64> {
    let span = duration(text).map_err(|error| format!("it {error}; a time is such as 90s or 5m"))?;
    Ok(span.0 as f64 / 1000.0)
}

fn milliseconds(text: &str) -> Read<f64> {
    let span = duration(text).map_err(|error| format!("it {error}; a latency is such as 50ms"))?;
    if span.0 == 0 { Err("a latency of 0 is none".to_owned()) } else { Ok(span.0 as f64) }
}

fn spread(text: &str) -> Read<f64> {
    let spread = ratio(text).map_err(|error| format!("it {error}"))?;
    if spread <= 3.0 { Ok(spread) } else { Err("it lies between 0 and 3".to_owned()) }
}

fn times(text: &str) -> Read<f64> {
    let times = ratio(text).map_err(|error| format!("the number behind x {error}"))?;
    if (0.01..=10_000.0).contains(&times) { Ok(times) } else { Err("x lies between 0.01 and 10000".to_owned()) }
}

fn slowness(text: &str) -> Read<Slowness> {
    match text.strip_prefix('x') {
        Some(number) => times(number).map(Slowness::Times),
        None => milliseconds(text).map(Slowness::MedianMs),
    }
}

fn slow_part(text: &str) -> Read<(f64, f64)> {
    let (part, number) = text.split_once('x').ok_or("it is a share and how many times slower, such as 3%x4")?;
    Ok((errors(part)?, times(number)?))
}

fn incident(text: &str) -> Read<Incident> {
    const FORM: &str = "it is a share, and from when to when, such as 5%@2m-7m";
    let (part, span) = text.split_once('@').ok_or(FORM)?;
    let (from, to) = span.split_once('-').ok_or(FORM)?;
    let incident = Incident { errors: errors(part)?, from_s: seconds(from)?, to_s: seconds(to)? };
    if incident.from_s < incident.to_s { Ok(incident) } else { Err("it ends before it begins".to_owned()) }
}

fn swings(text: &str) -> Read<Swings> {
    let (whose, cv) = text.split_once(':').ok_or("it is whose and how much, such as each:0.5")?;
    let private = match whose {
        "each" => true,
        "both" => false,
        _ => return Err("it begins with `each:` or `both:`".to_owned()),
    };
    let cv = ratio(cv).map_err(|error| format!("the number behind `{whose}:` {error}"))?;
    if cv <= 3.0 { Ok(Swings { cv, private }) } else { Err("it lies between 0 and 3".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worlds_are_read_in_the_units_of_policies() {
        assert_eq!((rate("50/s"), rate("0.5")), (Ok(50.0), Ok(0.5)));
        assert_eq!((slowness("x2"), slowness("100ms")), (Ok(Slowness::Times(2.0)), Ok(Slowness::MedianMs(100.0))));
        assert_eq!(slow_part("3%x4"), Ok((0.03, 4.0)));
        assert_eq!(incident("5%@2m-7m"), Ok(Incident { errors: 0.05, from_s: 120.0, to_s: 420.0 }));
        assert_eq!(swings("each:0.5"), Ok(Swings { cv: 0.5, private: true }));
        assert_eq!(swings("both:1.5"), Ok(Swings { cv: 1.5, private: false }));
    }

    #[test]
    fn what_is_no_world_is_refused_with_how_it_is_written() {
        for (refused, words) in [
            (rate("fast").map(drop), "200/s"),
            (rate("0/s").map(drop), "between"),
            (errors("0.1").map(drop), "has no unit"),
            (incident("5%@7m-2m").map(drop), "ends before"),
            (incident("5%").map(drop), "5%@2m-7m"),
            (swings("one:1").map(drop), "`each:`"),
            (slowness("0ms").map(drop), "is none"),
            (slow_part("3%").map(drop), "3%x4"),
            (spread("9").map(drop), "between 0 and 3"),
        ] {
            let error = refused.expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }
}
