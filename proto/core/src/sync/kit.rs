//! Shared by the tests of both ends.

use super::{Generation, PublishedSet, wire};

/// A resource whose body says its version.
pub fn body(kind: &str, name: &str, version: u64) -> wire::ResourceBody {
    let json = format!("{{\"version\":{version}}}").into_bytes().into();
    wire::ResourceBody { kind: kind.into(), name: name.into(), version, json }
}

/// A set of one resource.
pub fn set(epoch: u64, number: u64) -> PublishedSet {
    PublishedSet::new(Generation { epoch, number }, vec![body("Route", "a", number)])
        .expect("one small resource")
}

/// A whole list of one place, with so much left of its lease.
pub fn places(adapter: &str, left_ms: u32) -> wire::Places {
    let place = wire::Place { adapter: adapter.into(), endpoint: "http://10.0.0.7:8000/v1".into(), left_ms };
    wire::Places { places: vec![place], is_whole: true }
}
