//! A picture of numbers that differ by orders of magnitude: bars on a logarithmic scale, as SVG.

use super::question::Answer;
use super::text::{number, seconds};
use std::fmt::Write;

/// Width of the picture in pixels; the bars have what the names and numbers leave.
const WIDTH: f64 = 860.0;
const NAMES: f64 = 250.0;
const NUMBERS: f64 = 90.0;
/// Height of a bar with its gap.
const ROW: f64 = 26.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 34.0;
/// Numbers up to this are drawn as this: a logarithm has no end below.
const LEAST: f64 = 0.5;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it is of.
    pub name: String,
    /// How long it is.
    pub value: f64,
    /// The value in words.
    pub label: String,
    /// How it is drawn.
    pub kind: Kind,
}

/// How a bar is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What it is about.
    Own,
    /// What it is compared with.
    Other,
    /// What is possible.
    Limit,
}

impl Kind {
    const fn colour(self) -> &'static str {
        match self {
            Self::Own => "#0f766e",
            Self::Other => "#9ca3af",
            Self::Limit => "#d97706",
        }
    }
}

/// The picture of an answer: failed requests of the bad release, or the time to promote where there is none.
#[must_use]
pub fn answer(answer: &Answer) -> String {
    let kind = |index: usize| if index == 0 { Kind::Own } else { Kind::Other };
    let rules = answer.rules.iter().enumerate();
    if answer.rules.iter().any(|rule| rule.bad.is_some()) {
        let bars = rules.filter_map(|(index, rule)| {
            let value = rule.bad.as_ref()?.mean_failed();
            Some(Bar { name: rule.name.clone(), value, label: number(value), kind: kind(index) })
        });
        let limit = answer.limits.as_ref().map(|limits| Bar {
            name: "least possible (Wald)".to_owned(),
            value: limits.informed,
            label: number(limits.informed),
            kind: Kind::Limit,
        });
        let bars: Vec<Bar> = limit.into_iter().chain(bars).collect();
        return bars_svg("Failed requests until the bad release is rolled back or promoted, mean", &bars);
    }
    let bars = rules.filter_map(|(index, rule)| {
        let value = rule.healthy.promote_s?.median;
        Some(Bar { name: rule.name.clone(), value, label: seconds(value), kind: kind(index) })
    });
    bars_svg("Time until a release that is no worse has all the traffic, median", &bars.collect::<Vec<_>>())
}

/// Bars beside each other, the scale logarithmic from a half on.
#[must_use]
pub fn bars_svg(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.value).filter(|value| value.is_finite()).fold(10.0, f64::max);
    let decades = most.log10().ceil();
    let span = WIDTH - NAMES - NUMBERS;
    let x = |value: f64| {
        let value = if value.is_finite() { value.max(LEAST) } else { LEAST };
        NAMES + (value / LEAST).log10() / (decades - LEAST.log10()) * span
    };
    let height = TOP + bars.len() as f64 * ROW + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" role=\"img\">\n<title>{title}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"28\" font-size=\"16\" font-weight=\"600\" fill=\"#111827\">{title}</text>\n",
        title = escaped(title)
    );
    for decade in 0..=decades as i32 {
        let value = 10_f64.powi(decade);
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#e5e7eb\"/><text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" \
             fill=\"#6b7280\">{value}</text>",
            x = x(value),
            top = TOP - 12.0,
            bottom = height - BOTTOM,
            y = height - BOTTOM + 20.0
        );
    }
    for (index, bar) in bars.iter().enumerate() {
        let y = TOP + index as f64 * ROW;
        let end = x(bar.value);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#111827\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" rx=\"2\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{}\" fill=\"#111827\">{}</text>",
            NAMES - 10.0,
            y + 14.0,
            escaped(&bar.name),
            end - NAMES,
            ROW - 8.0,
            bar.kind.colour(),
            end + 6.0,
            y + 14.0,
            escaped(&bar.label)
        );
    }
    svg + "</svg>\n"
}

/// Text of a file is not trusted to be none of the picture's markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(name: &str, value: f64, kind: Kind) -> Bar {
        Bar { name: name.to_owned(), value, label: number(value), kind }
    }

    #[test]
    fn a_bar_is_as_long_as_its_logarithm() {
        let svg = bars_svg("t", &[bar("a", 10.0, Kind::Own), bar("b", 1000.0, Kind::Other)]);
        // From 0.5 to 1,000 are 3.301 decades on 520 units.
        assert!(svg.contains("width=\"204.9\"") && svg.contains("width=\"520.0\""), "{svg}");
    }

    #[test]
    fn names_are_text_and_odd_values_are_drawn() {
        let svg = bars_svg("a & b", &[bar("<script>", f64::NAN, Kind::Limit), bar("0", 0.0, Kind::Own)]);
        assert!(svg.contains("&lt;script&gt;") && svg.contains("a &amp; b") && !svg.contains("<script>"));
        assert!(svg.contains("width=\"0.0\"") && !svg.contains("x=\"NaN\""));
    }
}
