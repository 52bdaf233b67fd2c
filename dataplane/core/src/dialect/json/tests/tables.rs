//! What the grammar, UTF-8 and a visitor's wishes make of single values.

use super::*;

/// Each is right or wrong by RFC 8259; serde_json agrees, entered or passed over, at once or byte by byte.
const VALUES: &[(&str, bool)] = &[
    ("0", true),
    ("-0", true),
    ("10", true),
    ("1.0", true),
    ("-1.25e+3", true),
    ("0e1", true),
    ("1E-2", true),
    ("", false),
    ("-", false),
    ("+1", false),
    ("01", false),
    ("-01", false),
    ("1.", false),
    ("-1.", false),
    (".1", false),
    ("1.e1", false),
    ("1e", false),
    ("1e+", false),
    ("0x1", false),
    ("1 2", false),
    ("1a", false),
    ("Infinity", false),
    ("NaN", false),
    ("1_000", false),
    ("--1", false),
    ("1.2.3", false),
    ("1e1.5", false),
    ("true", true),
    ("false", true),
    ("null", true),
    ("True", false),
    ("nul", false),
    ("nulll", false),
    ("truefalse", false),
    ("[]", true),
    ("[1]", true),
    ("[1,2]", true),
    ("[ 1 , 2 ]", true),
    ("[[],[[]]]", true),
    ("[1,]", false),
    ("[,]", false),
    ("[,1]", false),
    ("[1,,2]", false),
    ("[1 2]", false),
    ("[1", false),
    ("1]", false),
    ("[}", false),
    ("[1}", false),
    ("{}", true),
    (r#"{"a":1}"#, true),
    (r#"{"":{}}"#, true),
    (r#"{"a":1,"a":2}"#, true),
    (r#"{"a" : 1 , "b":2}"#, true),
    (r#"{"a":1,}"#, false),
    (r#"{,"a":1}"#, false),
    (r#"{"a"}"#, false),
    (r#"{"a":}"#, false),
    (r#"{"a":1 "b":2}"#, false),
    ("{a:1}", false),
    ("{1:1}", false),
    ("{'a':1}", false),
    (r#"{"a":1]"#, false),
    (r#"{"a":1,,"b":2}"#, false),
    (r#"{"a"::1}"#, false),
    (r#""""#, true),
    (r#""\"\\\/\b\f\n\r\t\u0000\uFFFF""#, true),
    (r#""\ud834\uDD1E""#, true),
    (r#""\x""#, false),
    (r#""\u12G4""#, false),
    (r#""\u123""#, false),
    (r#""\U1234""#, false),
    (r#""\ud834x""#, false),
    (r#""\ud834\n""#, false),
    (r#""\ud834\u0041""#, false),
    (r#""\udd1e\ud834""#, false),
    (r#""a"#, false),
    ("\"\t\"", false),
    ("\"\u{0}\"", false),
    ("\"\u{7f}\"", true),
    ("\"é\u{10ffff}\"", true),
    ("'a'", false),
    ("/**/1", false),
    ("1//", false),
    ("\u{c}1", false),
    ("\u{a0}1", false),
];

#[test]
fn each_value_is_judged_by_the_grammar() {
    for (value, right) in VALUES {
        let body = format!("{{\"k\":{value}}}");
        assert_eq!(check(body.as_bytes()).is_ok(), *right, "{value}");
        agree_with_serde_json(body.as_bytes());
        agree_with_serde_json(format!("{{\"k\":[[{value}],{{\"l\":{value}}}]}}").as_bytes());
    }
}

#[test]
fn a_string_is_utf8_as_the_standard_library_judges_it() {
    let edges = [0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF];
    for lead in 0x80..=0xFF {
        for second in edges {
            for third in edges {
                for fourth in [0x41, 0x80, 0xBF, 0xC0] {
                    let text = [lead, second, third, fourth];
                    let body = [br#"{"k":""#.as_slice(), &text, br#""}"#].concat();
                    assert_eq!(check(&body).is_ok(), std::str::from_utf8(&text).is_ok(), "{text:x?}");
                }
            }
        }
    }
}

#[test]
fn items_of_a_container_passed_over_are_its_own_only() {
    let body = br#"{"a":[1,[2,3],{"x":[4,5]},"6"],"b":{"k":1,"l":{"m":2}},"c":[],"d":{}}"#;
    let mut over = Over(Vec::new(), false);
    let mut lexer = Lexer::new();
    lexer.push(body, &mut over).unwrap();
    let items: Vec<u64> = over.0.iter().map(|(_, items)| *items).collect();
    assert_eq!(items, [4, 2, 0, 0]);
    assert_eq!(over.0[1].0, Shape::Object);
}

#[test]
fn nesting_is_allowed_to_the_limit_and_not_past_it() {
    let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    assert_eq!(check(nested(DEPTH_MAX as usize).as_bytes()), Ok(()));
    let fault = check(nested(DEPTH_MAX as usize + 1).as_bytes()).unwrap_err();
    assert_eq!(fault, Fault::malformed(MalformedWhat::TooDeep, 5 * 64));
}

#[test]
fn a_number_keeps_its_exact_decimal_value() {
    let of = |text: &str| {
        let body = format!("{{\"a\":{text}}}");
        let mut last = Last(None);
        Lexer::new().push(body.as_bytes(), &mut last).unwrap();
        last.0.expect("there was a number")
    };
    for (text, whole) in [
        ("0", Some(0)),
        ("-0", Some(0)),
        ("-0.0e5", Some(0)),
        ("7", Some(7)),
        ("7.000", Some(7)),
        ("70e-1", Some(7)),
        ("0.07E2", Some(7)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("1e19", Some(10_u64.pow(19))),
        ("1e20", None),
        ("7.5", None),
        ("-7", None),
        ("1e999999", None),
        ("1e-999999", None),
        ("0e999999999999999999999", Some(0)),
        ("5.00000000000000000000000000", Some(5)),
        ("5.00000000000000000000000001", None),
        ("1e99999999999999999999", None),
    ] {
        assert_eq!(of(text).as_u64(), whole, "{text}");
    }
    for (text, pico) in [
        ("0.05", Some((50_000_000_000, false))),
        ("0.001", Some((1_000_000_000, false))),
        ("0.0009999999999999999999999", Some((999_999_999, true))),
        ("10", Some((10_000_000_000_000, false))),
        ("10.0000000000001", Some((10_000_000_000_000, true))),
        ("-0.05", None),
        ("1e8", None),
        ("1e-13", Some((0, true))),
        ("1e-40", Some((0, true))),
    ] {
        assert_eq!(of(text).scaled(12), pico, "{text}");
    }
}

#[test]
fn a_fault_stays() {
    let mut lexer = Lexer::new();
    let mut over = Over(Vec::new(), false);
    let first = lexer.push(b"{]", &mut over).unwrap_err();
    assert_eq!(lexer.push(b"}", &mut over), Err(first));
    assert_eq!(lexer.finish(), Err(first));
}

#[test]
fn a_reset_reader_is_as_new() {
    let mut lexer = Lexer::new();
    let mut over = Over(Vec::new(), false);
    lexer.push(br#"{"a":["\ud83d"#, &mut over).unwrap();
    lexer.reset();
    over.1 = false;
    lexer.push(br#"{"a":["b"]}"#, &mut over).unwrap();
    assert_eq!(lexer.finish(), Ok(11));
}

/// Enters everything but the values of keys that begin with `x`; writes down what it is told.
#[derive(Default)]
struct Picky(Vec<String>);

impl Picky {
    fn told(&mut self, what: impl Into<String>) -> Result<(), Fault> {
        self.0.push(what.into());
        Ok(())
    }
}

impl Visitor for Picky {
    fn key(&mut self, text: Option<&[u8]>, _: Span) -> Result<Descend, Fault> {
        let key = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
        let descend = if key.starts_with('x') { Descend::Over } else { Descend::Enter };
        self.told(format!("{key}:")).map(|()| descend)
    }
    fn open(&mut self, _: Shape, _: u64) -> Result<Descend, Fault> {
        self.told("(").map(|()| Descend::Enter)
    }
    fn close(&mut self, _: u64) -> Result<(), Fault> {
        self.told(")")
    }
    fn skipped(&mut self, _: Shape, _: Span, _: u64) -> Result<(), Fault> {
        unreachable!("what a key passes over is not told")
    }
    fn string(&mut self, text: Option<&[u8]>, _: u64, _: Span) -> Result<(), Fault> {
        self.told(String::from_utf8_lossy(text.unwrap_or_default()))
    }
    fn number(&mut self, number: Decimal, _: Span) -> Result<(), Fault> {
        self.told(format!("{}", number.as_u64().unwrap_or_default()))
    }
    fn literal(&mut self, literal: Literal, _: Span) -> Result<(), Fault> {
        self.told(literal.word())
    }
}

#[test]
fn a_key_passed_over_hides_its_value_and_nothing_else() {
    let body =
        br#"{"a":1,"x1":2,"b":[{"x\u0032":"s\n","c":true},7,{"x":[{"a":1},{"x":2}]},null,"t"],"x3":{"x":{}},
        "d":{"x":null},"e":{},"x4":-1.5,"f":"u"}"#;
    let told = "( a: 1 x1: b: ( ( x2: c: true ) 7 ( x: ) null t ) x3: d: ( x: ) e: ( ) x4: f: u )";
    for size in 1..=body.len() {
        let (mut lexer, mut picky) = (Lexer::new(), Picky::default());
        body.chunks(size).for_each(|piece| lexer.push(piece, &mut picky).unwrap());
        lexer.finish().unwrap();
        assert_eq!(picky.0.join(" "), told, "in pieces of {size}");
    }
}

/// Keeps the last number.
struct Last(Option<Decimal>);

impl Visitor for Last {
    fn key(&mut self, _: Option<&[u8]>, _: Span) -> Result<Descend, Fault> {
        Ok(Descend::Enter)
    }
    fn open(&mut self, _: Shape, _: u64) -> Result<Descend, Fault> {
        Ok(Descend::Enter)
    }
    fn close(&mut self, _: u64) -> Result<(), Fault> {
        Ok(())
    }
    fn skipped(&mut self, _: Shape, _: Span, _: u64) -> Result<(), Fault> {
        Ok(())
    }
    fn string(&mut self, _: Option<&[u8]>, _: u64, _: Span) -> Result<(), Fault> {
        Ok(())
    }
    fn number(&mut self, number: Decimal, _: Span) -> Result<(), Fault> {
        self.0 = Some(number);
        Ok(())
    }
    fn literal(&mut self, _: Literal, _: Span) -> Result<(), Fault> {
        Ok(())
    }
}
