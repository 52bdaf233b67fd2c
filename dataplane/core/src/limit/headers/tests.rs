use super::*;

const NOW: Moment = Moment(1_000_000_000);
/// 1994-11-06T08:49:37Z.
const UNIX: u64 = 784_111_777;

fn read(headers: &[(&str, &str)]) -> Vec<Ceiling> {
    let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    ceilings(headers, NOW, UNIX).into_iter().collect()
}

fn until(headers: &[(&str, &str)]) -> Option<Duration> {
    read(headers).first().map(|ceiling| ceiling.until - NOW)
}

fn seconds(seconds: f64) -> Option<Duration> {
    Some(Duration::from_secs_f64(seconds))
}

#[test]
fn a_retry_after_pauses_in_every_shape_it_comes_in() {
    for (value, span) in [
        ("20", 20.0),
        ("0.5", 0.5),
        ("1s", 1.0),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("1994-11-06T08:49:38Z", 1.0),
    ] {
        let pause = read(&[("Retry-After", value)]);
        assert_eq!(pause.len(), 1, "{value}");
        assert_eq!((pause[0].requests, pause[0].tokens), (Some(0), None), "{value}");
        assert_eq!(Some(pause[0].until - NOW), seconds(span), "{value}");
    }
    assert_eq!(until(&[("retry-after", "2"), ("retry-after-ms", "1500")]), seconds(1.5));
}

#[test]
fn a_pause_that_is_over_is_none() {
    assert_eq!(read(&[("retry-after", "0")]), []);
    assert_eq!(read(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]), []);
}

#[test]
fn what_remains_holds_until_its_own_reset() {
    let found = read(&[
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "6m0s"),
        ("X-RateLimit-Remaining-Tokens", "149984"),
        ("x-ratelimit-reset-tokens", "20ms"),
    ]);
    let minutes = NOW + Duration::from_secs(360);
    let moment = NOW + Duration::from_millis(20);
    assert_eq!(
        found,
        [
            Ceiling { requests: Some(59), tokens: None, until: minutes },
            Ceiling { requests: None, tokens: Some(149_984), until: moment },
        ]
    );
}

#[test]
fn of_tokens_counted_apart_the_fewest_hold() {
    let found = read(&[
        ("anthropic-ratelimit-requests-remaining", "3"),
        ("anthropic-ratelimit-requests-reset", "1994-11-06T08:50:37.5Z"),
        ("anthropic-ratelimit-input-tokens-remaining", "40000"),
        ("anthropic-ratelimit-input-tokens-reset", "1994-11-06T09:49:47+01:00"),
        ("anthropic-ratelimit-output-tokens-remaining", "8000"),
        ("anthropic-ratelimit-output-tokens-reset", "1994-11-06T07:49:57-01:00"),
    ]);
    assert_eq!(
        found,
        [
            Ceiling { requests: Some(3), tokens: None, until: NOW + Duration::from_secs(60) },
            Ceiling { requests: None, tokens: Some(8000), until: NOW + Duration::from_secs(20) },
        ]
    );
}

#[test]
fn durations_of_every_unit_are_read() {
    for (value, span) in [
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("20ms", 0.02),
        ("7.66s", 7.66),
        ("1d", 86_400.0),
        ("5µs", 5e-6),
    ] {
        let found =
            until(&[("x-ratelimit-remaining-requests", "1"), ("x-ratelimit-reset-requests", value)]).unwrap();
        assert!((found.as_secs_f64() - span).abs() < 1e-7, "{value}: {found:?}");
    }
}

#[test]
fn dates_around_leap_days_are_counted() {
    for (value, span) in [
        ("1994-11-06T08:49:37Z", 0),
        ("1996-02-29T00:00:00Z", 825_552_000 - UNIX),
        ("1996-03-01T00:00:00Z", 825_638_400 - UNIX),
        ("2000-02-29T23:59:60Z", 951_868_800 - UNIX),
        ("2100-03-01T00:00:00Z", 4_107_542_400 - UNIX),
        ("1970-01-01T00:00:00Z", 0),
    ] {
        let found = time::span_or_date(value, UNIX);
        assert_eq!(found, Some(Duration::from_secs(span)), "{value}");
    }
}

#[test]
fn what_cannot_be_read_says_nothing() {
    for value in [
        "",
        "-1",
        "soon",
        "1x",
        "s",
        "1.2.3",
        "inf",
        "NaN",
        "1e400",
        "99999999999",
        "2026-13-01T00:00:00Z",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "é026-01-01T00:00:00Z",
        "2026-01-01T00:00:00+1:00",
    ] {
        assert_eq!(read(&[("retry-after", value)]), [], "{value}");
        assert_eq!(
            read(&[("x-ratelimit-remaining-tokens", value)]).len(),
            usize::from(value == "99999999999")
        );
    }
    assert_eq!(read(&[("retry-after", &"1".repeat(65))]), []);
    assert_eq!(read(&[("x-ratelimit-limit-requests", "60"), ("date", "20")]), []);
    let bytes: [(&str, &[u8]); 1] = [("retry-after", b"\xff")];
    assert!(ceilings(bytes, NOW, UNIX).is_empty());
}

#[test]
fn what_remains_without_a_reset_holds_for_a_second() {
    assert_eq!(until(&[("x-ratelimit-remaining-requests", "0")]), seconds(1.0));
}

proptest::proptest! {
    #[test]
    fn no_value_makes_it_fail(value in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..70),
                              unix in proptest::prelude::any::<u64>()) {
        for (name, _) in NAMES {
            ceilings([(name, &*value)], NOW, unix);
        }
    }

    #[test]
    fn no_text_like_a_date_makes_it_fail(value in "[0-9TZ:+. -]{0,30}|Sun, [0-9]{1,5} Nov [0-9:]{1,9} .*") {
        time::span_or_date(&value, UNIX);
    }
}
