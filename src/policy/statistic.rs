//! Statistics of CloudWatch, by its user guide ("CloudWatch statistics definitions"): plain ones, percentiles, and those
//! over a part of the values: trimmed and winsorized means, trimmed counts and sums, the interquartile mean, ranks.

use super::table::TextRule;

/// Of one metric.
pub(super) static STATISTIC: TextRule = TextRule {
    says: "`Average`, `Sum`, `Minimum`, `Maximum`, `SampleCount`, a percentile such as `p99` or `p99.9`, or a trimmed \
           statistic such as `tm90`, `TM(10%:90%)` or `IQM`",
    pattern: r"^(Average|Sum|Minimum|Maximum|SampleCount|IQM|p100|(p|tm|wm|tc|ts)[0-9]{1,2}(\.[0-9]{1,2})?|(TM|WM|TC|TS)\(((100|[0-9]{1,2}(\.[0-9]{1,2})?)%:((100|[0-9]{1,2}(\.[0-9]{1,2})?)%)?|:(100|[0-9]{1,2}(\.[0-9]{1,2})?)%)\)|(TM|WM|TC|TS|PR)\(([0-9]{1,12}(\.[0-9]{1,6})?:([0-9]{1,12}(\.[0-9]{1,6})?)?|:[0-9]{1,12}(\.[0-9]{1,6})?)\))$",
    holds: is_statistic,
};

fn is_statistic(text: &str) -> bool {
    if matches!(text, "Average" | "Sum" | "Minimum" | "Maximum" | "SampleCount" | "IQM" | "p100") {
        return true;
    }
    let short = ["p", "tm", "wm", "tc", "ts"].iter().find_map(|name| text.strip_prefix(name));
    if short.is_some_and(|part| is_decimal(part, 2, 2)) {
        return true;
    }
    let Some((name, bounds)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else { return false };
    let is_trimmed = matches!(name, "TM" | "WM" | "TC" | "TS");
    let Some((low, high)) = bounds.split_once(':').filter(|_| is_trimmed || name == "PR") else { return false };
    let both = |is_bound: fn(&str) -> bool| {
        let each = |bound: &str| bound.is_empty() || is_bound(bound);
        each(low) && each(high) && !(low.is_empty() && high.is_empty())
    };
    both(|bound| is_decimal(bound, 12, 6)) || is_trimmed && both(is_percentage)
}

fn is_percentage(text: &str) -> bool {
    text.strip_suffix('%').is_some_and(|part| part == "100" || is_decimal(part, 2, 2))
}

/// Up to so many digits, and as many after a point, if there is one.
fn is_decimal(text: &str, whole: usize, fraction: usize) -> bool {
    let digits = |part: &str, most| (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once('.') {
        Some((before, after)) => digits(before, whole) && digits(after, fraction),
        None => digits(text, whole),
    }
}

/// Whether a statistic's value is in its metric's unit: counts of values and ranks are not.
pub(super) fn keeps_unit(stat: &str) -> bool {
    stat != "SampleCount" && !["tc", "TC", "PR"].iter().any(|name| stat.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_those_of_cloudwatch() {
        for good in [
            "Average",
            "SampleCount",
            "IQM",
            "p5",
            "p99",
            "p99.9",
            "p99.99",
            "p100",
            "tm99",
            "tm99.5",
            "wm98",
            "tc90",
            "ts90",
            "TM(10%:90%)",
            "TM(2.5%:)",
            "WM(:98%)",
            "TC(0%:100%)",
            "TS(80%:)",
            "TM(150:1000)",
            "PR(:300)",
            "PR(100:2000.5)",
        ] {
            assert!((STATISTIC.holds)(good), "{good}");
        }
        for bad in [
            "",
            "average",
            "p",
            "p101",
            "p99.",
            "p99.999",
            "tm",
            "tm100",
            "iqm",
            "TM",
            "TM()",
            "TM(:)",
            "TM(10%:90)",
            "PR(10%:90%)",
            "TM(10%:101%)",
            "TM(1:2",
            "XX(1:2)",
            "TM(1:2)x",
            "TM(-1:2)",
            "p9 9",
            "tm90%",
        ] {
            assert!(!(STATISTIC.holds)(bad), "{bad}");
        }
    }

    #[test]
    fn counts_and_ranks_are_in_no_unit_of_the_metric() {
        assert!(["Average", "p99", "tm90", "TM(:90%)", "IQM", "ts90"].into_iter().all(keeps_unit));
        assert!(!["SampleCount", "tc90", "TC(:90%)", "PR(:300)"].into_iter().any(keeps_unit));
    }
}
