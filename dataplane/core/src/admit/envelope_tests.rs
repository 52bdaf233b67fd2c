use proptest::prelude::*;

use super::*;

fn parse<'a>(headers: &[(&str, &'a str)]) -> Result<Envelope<'a>, Vec<&'static str>> {
    let value_of = |name: &'static str| {
        headers.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_bytes())
    };
    Envelope::parse(value_of).map_err(|mistakes| mistakes.iter().map(|mistake| mistake.name()).collect())
}

#[test]
fn no_header_asks_for_nothing() {
    let envelope = parse(&[]).unwrap();
    assert_eq!((envelope, envelope.limits()), (Envelope::default(), Limits::NONE));
    assert_eq!(envelope.qos(Qos::Gold), Qos::Gold);
}

#[test]
fn each_header_means_what_it_says() {
    let envelope = parse(&[
        ("x-atp-deadline-ms", "1500"),
        ("x-atp-budget-tokens", "4000"),
        ("x-atp-budget-usd-micros", "25"),
        ("x-atp-max-parallel", "3"),
        ("x-atp-session", "run-7/step:2"),
        ("x-atp-qos", "bronze"),
    ])
    .unwrap();
    let expected = Envelope {
        deadline: Some(Duration::from_millis(1500)),
        tokens: Some(4000),
        picodollars: Some(Picodollars(25_000_000)),
        parallel: Some(3),
        session: Some("run-7/step:2"),
        qos: Some(Qos::Bronze),
    };
    assert_eq!(envelope, expected);
}

#[test]
fn the_ends_of_each_range_are_in_and_one_past_them_is_a_mistake() {
    for (header, max) in [
        ("x-atp-deadline-ms", DEADLINE_MS_MAX),
        ("x-atp-budget-tokens", TOKENS_MAX),
        ("x-atp-budget-usd-micros", USD_MICROS_MAX),
        ("x-atp-max-parallel", REQUESTS_MAX.into()),
    ] {
        for sound in [1, max] {
            assert!(parse(&[(header, &sound.to_string())]).is_ok(), "{header}: {sound}");
        }
        for bad in ["0", "", "-1", "+1", "1.0", " 1", "1e3", &(max + 1).to_string(), &"9".repeat(40)] {
            assert_eq!(parse(&[(header, bad)]), Err(vec![header]), "{header}: {bad}");
        }
    }
    let (longest, longer) = ("s".repeat(SESSION_BYTES_MAX), "s".repeat(SESSION_BYTES_MAX + 1));
    assert!(parse(&[("x-atp-session", &longest)]).is_ok());
    for bad in ["", "a b", "ä", "tab\t", &longer] {
        assert_eq!(parse(&[("x-atp-session", bad)]), Err(vec!["x-atp-session"]), "{bad}");
    }
}

#[test]
fn shapes_name_the_limits_there_are() {
    for (shape, limit) in [
        (Header::Deadline.shape(), DEADLINE_MS_MAX),
        (Header::Tokens.shape(), TOKENS_MAX),
        (Header::UsdMicros.shape(), USD_MICROS_MAX),
        (Header::Parallel.shape(), REQUESTS_MAX.into()),
        (Header::Session.shape(), SESSION_BYTES_MAX as u64),
    ] {
        assert!(shape.contains(&limit.to_string()), "{shape}");
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let told = parse(&[
        ("x-atp-qos", "platinum"),
        ("x-atp-max-parallel", "many"),
        ("x-atp-session", "run-7"),
        ("x-atp-deadline-ms", "soon"),
    ]);
    assert_eq!(told, Err(vec!["x-atp-deadline-ms", "x-atp-max-parallel", "x-atp-qos"]));
}

#[test]
fn bytes_that_are_no_text_are_a_mistake() {
    let told = Envelope::parse(|name| (name == "x-atp-session").then_some(&[0xff, 0xfe][..]));
    assert_eq!(told.unwrap_err()[0].name(), "x-atp-session");
}

#[test]
fn a_caller_never_gets_better_service_than_its_tenant_may() {
    for (asked, best, given) in [
        ("gold", Qos::Silver, Qos::Silver),
        ("gold", Qos::Gold, Qos::Gold),
        ("bronze", Qos::Gold, Qos::Bronze),
        ("silver", Qos::Bronze, Qos::Bronze),
    ] {
        assert_eq!(parse(&[("x-atp-qos", asked)]).unwrap().qos(best), given);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_a_session_is_what_was_sent(value in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(envelope) = Envelope::parse(|_| Some(&value)) {
            prop_assert_eq!(envelope.session.map(str::as_bytes), Some(&*value));
        }
        let visible: String = value.iter().map(|byte| char::from(33 + byte % 94)).collect();
        let sound = (1..=SESSION_BYTES_MAX).contains(&visible.len());
        prop_assert_eq!(parse(&[("x-atp-session", &visible)]).is_ok(), sound);
    }

    /// Whatever a session was and whatever comes later: never more than before.
    #[test]
    fn later_headers_only_narrow(
        earlier in prop::collection::vec(prop::option::of(1..1000u64), 2),
        later in prop::collection::vec(prop::option::of(1..1000u64), 2),
    ) {
        let limits = |pair: &[Option<u64>]| {
            let text: Vec<_> = pair.iter().map(|value| value.map(|value| value.to_string())).collect();
            let value_of = |name: &'static str| match name {
                "x-atp-budget-tokens" => text[0].as_deref().map(str::as_bytes),
                "x-atp-max-parallel" => text[1].as_deref().map(str::as_bytes),
                _ => None,
            };
            Envelope::parse(value_of).unwrap().limits()
        };
        let (before, asked) = (limits(&earlier), limits(&later));
        let after = before.narrowed(asked);
        for axis in crate::admit::window::Axis::ALL {
            prop_assert_eq!(after.of(axis), before.of(axis).min(asked.of(axis)));
        }
    }
}
