//! The units of a policy file: `90s`, `0.1%`, `0.1pp`, `1.5`.
//!
//! Text in, number or reason out. Shares and differences are parsed by shifting the decimal point in the text, not by
//! dividing, so `0.1%` is exactly the number that `0.001` is. A number without its unit is an error and never a guess.

use crate::base::time::Millis;

/// Longest span that a policy may name: a typing error such as `5000h` must not become a wait of half a year.
pub const LONGEST: Millis = Millis(90 * 24 * 3_600_000);

/// Longest text of a number: more digits than a double holds carry no meaning.
const MAX_NUMBER_CHARS: usize = 24;

/// Why a text is not the quantity that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Does not begin with a plain number (no sign, no exponent).
    #[error("does not begin with a number")]
    NotANumber,
    /// A number alone.
    #[error("has no unit")]
    NoUnit,
    /// A number and something else.
    #[error("has the unit `{0}`, which is not one of {1}")]
    WrongUnit(String, &'static str),
    /// A unit where a plain number is asked for.
    #[error("is followed by `{0}`, and no unit is expected")]
    UnexpectedUnit(String),
    /// A fraction where only whole numbers are.
    #[error("is not a whole number of its unit")]
    Fraction,
    /// Beyond the bound, which is named.
    #[error("is more than {0}")]
    TooLarge(&'static str),
}

/// A span: whole `ms`, `s`, `m` or `h`, up to [`LONGEST`].
///
/// # Errors
/// Anything else, also a number without a unit.
pub fn duration(text: &str) -> Result<Millis, UnitError> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" => return Err(UnitError::NoUnit),
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        other => return Err(UnitError::WrongUnit(other.to_owned(), "`ms`, `s`, `m`, `h`")),
    };
    if number.contains('.') {
        return Err(UnitError::Fraction);
    }
    // Only digits are left, so the one way to fail is to be too large.
    let count: u64 = number.parse().map_err(|_| UnitError::TooLarge("2160h (90 days)"))?;
    match count.checked_mul(factor) {
        Some(ms) if ms <= LONGEST.0 => Ok(Millis(ms)),
        _ => Err(UnitError::TooLarge("2160h (90 days)")),
    }
}

/// A share such as `0.1%`, as a number from 0 to 1.
///
/// # Errors
/// Anything else, also percentage points, which say by how much two shares differ.
pub fn share(text: &str) -> Result<f64, UnitError> {
    hundredths(text, "%", "`%`", "100%")
}

/// A difference of two shares such as `0.1pp`, as a number from 0 to 1.
///
/// # Errors
/// Anything else, also `%`, which would leave open whether the difference or a factor is meant.
pub fn difference(text: &str) -> Result<f64, UnitError> {
    hundredths(text, "pp", "`pp` (percentage points)", "100pp")
}

/// A plain number such as `1.5`.
///
/// # Errors
/// Anything else: a sign, an exponent, a unit.
pub fn ratio(text: &str) -> Result<f64, UnitError> {
    match split(text)? {
        (number, "") => number.parse().map_err(|_| UnitError::NotANumber),
        (_, unit) => Err(UnitError::UnexpectedUnit(unit.to_owned())),
    }
}

fn hundredths(text: &str, unit: &str, units: &'static str, most: &'static str) -> Result<f64, UnitError> {
    let (number, found) = split(text)?;
    if found.is_empty() {
        return Err(UnitError::NoUnit);
    }
    if found != unit {
        return Err(UnitError::WrongUnit(found.to_owned(), units));
    }
    let value: f64 = format!("{number}e-2").parse().map_err(|_| UnitError::NotANumber)?;
    if value <= 1.0 { Ok(value) } else { Err(UnitError::TooLarge(most)) }
}

/// Splits `12.5pp` into `12.5` and `pp`; the number is digits with at most one point between digits.
fn split(text: &str) -> Result<(&str, &str), UnitError> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let well_formed = match number.split_once('.') {
        None => !number.is_empty(),
        Some((whole, fraction)) => !whole.is_empty() && !fraction.is_empty() && !fraction.contains('.'),
    };
    if well_formed && number.len() <= MAX_NUMBER_CHARS { Ok((number, unit)) } else { Err(UnitError::NotANumber) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities() {
        assert_eq!(duration("250ms"), Ok(Millis(250)));
        assert_eq!(duration("90s"), Ok(Millis(90_000)));
        assert_eq!(duration("5m"), Ok(Millis(300_000)));
        assert_eq!(duration("24h"), Ok(Millis(86_400_000)));
        assert_eq!(share("0.1%"), Ok(0.001));
        assert_eq!(share("100%"), Ok(1.0));
        assert_eq!(difference("1pp"), Ok(0.01));
        assert_eq!(difference("0.1pp"), Ok(0.001));
        assert_eq!(ratio("1"), Ok(1.0));
        assert_eq!(ratio("1.25"), Ok(1.25));
    }

    #[test]
    fn refusals_say_why() {
        for (result, message) in [
            (duration("10").map(drop), "has no unit"),
            (duration("1.5h").map(drop), "is not a whole number of its unit"),
            (duration("2d").map(drop), "has the unit `d`, which is not one of `ms`, `s`, `m`, `h`"),
            (duration("5 m").map(drop), "has the unit ` m`, which is not one of `ms`, `s`, `m`, `h`"),
            (duration("").map(drop), "does not begin with a number"),
            (duration("-5s").map(drop), "does not begin with a number"),
            (duration("99999999999999999999h").map(drop), "is more than 2160h (90 days)"),
            (duration("2161h").map(drop), "is more than 2160h (90 days)"),
            (share("1pp").map(drop), "has the unit `pp`, which is not one of `%`"),
            (share("101%").map(drop), "is more than 100%"),
            (share("1.2.3%").map(drop), "does not begin with a number"),
            (difference("1%").map(drop), "has the unit `%`, which is not one of `pp` (percentage points)"),
            (ratio("1.2x").map(drop), "is followed by `x`, and no unit is expected"),
            (ratio("1e9").map(drop), "is followed by `e9`, and no unit is expected"),
            (ratio(".5").map(drop), "does not begin with a number"),
        ] {
            assert_eq!(result.map_err(|error| error.to_string()), Err(message.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn displayed_spans_read_back(ms in 0..=LONGEST.0) {
            prop_assert_eq!(duration(&Millis(ms).to_string()), Ok(Millis(ms)));
        }

        #[test]
        fn round_spans_read_back(count in 0_u64..=2160, unit in prop::sample::select(vec![1, 1000, 60_000, 3_600_000])) {
            let span = Millis(count * unit);
            prop_assert_eq!(duration(&span.to_string()), Ok(span));
        }

        #[test]
        fn a_share_is_the_decimal_that_was_written(millionths in 0_u32..=1_000_000) {
            let percents = format!("{}.{:04}", millionths / 10_000, millionths % 10_000);
            let exact: f64 = format!("{millionths}e-6").parse().unwrap();
            prop_assert_eq!(share(&format!("{percents}%")), Ok(exact));
            prop_assert_eq!(difference(&format!("{percents}pp")), Ok(exact));
        }

        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            let _ = (duration(&text), share(&text), difference(&text), ratio(&text));
        }
    }
}
