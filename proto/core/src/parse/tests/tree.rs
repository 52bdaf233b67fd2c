//! The shape before the meaning: what the scanner refuses, what the tree refuses, and where.

use super::{mistakes, read};
use crate::parse::tree::{DEPTH_MAX, Mark, NODES_MAX};
use crate::parse::{Reader, Source, documents, tree};

const HINT_INDENT: &str = "the indentation fits nothing above; align it with its neighbours";

#[test]
fn what_cannot_be_read_says_why_and_where() {
    let colon = "a `:` too many, or wrong indentation; quote text that contains `: `";
    let value = "a value or the closing bracket is missing before this";
    let comma = "a `,` or the closing bracket is missing before this";
    let open_quote = "the quote that opens here is never closed";
    let quoted = "text that starts with @, ` or % is written in quotes";
    let table = [
        ("kind: [", "2:1", value),
        ("kind: {a", "2:1", comma),
        ("[a", "2:1", comma),
        ("kind: 'x", "1:7", open_quote),
        ("kind: \"x", "1:7", open_quote),
        ("a: 'x' y", "1:8", "text stands behind the closing quote; quote the whole value"),
        ("a: \"\\ud83d\\ude00\"", "1:4", "half a surrogate pair; write the character, or \\UXXXXXXXX"),
        ("a: b: c", "1:5", colon),
        ("a: 1\n  b: 2", "2:4", colon),
        ("a:\n\tb: 1", "2:2", "a tab stands where YAML wants spaces; indent with spaces"),
        ("a:\n  b: 1\n c: 2", "3:2", HINT_INDENT),
        ("- a\nb: 1", "2:1", HINT_INDENT),
        ("a: @x", "1:4", quoted),
        ("a: ]", "1:4", "a closing bracket without its opening one"),
        ("a: *x", "1:4", "anchors and aliases are not read; write the value out"),
        ("[a]: b", "1:1", "a field name is text, not a list or map"),
        ("? {a: 1}\n: b", "1:3", "a field name is text, not a list or map"),
        (
            "a: |x",
            "1:4",
            "cannot be read as YAML or JSON: while scanning a block scalar, \
                          did not find expected comment or line break",
        ),
        ("a: \u{1}", "1:4", "the control character 0x01 is not text; write \"\\x01\" in quotes"),
        ("a: 1 # c\0", "1:9", "the control character 0x00 is not text; write \"\\x00\" in quotes"),
    ];
    for (content, place, what) in table {
        assert_eq!(mistakes(content), [format!("f:{place}: {what}")], "{content:?}");
    }
}

#[test]
fn one_bad_node_does_not_hide_the_mistakes_after_it() {
    let found = mistakes("kind: &k Tenant\nname: !!str public\nspec: { 1: 2 }\nname: other\n: x\n");
    let expected = [
        "f:1:7: anchors and aliases are not read; write the value out",
        "f:2:7: tags are not read; quote the value if it is text",
        "f:3:9: a field name is text; write it as \"1\"",
        "f:3:9: spec.1: there is no such field; there are weight, qos, keys, identities, window, \
         budget, preempt_streams",
        "f:4:1: name: is given twice, first on line 2; remove one of them",
        "f:5:1: a field name is missing before the `:`",
        "f:5:1: …: there is no such field; there are kind, name, spec",
    ];
    assert_eq!(found, expected);
}

#[test]
fn documents_before_a_place_that_cannot_be_read_still_tell_their_mistakes() {
    let found = mistakes("kind: Tenant\nname: public\nspec: { weight: 0 }\n---\nkind: [\n");
    let expected = [
        "f:3:17: spec.weight: 0 is below 1; 1 to 1000 is allowed",
        "f:6:1: a value or the closing bracket is missing before this",
    ];
    assert_eq!(found, expected);
}

#[test]
fn json_documents_one_after_the_other_need_a_line_between_them() {
    let one = r#"{"kind":"Tenant","name":"public","spec":{}}"#;
    let other = r#"{"kind":"Tenant","name":"public","spec":{"qos":"gold"}}"#;
    let joined = mistakes(&format!("{one}\n{other}"));
    assert_eq!(joined, ["f:2:1: only one value stands in a document; separate documents with a line ---"]);
    let separated = mistakes(&format!("{one}\n---\n{other}"));
    assert_eq!(
        separated,
        ["f:3:25: name: Tenant public is declared twice, first at f:1:25; remove or rename one"]
    );
}

#[test]
fn bytes_that_are_no_text_say_where_they_stop_being_it() {
    let utf8 = "the file is not UTF-8 from here on; save it as UTF-8";
    let table: [(&[u8], &str, &str); 6] = [
        (b"a: \xff", "1:4", utf8),
        (b"a: 1\r\nb: \xe2\x82", "2:4", utf8),
        (b"a\rb\n\nc\xed\xa0\x80", "4:2", utf8),
        (b"\xef\xbb\xbfa: \xff", "1:5", utf8),
        (b"\xff\xfea\0", "1:1", "the file is UTF-16; save it as UTF-8"),
        (b"\xfe\xff\0a", "1:1", "the file is UTF-16; save it as UTF-8"),
    ];
    for (content, place, what) in table {
        let found = documents(&[Source { file: "f", content }]).unwrap_err();
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [format!("f:{place}: {what}")]);
    }
}

#[test]
fn a_byte_order_mark_crlf_tabs_in_json_and_comments_are_read() {
    let written = [
        "\u{feff}kind: Tenant\r\nname: public # the one without keys\r\nspec: {}\r\n",
        "{\r\n\t\"kind\": \"Tenant\",\r\n\t\"name\":\"public\",\r\n\t\"spec\": {\t}\r\n}\r\n",
        "%YAML 1.2\n---\n'kind': \"Tenant\"\n? name\n: public\nspec:\n  weight: ~\n...\n",
        "---\n---\n# nothing\n---\n{kind: Tenant, name: public, spec: {qos: }}\n---\n",
    ];
    for content in written {
        let parsed = read(content).unwrap_or_else(|mistakes| panic!("{content:?}: {mistakes:?}"));
        assert_eq!(parsed.documents.len(), 1, "{content:?}");
        assert_eq!(parsed.documents[0].name.as_str(), "public");
    }
}

#[test]
fn nothing_at_all_is_no_document_and_no_mistake() {
    for content in ["", "\n\n", "# only a comment\n", "---\n", "---\n...\n---\n", "~", "null"] {
        assert_eq!(read(content).unwrap().documents, [], "{content:?}");
    }
}

#[test]
fn depth_is_read_up_to_its_limit_and_refused_one_past_it() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let read = |content: &str| {
        let reader = Reader::new("f");
        let nodes = tree::read(&Source { file: "f", content: content.as_bytes() }, &reader);
        (nodes.len(), reader.finish())
    };
    assert_eq!(read(&nested(DEPTH_MAX)), (1, Ok(Vec::new())));
    let (documents, mistakes) = read(&nested(DEPTH_MAX + 1));
    assert_eq!(documents, 0);
    assert_eq!(mistakes.unwrap_err()[0].to_string(), "f:1:33: lists and maps are nested more than 32 deep");
}

#[test]
fn values_are_counted_up_to_their_limit_and_refused_one_past_it() {
    let read = |values: usize| {
        let reader = Reader::new("f");
        let content = "- 1\n".repeat(values);
        let nodes = tree::read(&Source { file: "f", content: content.as_bytes() }, &reader);
        (nodes.len(), reader.finish())
    };
    // The list itself is one of them.
    assert_eq!(read(NODES_MAX - 1), (1, Ok(Vec::new())));
    let (documents, mistakes) = read(NODES_MAX);
    assert_eq!(documents, 0);
    let shown = mistakes.unwrap_err()[0].to_string();
    assert_eq!(shown, "f:1000000:3: the file holds more than 1,000,000 values; split it");
}

#[test]
fn every_node_knows_its_place() {
    let reader = Reader::new("f");
    let content = "a: 1\nlong: { b: [x,\n  'y' ] }\n";
    let nodes = tree::read(&Source { file: "f", content: content.as_bytes() }, &reader);
    let list = nodes[0].child("long").unwrap().child("b").unwrap();
    let tree::Value::List(items) = &list.value else { panic!("a list: {list:?}") };
    let places = [&nodes[0], list, &items[0], &items[1]].map(|node| (node.mark.line, node.mark.column));
    assert_eq!(places, [(1, 1), (2, 12), (2, 13), (3, 3)]);
    assert_eq!(nodes[0].child("a").unwrap().mark, Mark { line: 1, column: 4 });
}
