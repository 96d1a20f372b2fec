//! Instants in a log (`%START_TIME%`, `%START_TIME(%s.%3f)%`), in UTC. Pure.

use crate::base::time::Timestamp;
use std::io::Write as _;

/// How an instant is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Seconds since 1970.
    Seconds,
    /// So many digits of the second's fraction.
    Fraction(usize),
    /// What the C library's `strftime` knows.
    Calendar(String),
}

impl Stamp {
    /// Reads `strftime` with Envoy's `%s`, `%f` and `%3f` (Envoy 1.40, page "Access logging", `%START_TIME%`). What is no
    /// directive stands as it is.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('%') {
            parts.push(Part::Text(before.to_owned()));
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = after.split_at(digits);
            let Some(directive) = tail.chars().next() else {
                parts.push(Part::Text(format!("%{number}")));
                return Self(parts);
            };
            rest = &tail[directive.len_utf8()..];
            parts.push(match (directive, number) {
                ('s', "") => Part::Seconds,
                ('f', "") => Part::Fraction(9),
                ('f', number) => Part::Fraction(number.parse().unwrap_or(9).min(9)),
                ('%', "") => Part::Text("%".to_owned()),
                _ => {
                    let directive = format!("%{number}{directive}");
                    // Tried once here, so that writing it cannot fail.
                    match calendar(&directive, Timestamp(0)) {
                        Some(_) => Part::Calendar(directive),
                        None => Part::Text(directive),
                    }
                }
            });
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        Self(parts)
    }

    /// Writes an instant.
    pub fn write(&self, instant: Timestamp, out: &mut Vec<u8>) {
        let (seconds, ms) = (instant.0.div_euclid(1000), instant.0.rem_euclid(1000));
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                // Writing to memory cannot fail.
                Part::Seconds => drop(write!(out, "{seconds}")),
                Part::Fraction(digits) => {
                    let nanoseconds = format!("{ms:03}000000");
                    out.extend_from_slice(&nanoseconds.as_bytes()[..*digits]);
                }
                Part::Calendar(directive) => {
                    out.extend_from_slice(calendar(directive, instant).unwrap_or_default().as_bytes());
                }
            }
        }
    }
}

fn calendar(directive: &str, instant: Timestamp) -> Option<String> {
    jiff::fmt::strtime::format(directive, jiff::Timestamp::from_millisecond(instant.0).ok()?).ok()
}

/// Instants as `2026-11-28T09:58:01.123Z`. Most lines of a second begin alike, so that much is kept.
#[derive(Debug, Default)]
pub struct Instants {
    second: Option<i64>,
    text: String,
}

impl Instants {
    /// Writes one.
    pub fn write(&mut self, instant: Timestamp, out: &mut Vec<u8>) {
        let (second, ms) = (instant.0.div_euclid(1000), instant.0.rem_euclid(1000));
        if self.second != Some(second) {
            self.text = instant.rfc3339();
            // `.123Z` is what differs within a second.
            self.text.truncate(self.text.len().saturating_sub(5));
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let digit = |n: i64| b'0' + u8::try_from(n % 10).unwrap_or(0);
        out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_envoy_writes_them() {
        let at = Timestamp(1_795_859_881_045);
        for (format, text) in [
            ("%Y/%m/%dT%H:%M:%S%z", "2026/11/28T09:58:01+0000"),
            ("%s.%3f", "1795859881.045"),
            ("%s.%9f", "1795859881.045000000"),
            ("%f", "045000000"),
            ("100%% %", "100% %"),
            ("%b %e", "Nov 28"),
            ("%K", "%K"),
        ] {
            let mut out = Vec::new();
            Stamp::read(format).write(at, &mut out);
            assert_eq!(String::from_utf8(out).expect("text"), text, "{format}");
        }
    }

    #[test]
    fn instants_of_one_second_and_of_the_next_are_each_whole() {
        let mut instants = Instants::default();
        for ms in [1_795_859_881_045, 1_795_859_881_999, 1_795_859_882_000, 1_795_859_881_001, -1] {
            let mut out = Vec::new();
            instants.write(Timestamp(ms), &mut out);
            assert_eq!(String::from_utf8(out).expect("text"), Timestamp(ms).rfc3339());
        }
    }
}
