//! What stable did before a rollout began, as far as it is known: how its errors scattered over its endpoints, and how
//! many there were. Part of the first input, so that the same journal gives the same verdicts.

use crate::judge::noise::{AaBlock, LEAST_BLOCKS, Noise, dispersion_from_aa};
use serde::{Deserialize, Serialize};

/// Errors of one minute that say anything about noise: with a single one nothing hangs together.
const TELLING_ERRORS: u64 = 2;

/// What is known of stable's last minutes and hours.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Past {
    /// Noise between its endpoints; absent where nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<MeasuredNoise>,
    /// What it did in the last ten minutes; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<PastErrors>,
    /// Proxies that served the route when the rollout began; 0 where nobody looked.
    #[serde(default, skip_serializing_if = "has_none")]
    pub proxies: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde hands over")]
const fn has_none(proxies: &u32) -> bool {
    *proxies == 0
}

/// Requests of stable and how many of them failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastErrors {
    /// All judged requests.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
}

/// Noise between the endpoints of stable, measured over the last day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MeasuredNoise {
    /// What to allow for: squared coefficient of variation of one endpoint's own factor; the value that it exceeds with a
    /// chance of 1 in 10. 0 where too little was seen.
    pub v: f64,
    /// Errors of one cause; 1 where too little was seen.
    pub phi: f64,
    /// Minutes in which errors on two endpoints could be compared.
    pub minutes: u32,
    /// Most endpoints at a time.
    pub endpoints: u32,
}

/// What the endpoints of one version did in a minute. Endpoints are paired, always the same two while they are there:
/// that is the noise of a version with one endpoint, which is the most that one has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EndpointMinute {
    /// Requests of all endpoints.
    #[serde(rename = "n")]
    pub requests: u64,
    /// Those of them that failed.
    #[serde(rename = "k", default, skip_serializing_if = "is_zero")]
    pub errors: u64,
    /// Endpoints that had a request.
    #[serde(rename = "e")]
    pub endpoints: u32,
    /// Of each pair with an error: errors of the first and of the second, and the first's part of the requests in
    /// millionths.
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<(u32, u32, u32)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde hands over")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Past {
    /// Whether nothing is known.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.noise.is_none() && self.stable.is_none() && self.proxies == 0
    }
}

impl MeasuredNoise {
    /// By the minutes of a day, in any order.
    #[must_use]
    pub fn of<'a>(minutes: impl Iterator<Item = &'a EndpointMinute>) -> Self {
        let (mut blocks, mut telling, mut endpoints) = (Vec::new(), 0_u32, 0);
        for minute in minutes {
            endpoints = endpoints.max(minute.endpoints);
            let errors = |(first, second, _): &(u32, u32, u32)| u64::from(*first) + u64::from(*second);
            telling += u32::from(minute.pairs.iter().any(|pair| errors(pair) >= TELLING_ERRORS));
            blocks.extend(minute.pairs.iter().map(|(first, second, share_ppm)| AaBlock {
                first_errors: u64::from(*first),
                second_errors: u64::from(*second),
                first_share: f64::from(*share_ppm) / 1e6,
            }));
        }
        let enough = endpoints >= 2 && telling as usize >= LEAST_BLOCKS;
        let found = dispersion_from_aa(&blocks).filter(|_| enough);
        let (v, phi) = found.map_or((0.0, 1.0), |found| (rounded_up(found.upper_v), rounded_up(found.phi)));
        Self { v, phi, minutes: telling, endpoints }
    }

    /// Whether there was enough to measure by.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.endpoints >= 2 && self.minutes as usize >= LEAST_BLOCKS
    }

    /// As an allowance.
    #[must_use]
    pub const fn allowance(&self) -> Noise {
        Noise::new(self.v, self.phi)
    }
}

/// Six digits behind the point: more would only be noise of the measurement.
fn rounded_up(value: f64) -> f64 {
    (value * 1e6).ceil() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute of two endpoints that share the requests.
    fn minute(first: u32, second: u32) -> EndpointMinute {
        let pairs = if first + second > 0 { vec![(first, second, 500_000)] } else { Vec::new() };
        EndpointMinute { requests: 6000, errors: u64::from(first + second), endpoints: 2, pairs }
    }

    #[test]
    fn too_little_to_measure_by_is_no_noise_and_known_as_such() {
        let wild = |count: u32| (0..count).map(|i| if i % 2 == 0 { minute(60 + i, 2) } else { minute(1, 20 + i) });
        let few: Vec<_> = wild(29).chain((0..200).map(|_| minute(1, 0))).collect();
        let measured = MeasuredNoise::of(few.iter());
        assert_eq!((measured.v, measured.phi, measured.minutes, measured.is_known()), (0.0, 1.0, 29, false));
        let alone: Vec<_> =
            wild(100).map(|minute| EndpointMinute { endpoints: 1, pairs: Vec::new(), ..minute }).collect();
        let measured = MeasuredNoise::of(alone.iter());
        assert_eq!((measured.v, measured.endpoints, measured.is_known()), (0.0, 1, false));
        let enough: Vec<_> = wild(30).collect();
        let measured = MeasuredNoise::of(enough.iter());
        assert!(measured.is_known() && measured.v > 0.1 && !measured.allowance().is_none(), "{measured:?}");
    }

    #[test]
    fn a_minute_is_kept_in_few_bytes_and_read_back() {
        let kept = serde_json::to_string(&minute(3, 1)).unwrap();
        assert_eq!(kept, r#"{"n":6000,"k":4,"e":2,"p":[[3,1,500000]]}"#);
        assert_eq!(serde_json::from_str::<EndpointMinute>(&kept).unwrap(), minute(3, 1));
        assert_eq!(serde_json::to_string(&minute(0, 0)).unwrap(), r#"{"n":6000,"e":2}"#);
    }
}
