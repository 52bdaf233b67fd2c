//! Which requests are traced, and how their context goes from one program to the next (W3C Trace Context,
//! 2021). Nothing is recorded here, and chance is an argument.

use std::borrow::Cow;
use std::fmt::Write;

/// One span of one trace, as `traceparent` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Never 0.
    pub trace: u128,
    /// Never 0.
    pub span: u64,
    /// Its writer records it.
    pub sampled: bool,
}

impl Context {
    /// Of a header's value; `None` where it says nothing that can be followed, which begins a trace of its
    /// own. Later versions may say more behind a further dash (section 3.2.4).
    pub fn parse(value: &[u8]) -> Option<Context> {
        let (fixed, rest) = value.split_at_checked(LENGTH)?;
        let is_divided = fixed[2] == b'-' && fixed[35] == b'-' && fixed[52] == b'-';
        let version = hex(&fixed[..2])?;
        let is_known = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let (trace, span) = (hex(&fixed[3..35])?, u64::try_from(hex(&fixed[36..52])?).ok()?);
        let flags = hex(&fixed[53..])?;
        let context = Context { trace, span, sampled: flags & 1 == 1 };
        (is_divided && is_known && trace != 0 && span != 0).then_some(context)
    }

    /// Of a field that a message in JSON has for it: the value itself, or an object with it as `traceparent`.
    pub fn of_json(json: &str) -> Option<Context> {
        #[derive(serde::Deserialize)]
        struct Carrier<'c> {
            #[serde(borrow)]
            traceparent: Cow<'c, str>,
        }
        let text = match json.trim_start().starts_with('{') {
            true => serde_json::from_str::<Carrier<'_>>(json).ok()?.traceparent,
            false => serde_json::from_str::<Cow<'_, str>>(json).ok()?,
        };
        Context::parse(text.as_bytes())
    }

    /// As a header's value.
    pub fn to_text(self) -> String {
        let mut text = String::with_capacity(LENGTH);
        let flags = u8::from(self.sampled);
        write!(text, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
            .expect("a buffer takes what is written");
        text
    }
}

/// Small letters only (section 2.2).
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// Who decides whether a request is traced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Who comes with a context has decided already.
    pub heeds_parent: bool,
    /// Of the others.
    pub share: Share,
}

/// Of all traces.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    All,
    None,
    /// 0 to 1.
    Of(f64),
}

impl Sampler {
    /// By the name and the argument that `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` have.
    ///
    /// # Errors
    /// What they should be.
    pub fn parse(name: &str, argument: Option<&str>) -> Result<Sampler, &'static str> {
        let (heeds_parent, kind) = match name.strip_prefix("parentbased_") {
            Some(kind) => (true, kind),
            None => (false, name),
        };
        let share = match kind {
            "always_on" => Share::All,
            "always_off" => Share::None,
            "traceidratio" => match argument.unwrap_or("1").parse() {
                Ok(share) if (0.0..=1.0).contains(&share) => Share::Of(share),
                _ => return Err("needs OTEL_TRACES_SAMPLER_ARG to be a number from 0 to 1"),
            },
            _ => {
                return Err("is none of always_on, always_off, traceidratio, nor one of them behind \
                            parentbased_");
            }
        };
        Ok(Sampler { heeds_parent, share })
    }

    /// Whether a request is traced. `trace`: its trace, new or its caller's; programs that draw the same
    /// share of it draw the same traces.
    pub fn is_sampled(self, parent: Option<Context>, trace: u128) -> bool {
        match (parent, self.share) {
            (Some(parent), _) if self.heeds_parent => parent.sampled,
            (_, Share::All) => true,
            (_, Share::None) => false,
            // The low 63 bits, as OpenTelemetry's own samplers do it.
            (_, Share::Of(share)) => ((trace as u64) >> 1) < (share * (1_u64 << 63) as f64) as u64,
        }
    }
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { heeds_parent: true, share: Share::All }
    }
}

/// Two digits of version, 32 of trace, 16 of span, two of flags, and dashes.
const LENGTH: usize = 55;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_standard_is_read_and_written_again() {
        let context = Context::parse(GIVEN.as_bytes()).unwrap();
        assert_eq!((context.span, context.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.to_text(), GIVEN);
    }

    #[test]
    fn a_field_of_a_message_holds_it_or_an_object_with_it() {
        let context = Context::parse(GIVEN.as_bytes());
        for json in
            [format!("\"{GIVEN}\""), format!(" {{\"tracestate\":\"a=b\",\"traceparent\":\"{GIVEN}\"}}")]
        {
            assert_eq!(Context::of_json(&json), context, "{json}");
        }
        for json in ["null", "7", "{}", "[]", "\"x\"", "{\"traceparent\":7}", "", GIVEN] {
            assert_eq!(Context::of_json(json), None, "{json}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_none() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        let longer = format!("{GIVEN}-x");
        let forbidden = GIVEN.replacen("00", "ff", 1);
        let wrong =
            ["", "00", &zero_trace, &zero_span, &longer, &forbidden, &GIVEN.to_uppercase(), &GIVEN[..54]];
        for value in wrong {
            assert_eq!(Context::parse(value.as_bytes()), None, "{value}");
        }
        let later = longer.replacen("00", "01", 1);
        assert!(Context::parse(later.as_bytes()).is_some(), "a later version may say more");
        assert_eq!(Context::parse(later.replace("-x", "x").as_bytes()), None);
    }

    #[test]
    fn a_sampler_is_read_by_its_name() {
        let named = |name, argument| Sampler::parse(name, argument);
        assert_eq!(named("parentbased_always_on", None), Ok(Sampler::default()));
        assert_eq!(named("always_off", None), Ok(Sampler { heeds_parent: false, share: Share::None }));
        let half = Sampler { heeds_parent: true, share: Share::Of(0.5) };
        assert_eq!(named("parentbased_traceidratio", Some("0.5")), Ok(half));
        assert!(named("traceidratio", Some("2")).is_err());
        assert!(named("sometimes", None).is_err());
    }

    #[test]
    fn a_parent_decides_where_it_is_heeded_and_a_share_is_that_of_all_traces() {
        let parent = Context::parse(GIVEN.as_bytes()).unwrap();
        let none = Sampler { heeds_parent: true, share: Share::None };
        assert!(none.is_sampled(Some(parent), 1) && !none.is_sampled(None, 1));
        let deaf = Sampler { heeds_parent: false, share: Share::None };
        assert!(!deaf.is_sampled(Some(parent), 1));
        let quarter = Sampler { heeds_parent: false, share: Share::Of(0.25) };
        let spread = |at: u64| u128::from(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let drawn = (0..4000).filter(|at| quarter.is_sampled(None, spread(*at))).count();
        assert!((900..1100).contains(&drawn), "{drawn}");
    }

    proptest! {
        #[test]
        fn any_context_comes_back(trace in 1..u128::MAX, span in 1..u64::MAX, sampled: bool) {
            let context = Context { trace, span, sampled };
            prop_assert_eq!(Context::parse(context.to_text().as_bytes()), Some(context));
        }

        #[test]
        fn any_bytes_are_read_without_panic(value in prop::collection::vec(any::<u8>(), 0..70)) {
            let _ = Context::parse(&value);
        }
    }
}
