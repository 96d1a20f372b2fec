//! Whether an endpoint counts as healthy, from the results of its checks. Pure.
//!
//! An endpoint is used until it has failed `unhealthy_threshold` checks in a row. Envoy would leave it out until its
//! first check passed; here that would answer 503 for a whole interval after each start and each new task, and a
//! release is in any case judged by the requests that it serves, with retries on another endpoint in between.

/// Consecutive results that turn an endpoint over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Good checks in a row that make an unhealthy endpoint healthy.
    pub healthy: u32,
    /// Bad checks in a row that make a healthy endpoint unhealthy.
    pub unhealthy: u32,
}

/// One endpoint's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    healthy: bool,
    /// Results in a row that speak against the present state.
    against: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { healthy: true, against: 0 }
    }
}

impl Health {
    /// Whether requests are sent to it.
    #[must_use]
    pub const fn is_healthy(self) -> bool {
        self.healthy
    }

    /// The state after one more check.
    #[must_use]
    pub fn after(self, passed: bool, thresholds: Thresholds) -> Self {
        if passed == self.healthy {
            return Self { against: 0, ..self };
        }
        let against = self.against + 1;
        // A threshold of 0 makes no sense and is read as 1.
        let needed = if self.healthy { thresholds.unhealthy } else { thresholds.healthy }.max(1);
        if against >= needed { Self { healthy: passed, against: 0 } } else { Self { against, ..self } }
    }
}

/// Indexes of the endpoints to use. When fewer than half are healthy all are used (Envoy's panic threshold of 50 %):
/// then the checks are more likely to be wrong than that few endpoints are to bear the whole load.
#[must_use]
pub fn usable(healthy: &[bool]) -> Vec<u32> {
    let count = healthy.iter().filter(|healthy| **healthy).count();
    let panic = count * 2 < healthy.len();
    (0_u32..).zip(healthy).filter(|(_, healthy)| **healthy || panic).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_a_run_of_results_to_turn_over() {
        let thresholds = Thresholds { healthy: 2, unhealthy: 3 };
        // One letter a check: p(assed) or f(ailed); then what the endpoint is.
        for (results, healthy) in [
            ("", true),
            ("ff", true),
            ("fff", false),
            ("ffpff", true),
            ("fffp", false),
            ("fffpp", true),
            ("fffpfp", false),
            ("fffppff", true),
            ("fffppfff", false),
        ] {
            let after = results.chars().fold(Health::default(), |state, result| state.after(result == 'p', thresholds));
            assert_eq!(after.is_healthy(), healthy, "{results}");
        }
        let zero = Thresholds { healthy: 0, unhealthy: 0 };
        assert!(!Health::default().after(false, zero).is_healthy());
    }

    #[test]
    fn fewer_than_half_healthy_is_a_panic() {
        let (t, f) = (true, false);
        for (healthy, used) in [
            (&[t, t, f][..], &[0, 1][..]),
            (&[t, f], &[0]),
            (&[f, t, f], &[0, 1, 2]),
            (&[f], &[0]),
            (&[f, f, t, t], &[2, 3]),
            (&[], &[]),
        ] {
            assert_eq!(usable(healthy), used, "{healthy:?}");
        }
    }
}
