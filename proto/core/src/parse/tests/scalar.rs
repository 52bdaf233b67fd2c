//! The core schema and exact decimals.

use crate::parse::scalar::*;

#[test]
fn plain_scalars_follow_the_core_schema_of_yaml_1_2() {
    use ScalarKind::{Bool, Float, Integer, Null, Text};
    #[rustfmt::skip]
    let table = [
        ("", Null), ("~", Null), ("null", Null), ("NULL", Null), ("nUll", Text), ("true", Bool(true)),
        ("False", Bool(false)), ("yes", Text), ("on", Text), ("off", Text), ("0", Integer), ("-0", Integer),
        ("+12", Integer), ("007", Integer), ("0x1F", Integer), ("0o17", Integer), ("0b1", Text),
        ("1_000", Text), ("-0x1", Text), ("0o8", Text), ("0x", Text), ("-", Text), ("+", Text),
        ("1.5", Float), (".5", Float), ("5.", Float), ("-.5e-3", Float), ("1e3", Float), ("1E+3", Float),
        (".inf", Float), ("-.INF", Float), (".nan", Float), ("-.nan", Text), (".", Text), ("1.2.3", Text),
        ("e3", Text), ("1e", Text), ("1e+", Text), ("190:20:30", Text), ("2001-12-14", Text), ("inf", Text),
    ];
    for (text, kind) in table {
        assert_eq!(resolve(text), kind, "{text}");
    }
}

#[test]
fn a_number_that_json_knows_stays_as_written_and_others_are_spelled_its_way() {
    #[rustfmt::skip]
    let table = [
        ("0", "0"), ("-0", "-0"), ("12", "12"), ("1.50", "1.50"), ("1E+3", "1E+3"), ("-2.5e-3", "-2.5e-3"),
        ("+12", "12"), ("007", "7"), ("000", "0"), ("-007", "-7"), (".5", "0.5"), ("5.", "5"),
        ("-.5e3", "-0.5e3"), ("0x1F", "31"), ("0o17", "15"), ("5.e2", "5e2"), ("00.5", "0.5"),
    ];
    for (written, json) in table {
        assert_eq!(&*Scalar::plain(written).unwrap().text, json, "{written}");
        assert!(serde_json::from_str::<serde_json::Number>(json).is_ok(), "{json}");
    }
}

#[test]
fn infinity_nan_and_endless_digits_are_refused() {
    for written in [".inf", "-.INF", "+.Inf", ".nan", ".NaN"] {
        assert_eq!(Scalar::plain(written), Err(NumberFault::NotFinite), "{written}");
    }
    assert!(Scalar::plain(&"9".repeat(64)).is_ok());
    assert_eq!(Scalar::plain(&"9".repeat(65)), Err(NumberFault::TooLong));
    assert_eq!(Scalar::plain(&format!("0x{}", "f".repeat(33))), Err(NumberFault::TooLong));
}

#[test]
fn decimals_are_exact_or_refused() {
    #[rustfmt::skip]
    let table = [
        ("0.15", 6, Ok(150_000)), ("0.1", 6, Ok(100_000)), ("15", 6, Ok(15_000_000)), ("0", 6, Ok(0)),
        ("0.000001", 6, Ok(1)), ("0.0000010", 6, Ok(1)), ("0.0000001", 6, Err(DecimalFault::TooFine)),
        ("5e-05", 6, Ok(50)), ("1.5e3", 0, Ok(1500)), ("100", 0, Ok(100)), ("1.0", 0, Ok(1)),
        ("-0.0", 6, Ok(0)), ("-1", 6, Err(DecimalFault::Negative)), ("0e999999999999", 6, Ok(0)),
        ("1e999999", 6, Err(DecimalFault::TooBig)), ("1e-999999", 6, Err(DecimalFault::TooFine)),
        ("1e99999999999999", 6, Err(DecimalFault::TooBig)),
        ("1e-99999999999999", 6, Err(DecimalFault::TooFine)),
        ("2147483648e-2147483648", 6, Err(DecimalFault::TooFine)),
        ("1e2147483647", 6, Err(DecimalFault::TooBig)), ("0.71", 3, Ok(710)),
        ("0.7125", 3, Err(DecimalFault::TooFine)),
    ];
    for (number, places, expected) in table {
        assert_eq!(decimal(number, places), expected, "{number}");
    }
}
