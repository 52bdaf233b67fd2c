//! The reader as the planes use it for their own files.

use crate::parse::{Fields, Mistake, Source, config};

#[derive(Debug, PartialEq)]
struct Settings {
    port: u16,
    workers: Option<u32>,
    share: f64,
    verbose: bool,
}

fn read_settings(fields: &Fields<'_>) -> Option<Settings> {
    let port = fields.must("listen", |listen| {
        let listen = listen.fields(&["port"])?;
        listen.or("port", 7443, |port| port.whole(1..=u16::MAX))
    });
    let workers = fields.maybe("workers", |workers| workers.whole(1..=1024));
    let share = fields.or("share", 0.5, |share| share.number(0.0..=1.0));
    let verbose = fields.or("verbose", false, |verbose| verbose.boolean());
    Some(Settings { port: port?, workers: workers?, share: share?, verbose: verbose? })
}

fn settings(content: &str) -> Result<(Settings, Vec<Mistake>), Vec<String>> {
    let source = Source { file: "s.yaml", content: content.as_bytes() };
    config(&source, &["listen", "workers", "share", "verbose"], read_settings)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

#[test]
fn settings_are_read_with_their_defaults() {
    let (read, warnings) = settings("listen: {}\nworkers: 4\nverbose: true\n").unwrap();
    assert_eq!(read, Settings { port: 7443, workers: Some(4), share: 0.5, verbose: true });
    assert_eq!(warnings, []);
}

#[test]
fn every_mistake_in_settings_is_told_at_once() {
    let found = settings("listen: { port: 65536 }\nworker: 4\nshare: 1.5\nverbose: maybe\n").unwrap_err();
    let expected = [
        "s.yaml:1:17: listen.port: 65536 is above 65535; 1 to 65535 is allowed",
        "s.yaml:2:1: worker: there is no such field; did you mean workers? There are listen, workers, \
         share, verbose",
        "s.yaml:3:8: share: 1.5 is above 1; 0 to 1 is allowed",
        "s.yaml:4:10: verbose: \"maybe\" is text, true or false is expected",
    ];
    assert_eq!(found, expected);
}

#[test]
fn an_empty_file_has_no_fields_and_a_second_document_is_a_mistake() {
    assert_eq!(settings("").unwrap_err(), ["s.yaml:1:1: listen: is missing"]);
    let second = "s.yaml:3:1: a second document starts here; settings are one document";
    assert_eq!(settings("listen: {}\n---\nlisten: {}\n").unwrap_err(), [second]);
}

#[test]
fn mistakes_are_told_up_to_their_limit() {
    let content: String = (0..3000).map(|at| format!("a{at}: 1\n")).collect();
    let found = settings(&content).unwrap_err();
    assert_eq!(found.len(), 1001);
    assert_eq!(found[1000], "there are more mistakes; mend these first");
}

#[test]
fn a_number_at_the_end_of_u64_is_taken_where_the_range_says_so() {
    let read = |content: &str| {
        let source = Source { file: "s", content: content.as_bytes() };
        config(&source, &["n"], |fields| fields.must("n", |n| n.whole(0..=u64::MAX))).map(|(n, _)| n)
    };
    assert_eq!(read("n: 18446744073709551615"), Ok(u64::MAX));
    assert!(read("n: 18446744073709551616").is_err());
}
