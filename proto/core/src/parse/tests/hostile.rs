//! Input made to hurt: it gives mistakes, in bounded time and memory, and never a panic.

use proptest::prelude::*;

use super::{mistakes, read};
use crate::parse::tree::FILE_BYTES_MAX;
use crate::parse::{Source, documents, resource_json, to_yaml};

const MEBIBYTE: usize = 1 << 20;

/// The only mistake of `content`.
fn only_mistake(content: &str) -> String {
    let found = mistakes(content);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn bombs_of_depth_are_refused_at_the_limit() {
    let deep = "lists and maps are nested more than 32 deep";
    assert_eq!(only_mistake(&"- ".repeat(MEBIBYTE)), format!("f:1:65: {deep}"));
    assert_eq!(only_mistake(&"[".repeat(200_000)), format!("f:1:256: {deep}"));
    assert_eq!(only_mistake(&"{a: ".repeat(200_000)), format!("f:1:1021: {deep}"));
    assert_eq!(only_mistake(&"? ".repeat(200_000)), "f:1:3: a field name is text, not a list or map");
    let block: String = (0..2000).map(|at| format!("{}a:\n", " ".repeat(at))).collect();
    assert_eq!(only_mistake(&block), format!("f:33:33: {deep}"));
    let punctuation = "the file holds more than 1,000,000 brackets, commas and colons; split it";
    assert_eq!(only_mistake(&"[".repeat(2 * MEBIBYTE)), format!("f:1:1: {punctuation}"));
}

#[test]
fn an_alias_bomb_is_refused_at_its_first_alias() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let found = mistakes(&bomb);
    assert!(found.len() <= 3, "{found:?}");
    assert!(
        found
            .iter()
            .all(|mistake| mistake.ends_with("anchors and aliases are not read; write the value out"))
    );
}

#[test]
fn punctuation_is_read_up_to_its_limit_and_refused_one_past_it() {
    let list = |commas: usize| format!("[{}]", "1,".repeat(commas));
    assert_eq!(only_mistake(&list(999_998)), "f:1:1: is a list, fields are expected: kind, name, spec");
    let shown = only_mistake(&list(999_999));
    assert_eq!(shown, "f:1:1: the file holds more than 1,000,000 brackets, commas and colons; split it");
}

#[test]
fn a_flood_of_mistakes_is_told_up_to_its_limit() {
    let found = mistakes(&"--- a\n".repeat(2000));
    assert_eq!(found.len(), 1001);
    assert_eq!(found[1000], "there are more mistakes; mend these first");
}

#[test]
fn a_file_is_read_up_to_its_limit_and_refused_one_past_it() {
    let padded = |bytes: usize| {
        let content = "kind: Tenant\nname: public\nspec: {}\n#";
        format!("{content}{}", "x".repeat(bytes - content.len()))
    };
    assert!(read(&padded(FILE_BYTES_MAX)).is_ok());
    let shown = only_mistake(&padded(FILE_BYTES_MAX + 1));
    assert_eq!(shown, "f:1:1: the file has 16777217 bytes, at most 16777216 are read; split it");
}

#[test]
fn ten_megabytes_in_one_scalar_are_shown_bounded() {
    let found = mistakes(&format!("kind: \"{}\"", "a".repeat(10 * MEBIBYTE)));
    assert_eq!(found.len(), 3, "kind, name and spec");
    assert!(found.iter().all(|mistake| mistake.len() < 200));
    let long = "a".repeat(MEBIBYTE);
    for content in [
        format!("kind: {long}"),
        format!("kind: '{long}'"),
        format!("kind: |\n {long}"),
        format!("{long}: x"),
    ] {
        assert!(mistakes(&content).iter().all(|mistake| mistake.len() < 200));
    }
    let found = mistakes(&format!("kind: {}", "9".repeat(MEBIBYTE)));
    assert_eq!(found.len(), 4);
    assert_eq!(found[2], "f:1:7: a number has at most 64 characters; quote it if it is text");
}

#[test]
fn numbers_past_every_range_are_mistakes() {
    for number in [
        "1e999999",
        "1e-999999",
        "-1e999999",
        "99999999999999999999999999",
        "0xffffffffffffffffffffffff",
        "1e9999999999999999999",
    ] {
        let content = format!("kind: Tenant\nname: public\nspec: {{ weight: {number} }}\n");
        let shown = only_mistake(&content);
        assert!(shown.starts_with("f:3:17: spec.weight: "), "{shown}");
        let content = format!(
            "kind: Adapter\nname: a\nspec: {{ kind: echo, models: [{{ name: m, quality: {number} }}] }}\n"
        );
        let shown = only_mistake(&content);
        assert!(shown.starts_with("f:3:50: spec.models[0].quality: "), "{shown}");
    }
}

#[test]
fn control_characters_in_values_are_shown_escaped() {
    let shown = only_mistake("kind: \"a\\e[31m\\x07\\u202e\\0\"\nname: a\nspec: {}\n");
    assert_eq!(shown, "f:1:7: kind: \"a\\u{1b}[31m\\u{7}\\u{202e}\\0\" is not one of Adapter, Route, Tenant");
}

/// Pieces that YAML is made of, so that random joins come near to meaning something.
const PIECES: [&str; 48] = [
    "kind",
    "name",
    "spec",
    "Adapter",
    "Tenant",
    "public",
    "models",
    ": ",
    ":",
    ":\n",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "-",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ",",
    "\"",
    "'",
    "|\n",
    ">-\n",
    "#",
    " #",
    "&a ",
    "*a",
    "!t ",
    "!!str ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "%TAG ! x\n",
    "\t",
    " ",
    "\r\n",
    "\\",
    "\\u",
    "\u{feff}",
    "é",
    "1",
    "0x",
    ".inf",
    "~",
    "null",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_joins_of_yaml_never_panic_and_what_is_taken_reads_back(
        pieces in prop::collection::vec(0..PIECES.len(), 0..60),
    ) {
        let content: String = pieces.into_iter().map(|at| PIECES[at]).collect();
        if let Ok(parsed) = read(&content) {
            for document in parsed.documents {
                prop_assert_eq!(&resource_json(document.json.as_bytes()).unwrap().json, &document.json);
            }
        }
        to_yaml(&content);
    }

    #[test]
    fn random_bytes_never_panic(content in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = documents(&[Source { file: "f", content: &content }]);
    }

    #[test]
    fn a_changed_byte_in_a_good_file_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut content = include_bytes!("contract.yaml").to_vec();
        let at = at.index(content.len());
        content[at] = byte;
        let _ = documents(&[Source { file: "f", content: &content }]);
        content.truncate(at);
        let _ = documents(&[Source { file: "f", content: &content }]);
    }
}
