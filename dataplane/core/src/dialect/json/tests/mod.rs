//! The reader against serde_json: a visitor that enters everything and builds the value it was told.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

mod tables;

/// Builds the value told. Strings longer than the lexer keeps are taken from `body` by their span.
#[derive(Default)]
struct Builder<'b> {
    body: &'b [u8],
    open: Vec<(Value, String)>,
    key: String,
    whole: Option<Value>,
}

impl Builder<'_> {
    fn text(&self, text: Option<&[u8]>, span: Span) -> String {
        let mut long = Vec::new();
        unescape(&self.body[span.start as usize + 1..span.end as usize - 1], &mut long);
        if let Some(text) = text {
            assert_eq!(text, long, "kept and unescaped text are the same");
        } else {
            assert!(long.len() > TEXT_BYTES_MAX, "only long text is left out");
        }
        String::from_utf8(long).expect("the lexer lets only UTF-8 through")
    }

    fn put(&mut self, value: Value) {
        match self.open.last_mut() {
            None => self.whole = Some(value),
            Some((Value::Array(items), _)) => items.push(value),
            Some((Value::Object(members), _)) => {
                members.insert(std::mem::take(&mut self.key), value);
            }
            Some(_) => unreachable!("only containers are open"),
        }
    }
}

impl Visitor for Builder<'_> {
    fn key(&mut self, text: Option<&[u8]>, span: Span) -> Result<Descend, Fault> {
        self.key = self.text(text, span);
        Ok(Descend::Enter)
    }

    fn open(&mut self, shape: Shape, at: u64) -> Result<Descend, Fault> {
        let (empty, bracket) = match shape {
            Shape::Object => (Value::Object(Map::new()), b'{'),
            Shape::Array => (Value::Array(Vec::new()), b'['),
        };
        assert_eq!(self.body[at as usize], bracket);
        self.open.push((empty, std::mem::take(&mut self.key)));
        Ok(Descend::Enter)
    }

    fn close(&mut self, end: u64) -> Result<(), Fault> {
        assert!(matches!(self.body[end as usize - 1], b'}' | b']'));
        let (value, key) = self.open.pop().expect("what closes was open");
        self.key = key;
        self.put(value);
        Ok(())
    }

    fn skipped(&mut self, _: Shape, _: Span, _: u64) -> Result<(), Fault> {
        unreachable!("nothing is passed over")
    }

    fn string(&mut self, text: Option<&[u8]>, chars: u64, span: Span) -> Result<(), Fault> {
        let text = self.text(text, span);
        assert_eq!(text.chars().count() as u64, chars);
        self.put(Value::String(text));
        Ok(())
    }

    fn number(&mut self, number: Decimal, span: Span) -> Result<(), Fault> {
        let written = std::str::from_utf8(&self.body[span.start as usize..span.end as usize]).unwrap();
        let value: Value = serde_json::from_str(written).unwrap_or(Value::Null);
        if let Some(whole) = value.as_u64() {
            assert_eq!(number.as_u64(), Some(whole), "{written}");
        }
        self.put(value);
        Ok(())
    }

    fn literal(&mut self, literal: Literal, span: Span) -> Result<(), Fault> {
        assert_eq!(&self.body[span.start as usize..span.end as usize], literal.word().as_bytes());
        self.put(match literal {
            Literal::True => Value::Bool(true),
            Literal::False => Value::Bool(false),
            Literal::Null => Value::Null,
        });
        Ok(())
    }
}

/// Passes over everything inside the top level.
struct Over(Vec<(Shape, u64)>, bool);

impl Visitor for Over {
    fn key(&mut self, _: Option<&[u8]>, _: Span) -> Result<Descend, Fault> {
        Ok(Descend::Enter)
    }
    fn open(&mut self, _: Shape, _: u64) -> Result<Descend, Fault> {
        let first = !std::mem::replace(&mut self.1, true);
        Ok(if first { Descend::Enter } else { Descend::Over })
    }
    fn close(&mut self, _: u64) -> Result<(), Fault> {
        Ok(())
    }
    fn skipped(&mut self, shape: Shape, _: Span, items: u64) -> Result<(), Fault> {
        self.0.push((shape, items));
        Ok(())
    }
    fn string(&mut self, _: Option<&[u8]>, _: u64, _: Span) -> Result<(), Fault> {
        Ok(())
    }
    fn number(&mut self, _: Decimal, _: Span) -> Result<(), Fault> {
        Ok(())
    }
    fn literal(&mut self, _: Literal, _: Span) -> Result<(), Fault> {
        Ok(())
    }
}

fn read<'p>(body: &[u8], pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Value, Fault> {
    let mut lexer = Lexer::new();
    let mut builder = Builder { body, ..Builder::default() };
    for piece in pieces {
        lexer.push(piece, &mut builder)?;
    }
    assert_eq!(lexer.finish()?, body.len() as u64);
    Ok(builder.whole.expect("a finished body has a value"))
}

fn check(body: &[u8]) -> Result<(), Fault> {
    let mut lexer = Lexer::new();
    let mut over = Over(Vec::new(), false);
    lexer.push(body, &mut over)?;
    lexer.finish().map(|_| ())
}

/// What serde_json says of it; `None` where its own rules differ from RFC 8259 or from ours: numbers out of
/// the range of an f64, nesting, a top level that is no object.
fn oracle(body: &[u8]) -> Option<Result<Value, ()>> {
    match serde_json::from_slice::<Value>(body) {
        Ok(value @ Value::Object(_)) => Some(Ok(value)),
        Ok(_) => None,
        Err(error) if error.to_string().contains("number out of range") => None,
        Err(error) if error.to_string().contains("recursion limit") => None,
        Err(_) => Some(Err(())),
    }
}

fn agree_with_serde_json(body: &[u8]) {
    let whole = read(body, [body]);
    assert_eq!(check(body), whole.clone().map(|_| ()), "passing over checks as strictly as entering");
    let bytes = read(body, body.chunks(1));
    assert_eq!(whole, bytes, "byte by byte is the same as at once");
    match (oracle(body), whole) {
        (Some(Ok(want)), Ok(have)) => assert_eq!(want, have),
        (Some(Ok(_)), Err(fault)) => {
            let text = String::from_utf8_lossy(body);
            assert!(
                matches!(fault.kind, crate::fault::Kind::Malformed(m) if m.what == MalformedWhat::TooDeep),
                "{fault:?} {text}"
            );
        }
        (Some(Err(())), Ok(have)) => panic!("accepted {} as {have}", String::from_utf8_lossy(body)),
        (Some(Err(())), Err(_)) | (None, _) => {}
    }
}

fn text_of_any_kind() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z\"\\\\/ \t\n\u{0}-\u{1f}]{0,40}",
        "[äß語😀\u{7f}-\u{10ffff}a]{0,12}",
        proptest::collection::vec(any::<char>(), 0..200).prop_map(|chars| chars.into_iter().collect()),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_map(|number| serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)),
        text_of_any_kind().prop_map(Value::String),
    ];
    let value = leaf.prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::vec((text_of_any_kind(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    proptest::collection::vec((text_of_any_kind(), value), 0..6)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

/// Every character that is not plain ASCII as `\u` escapes, some in upper case.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let digits = format!("\\u{unit:04x}");
            out.push_str(&if *unit % 2 == 0 { digits.to_uppercase().replace("\\U", "\\u") } else { digits });
        }
    }
    out
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_read_as_the_same_value(value in json()) {
        agree_with_serde_json(serde_json::to_string(&value).unwrap().as_bytes());
        agree_with_serde_json(serde_json::to_string_pretty(&value).unwrap().as_bytes());
        agree_with_serde_json(escaped(&serde_json::to_string(&value).unwrap()).as_bytes());
    }

    #[test]
    fn mutated_json_is_accepted_and_refused_as_serde_json_does(
        value in json(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let mut body = serde_json::to_vec(&value).unwrap();
        for (place, byte, kind) in edits {
            let at = place.index(body.len());
            match kind {
                0 => body[at] = byte,
                1 => body[at] = br#"{}[]",:\truefalsn0123456789eE+-. "#[usize::from(byte) % 33],
                2 => body.insert(at, byte),
                _ => { body.remove(at); }
            }
            if body.is_empty() { return Ok(()); }
        }
        agree_with_serde_json(&body);
    }

    #[test]
    fn tokens_in_any_order_are_judged_as_serde_json_does(
        tokens in proptest::collection::vec(prop::sample::select(TOKENS), 0..14)
    ) {
        agree_with_serde_json(tokens.concat().as_bytes());
        agree_with_serde_json(format!("{{\"a\":{}}}", tokens.concat()).as_bytes());
    }

    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        agree_with_serde_json(&body);
        unescape(&body, &mut Vec::new());
    }

}

proptest! {
    // Quadratic in the length of the body.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_split_in_two_reads_the_same(value in json()) {
        let body = escaped(&serde_json::to_string(&value).unwrap());
        let body = body.as_bytes();
        // Cuts further in are left to longer steps.
        let step = 1 + body.len() / 1000;
        let whole = read(body, [body]);
        for at in (0..=body.len()).step_by(step) {
            prop_assert_eq!(&read(body, [&body[..at], &body[at..]]), &whole);
        }
    }
}

const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"a\"",
    "\"\\u0041\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\\",
    "null",
    "true",
    "false",
    "nul",
    "0",
    "-",
    "-0",
    "01",
    "1.5",
    "1.",
    ".5",
    "1e5",
    "1E+",
    "2e-3",
    " ",
    "\n",
    "\u{feff}",
    "é",
];
