//! Which trace a request belongs to, in the headers of AWS X-Ray and of the W3C. Pure.
//!
//! Both name a trace by 128 bits: X-Ray writes them as `1-5759e988-bd862e3fe1be46a994272793` (AWS X-Ray, "Trace ID format"),
//! the W3C as 32 digits (Trace Context, section 3.2), so one stands for the other.

/// What a request says of its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace; its upper 32 bits are the second since 1970 in which it began.
    pub trace: u128,
    /// The span that the request comes from.
    pub parent: Option<u64>,
    /// Whether it is to be traced; `None` leaves that to whoever gets it.
    pub sampled: Option<bool>,
}

impl Context {
    /// Reads `X-Amzn-Trace-Id`; `None` where it names no trace.
    #[must_use]
    pub fn of_xray(text: &str) -> Option<Self> {
        let mut context = Self { trace: 0, parent: None, sampled: None };
        for (name, value) in text.split(';').filter_map(|part| part.trim().split_once('=')) {
            match name {
                "Root" | "Self" if context.trace != 0 && name == "Self" => {}
                "Root" => context.trace = root(value)?,
                "Parent" => context.parent = span(value),
                "Sampled" => {
                    context.sampled =
                        [("1", true), ("0", false)].iter().find(|(word, _)| *word == value).map(|found| found.1)
                }
                _ => {}
            }
        }
        (context.trace != 0).then_some(context)
    }

    /// Reads `traceparent`; `None` for one that is malformed, which counts as none (Trace Context, section 4.3).
    #[must_use]
    pub fn of_w3c(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_known = version == "00";
        if hex(version, 2)? == 0xff || (is_known && parts.next().is_some()) {
            return None;
        }
        let (trace, parent, flags) = (hex(trace, 32)?, span(parent)?, hex(flags, 2)?);
        (trace != 0).then_some(Self { trace, parent: Some(parent), sampled: Some(flags & 1 == 1) })
    }
}

/// Lower-case hexadecimal digits, so many.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let good = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'));
    if good { u128::from_str_radix(text, 16).ok() } else { None }
}

fn root(text: &str) -> Option<u128> {
    let (second, rest) = text.strip_prefix("1-")?.split_once('-')?;
    Some(hex(second, 8)? << 96 | hex(rest, 24)?)
}

/// A span's number; 0 is none.
fn span(text: &str) -> Option<u64> {
    hex(text, 16).and_then(|span| u64::try_from(span).ok()).filter(|span| *span != 0)
}

/// A trace as X-Ray writes it.
#[must_use]
pub fn xray_id(trace: u128) -> String {
    let digits = format!("{trace:032x}");
    let (second, rest) = digits.split_at(8);
    format!("1-{second}-{rest}")
}

/// `X-Amzn-Trace-Id` for the next hop.
#[must_use]
pub fn xray_header(trace: u128, span: u64, sampled: bool) -> String {
    format!("Root={};Parent={span:016x};Sampled={}", xray_id(trace), u8::from(sampled))
}

/// `traceparent` for the next hop.
#[must_use]
pub fn w3c_header(trace: u128, span: u64, sampled: bool) -> String {
    format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled))
}

/// A new trace that begins in this second, from two random numbers.
#[must_use]
pub fn new_trace(second: u64, [high, low]: [u64; 2]) -> u128 {
    let random = (u128::from(high) << 64 | u128::from(low)) & ((1 << 96) - 1);
    u128::from(second & 0xffff_ffff) << 96 | random
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x5759_e988_bd86_2e3f_e1be_46a9_9427_2793;

    #[test]
    fn xrays_header_is_read_and_written() {
        let whole = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let context = Context { trace: TRACE, parent: Some(0x5399_5c3f_42cd_8ad8), sampled: Some(true) };
        assert_eq!(Context::of_xray(whole), Some(context));
        assert_eq!(xray_header(TRACE, 0x5399_5c3f_42cd_8ad8, true), whole);
        let balancer = "Self=1-67891234-12456789abcdef012345678;Root=1-5759e988-bd862e3fe1be46a994272793";
        assert_eq!(Context::of_xray(balancer), Some(Context { parent: None, sampled: None, ..context }));
        let open = "Root=1-5759e988-bd862e3fe1be46a994272793; Sampled=?; Lineage=x";
        assert_eq!(Context::of_xray(open).and_then(|context| context.sampled), None);
        for wrong in [
            "",
            "Root=",
            "Root=2-5759e988-bd862e3fe1be46a994272793",
            "Root=1-5759e98-bd862e3fe1be46a994272793",
            "Parent=1",
        ] {
            assert_eq!(Context::of_xray(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_w3cs_header_is_read_and_written() {
        let whole = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";
        let context = Context { trace: TRACE, parent: Some(0x5399_5c3f_42cd_8ad8), sampled: Some(true) };
        assert_eq!(Context::of_w3c(whole), Some(context));
        assert_eq!(w3c_header(TRACE, 0x5399_5c3f_42cd_8ad8, true), whole);
        // A later version may say more behind.
        assert_eq!(Context::of_w3c("cc-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01-what"), Some(context));
        for wrong in [
            "",
            "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01-what",
            "ff-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01",
            "00-00000000000000000000000000000000-53995c3f42cd8ad8-01",
            "00-5759e988bd862e3fe1be46a994272793-0000000000000000-01",
            "00-5759E988BD862E3FE1BE46A994272793-53995c3f42cd8ad8-01",
            "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8",
        ] {
            assert_eq!(Context::of_w3c(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_new_trace_says_when_it_began() {
        assert_eq!(xray_id(new_trace(0x5759_e988, [u64::MAX, 1])), "1-5759e988-ffffffff0000000000000001");
    }
}
