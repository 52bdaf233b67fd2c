//! A page of metrics, read as Prometheus reads it: every line is a comment, or a name with labels and a
//! number.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Caller;

/// Values by name, and by name and labels as they stand.
pub struct Page(BTreeMap<String, f64>);

impl Page {
    /// From the admin port of a data plane.
    pub async fn of(admin: SocketAddr) -> Page {
        let answer = Caller::new(admin).get("/metrics").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        Page::read(&answer.text)
    }

    fn read(text: &str) -> Page {
        let mut values = BTreeMap::new();
        let mut typed: BTreeMap<&str, &str> = BTreeMap::new();
        assert!(text.ends_with('\n'), "the last line ends");
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                match (words.next(), words.next(), words.next()) {
                    (Some("HELP"), Some(_), Some(help)) => assert!(!help.is_empty(), "{line}"),
                    (Some("TYPE"), Some(name), Some(kind @ ("counter" | "gauge" | "histogram"))) => {
                        assert_eq!(typed.insert(name, kind), None, "{name} is declared once");
                    }
                    _ => panic!("no comment of the format: {line}"),
                }
                continue;
            }
            let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let name = key.split('{').next().unwrap_or_default();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_typed = typed.contains_key(name)
                || family.is_some_and(|family| typed.get(family) == Some(&"histogram"));
            assert!(is_typed, "{name} has no type");
            assert!(key == name || key.ends_with('}'), "{line}");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert_eq!(values.insert(key.to_owned(), value), None, "{key} stands once");
        }
        Page(values)
    }

    /// The value of `name` or `name{labels}`; 0 where it is not there.
    pub fn value(&self, key: &str) -> u64 {
        self.0.get(key).copied().unwrap_or_default() as u64
    }

    /// Of all labels of a name.
    pub fn sum(&self, name: &str) -> u64 {
        let of_name = |key: &&String| key.split('{').next() == Some(name);
        self.0.iter().filter(|(key, _)| of_name(key)).map(|(_, value)| *value as u64).sum()
    }
}
