//! Which requests are traced: AWS X-Ray's local rules, version 2 (AWS X-Ray Developer Guide, "Sampling rules", and Envoy 1.40,
//! `XRayConfig.sampling_rule_manifest`). Pure, but for the counters of each rule.

use serde::Deserialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rules that one may have; each is looked at for each request.
const MOST_RULES: usize = 100;

/// Rules, the first that fits counts.
#[derive(Debug)]
pub struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    host: String,
    method: String,
    path: String,
    /// So many a second are traced at least.
    fixed_target: u32,
    /// Of those beyond, this share, as a bound for a random number.
    rate: u64,
    /// The second, in the upper half, and how many of it were taken.
    taken: AtomicU64,
}

#[derive(Deserialize)]
struct Manifest {
    version: u32,
    #[serde(default)]
    rules: Vec<Wanted>,
    default: Wanted,
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default = "any")]
    host: String,
    #[serde(default = "any")]
    http_method: String,
    #[serde(default = "any")]
    url_path: String,
    fixed_target: u32,
    rate: f64,
}

fn any() -> String {
    "*".to_owned()
}

impl Rule {
    fn new(wanted: Wanted) -> Result<Self, String> {
        let Wanted { host, http_method: method, url_path: path, fixed_target, rate } = wanted;
        if !(0.0..=1.0).contains(&rate) {
            return Err(format!("rate is {rate}; it is a share from 0 to 1, such as 0.05"));
        }
        // Rounded to what a random number of 64 bits can be compared with.
        let rate = if rate >= 1.0 { u64::MAX } else { (rate * 2_f64.powi(64)) as u64 };
        Ok(Self { host, method, path, fixed_target, rate, taken: AtomicU64::new(0) })
    }

    /// Whether this second's first ones are not all taken yet.
    fn takes_first(&self, second: u64) -> bool {
        let second = second & 0xffff_ffff;
        let take = |taken: u64| {
            let count = if taken >> 32 == second { taken & 0xffff_ffff } else { 0 };
            (count < u64::from(self.fixed_target)).then_some(second << 32 | (count + 1))
        };
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

impl Rules {
    /// One for all requests: the first of each second, and a share (0.0 to 1.0) of those beyond.
    ///
    /// # Errors
    /// The share is none.
    pub fn share(rate: f64) -> Result<Self, String> {
        Rule::new(Wanted { host: any(), http_method: any(), url_path: any(), fixed_target: 1, rate })
            .map(|rule| Self(vec![rule]))
    }

    /// Those of a manifest.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(json: &str) -> Result<Self, String> {
        let manifest: Manifest = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if manifest.version != 2 {
            return Err(format!("version is {}; only 2 is known", manifest.version));
        }
        if manifest.rules.len() > MOST_RULES {
            return Err(format!("there are {} rules; {MOST_RULES} are the most", manifest.rules.len()));
        }
        let all = manifest.rules.into_iter().chain([manifest.default]);
        all.map(Rule::new).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request is traced that comes in this second and nobody has decided on. `chance` is uniform.
    #[must_use]
    pub fn take(&self, (host, method, path): (&str, &str, &str), second: u64, chance: u64) -> bool {
        let fits = |rule: &&Rule| fits(&rule.host, host) && fits(&rule.method, method) && fits(&rule.path, path);
        self.0.iter().find(fits).is_some_and(|rule| rule.takes_first(second) || chance < rule.rate)
    }
}

/// Whether a pattern with `*` and `?` is met, in whatever case.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read, mut star) = (0, 0, None);
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted.eq_ignore_ascii_case(&text[read]) => {
                at += 1;
                read += 1;
            }
            _ => {
                // The last star takes one more.
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, read) = (star_at + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: (&str, &str, &str) = ("shop.local", "GET", "/a/b");

    #[test]
    fn the_first_of_each_second_is_taken_and_a_share_of_the_rest() {
        let rules = Rules::share(0.25).expect("a share");
        assert!(rules.take(REQUEST, 7, u64::MAX), "the first");
        assert!(!rules.take(REQUEST, 7, u64::MAX / 4 + 1));
        assert!(rules.take(REQUEST, 7, u64::MAX / 4 - 1));
        assert!(rules.take(REQUEST, 8, u64::MAX), "the first of the next second");
        let none = Rules::share(0.0).expect("a share");
        assert!(none.take(REQUEST, 1, 0) && !none.take(REQUEST, 1, 0));
        assert!(Rules::share(1.5).is_err());
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = Rules::read(
            r#"{"version": 2, "default": {"fixed_target": 0, "rate": 1},
                "rules": [{"host": "*.local", "http_method": "g?t", "url_path": "/a/*", "fixed_target": 0, "rate": 0}]}"#,
        )
        .expect("good");
        assert!(!rules.take(REQUEST, 1, 0));
        assert!(rules.take(("shop.local", "GET", "/b"), 1, 0));
        assert!(rules.take(("shop.other", "GET", "/a/b"), 1, 0));
    }

    #[test]
    fn what_is_wrong_with_a_manifest_is_said() {
        for (text, reason) in [
            ("{", "EOF"),
            (r#"{"version": 1, "default": {"fixed_target": 1, "rate": 0}}"#, "version is 1"),
            (r#"{"version": 2, "default": {"fixed_target": 1, "rate": 2}}"#, "rate is 2"),
        ] {
            let error = Rules::read(text).expect_err(text);
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn stars_and_question_marks_stand_for_others() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("*b*", "abc", true),
            ("?", "", false),
            ("A?c", "aBC", true),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern, text), wanted, "{pattern} {text}");
        }
    }
}
