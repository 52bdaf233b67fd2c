//! Who may use whom, and what may come into the house at all. A new dependency is a decision: it is written
//! here, with its reason, in the commit that brings it.

/// What one crate of the workspace may use.
pub struct Room {
    pub name: &'static str,
    /// Crates of the workspace.
    pub inside: &'static [&'static str],
    /// Outside packages; the reason of each is in [`REASONS`].
    pub outside: &'static [&'static str],
    /// Build scripts.
    pub build: &'static [&'static str],
    /// Tests, beside what the crate itself may use.
    pub dev: &'static [&'static str],
}

/// Each crate uses crates of floors below its own only.
pub const FLOORS: &[&[&str]] = &[
    &["proto-core"],
    &["proto-rpc", "dataplane-core", "controlplane-core", "memory-core", "sdk-rust"],
    &["dataplane-state"],
    &["dataplane-io", "controlplane-io", "memory-io", "loadtest"],
    &["cli"],
    &["tests", "benches"],
];

pub const ROOMS: &[Room] = &[
    Room {
        name: "proto-core",
        inside: &[],
        outside: &[
            "bytes",
            "crc32c",
            "hmac",
            "prost",
            "saphyr-parser",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
        ],
        build: &["prost-build", "protox"],
        dev: &["proptest"],
    },
    Room {
        name: "proto-rpc",
        inside: &["proto-core"],
        outside: &["prost", "tonic", "tonic-prost"],
        build: &["prost", "protox", "tonic-prost-build"],
        dev: &[],
    },
    Room {
        name: "dataplane-core",
        inside: &["proto-core"],
        outside: &[
            "arrayvec",
            "bytes",
            "foldhash",
            "hashbrown",
            "http",
            "memchr",
            "prost",
            "serde",
            "serde_json",
            "sha2",
        ],
        build: &[],
        dev: &["proptest"],
    },
    Room {
        name: "dataplane-state",
        inside: &["dataplane-core", "proto-core"],
        outside: &[
            "arc-swap",
            "atomic-waker",
            "crossbeam-queue",
            "crossbeam-utils",
            "foldhash",
            "hashbrown",
            "loom",
        ],
        build: &[],
        dev: &[],
    },
    Room {
        name: "dataplane-io",
        inside: &["dataplane-core", "dataplane-state", "proto-core", "proto-rpc"],
        outside: &[
            "arrayvec",
            "axum",
            "bytes",
            "crossbeam-queue",
            "crossbeam-utils",
            "dashmap",
            "futures-util",
            "h2",
            "h3",
            "hickory-resolver",
            "http",
            "http-body",
            "http-body-util",
            "httpdate",
            "hyper",
            "hyper-util",
            "mimalloc",
            "prometheus",
            "prost",
            "quinn",
            "rustls",
            "rustls-native-certs",
            "serde",
            "serde_json",
            "sha2",
            "socket2",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-stream",
            "tokio-tungstenite",
            "tonic",
            "tonic-prost",
            "tracing",
            "tracing-subscriber",
        ],
        build: &[],
        dev: &["rcgen", "tempfile"],
    },
    Room {
        name: "controlplane-core",
        inside: &["proto-core"],
        outside: &["similar"],
        build: &[],
        dev: &["proptest"],
    },
    Room {
        name: "controlplane-io",
        inside: &["controlplane-core", "proto-core", "proto-rpc"],
        outside: &[
            "axum",
            "bytes",
            "clap",
            "prometheus",
            "rand",
            "redb",
            "rustls",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-stream",
            "tonic",
            "tonic-health",
            "tonic-reflection",
            "tracing",
            "tracing-subscriber",
        ],
        build: &[],
        dev: &["rcgen", "serde_json", "tempfile"],
    },
    Room {
        name: "memory-core",
        inside: &["proto-core"],
        outside: &["hmac", "serde_json", "sha2", "thiserror"],
        build: &[],
        dev: &["proptest"],
    },
    Room {
        name: "memory-io",
        inside: &["memory-core", "proto-core"],
        outside: &[
            "bytes",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "prometheus",
            "redb",
            "redis",
            "rustls",
            "serde",
            "serde_json",
            "sha2",
            "tantivy",
            "thiserror",
            "tokio",
            "tracing",
        ],
        build: &[],
        dev: &["proptest", "tempfile"],
    },
    Room {
        name: "sdk-rust",
        inside: &["proto-core"],
        outside: &[
            "bytes",
            "futures-util",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "quinn",
            "rustls",
            "rustls-native-certs",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio-rustls",
            "tokio-tungstenite",
        ],
        build: &[],
        dev: &[],
    },
    Room {
        name: "cli",
        // `loadtest` in tests only: its mock is the upstream of `tests/e2e`.
        inside: &[
            "controlplane-io",
            "dataplane-io",
            "loadtest",
            "memory-io",
            "proto-core",
            "proto-rpc",
            "sdk-rust",
        ],
        outside: &[
            "bytes",
            "clap",
            "mimalloc",
            "rcgen",
            "serde",
            "serde_json",
            "tokio",
            "tonic",
            "tracing",
            "tracing-subscriber",
        ],
        build: &[],
        dev: &[
            "h3",
            "h3-quinn",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "quinn",
            "rustls",
            "sha2",
            "tempfile",
            "tokio-rustls",
        ],
    },
    Room {
        name: "loadtest",
        inside: &["proto-core", "sdk-rust"],
        outside: &[
            "base64",
            "bytes",
            "clap",
            "hdrhistogram",
            "http",
            "http-body",
            "http-body-util",
            "httparse",
            "hyper",
            "hyper-util",
            "memchr",
            "quinn",
            "rcgen",
            "rustls",
            "serde",
            "serde_json",
            "sha2",
            "socket2",
            "tempfile",
            "tokio",
            "tokio-rustls",
        ],
        build: &[],
        dev: &[],
    },
    Room {
        name: "tests",
        inside: &[
            "controlplane-core",
            "controlplane-io",
            "dataplane-core",
            "dataplane-io",
            "dataplane-state",
            "proto-core",
            "proto-rpc",
            "sdk-rust",
        ],
        outside: &["serde_json"],
        build: &[],
        dev: &[],
    },
    Room {
        name: "benches",
        inside: &[
            "controlplane-core",
            "controlplane-io",
            "dataplane-core",
            "dataplane-io",
            "dataplane-state",
            "proto-core",
            "proto-rpc",
            "sdk-rust",
        ],
        outside: &["bytes", "serde", "serde_json", "sha2"],
        build: &[],
        dev: &[
            "criterion",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "libc",
            "quinn",
            "rcgen",
            "rustls",
            "tempfile",
            "tokio",
        ],
    },
];

/// Why each outside package is here.
pub const REASONS: &[(&str, &str)] = &[
    ("arc-swap", "the one snapshot cell: readers never wait and never see half a set"),
    ("arrayvec", "plans and lists of bounded length live on the stack"),
    (
        "atomic-waker",
        "the waker of whoever waits at a pipe, changed and woken from any thread without a lock",
    ),
    ("axum", "routes of the admin listeners; never on the path of a request"),
    ("base64", "keys of WebSocket handshakes as a stranger on the network makes them"),
    ("bytes", "bodies are shared pieces, never copied"),
    ("clap", "command lines with help, one way everywhere"),
    ("crc32c", "the checksum of every binary frame, by the processor's own instruction"),
    ("criterion", "times of benches with their spread; never in the product"),
    ("crossbeam-queue", "the bounded ring of outcomes on their way to the control plane"),
    ("crossbeam-utils", "cells on cache lines of their own, and a cell that is swapped without a lock"),
    ("dashmap", "runs that are open; asked where a worker does not remember one itself"),
    ("foldhash", "fast seeded hashes for table lookups on the path"),
    ("futures-util", "both halves of a WebSocket, each with a task of its own"),
    ("h2", "frame errors of HTTP/2 by name, to tell a refused stream from a broken one"),
    ("h3", "HTTP/3 over QUIC, a feature that may be left out"),
    ("h3-quinn", "tests' clients of HTTP/3, so that both ends are not the same code"),
    ("hashbrown", "lookups by borrowed keys without building an owned one"),
    ("hdrhistogram", "percentiles of a load test with bounded error"),
    (
        "hickory-resolver",
        "addresses behind a name with their time to live, and SRV, which the system's resolver lacks",
    ),
    ("hmac", "signatures of frames and seals of audit events, compared in constant time"),
    ("http", "the types of requests that every HTTP library shares"),
    ("http-body", "the trait of bodies that hyper moves"),
    ("http-body-util", "small whole bodies: errors, health answers"),
    ("httparse", "the mock server parses heads without a framework, so that it is never the slow part"),
    ("httpdate", "the `date` header of answers over HTTP/3, where no library sets it"),
    ("hyper", "HTTP/1.1 and HTTP/2"),
    ("hyper-util", "hyper on tokio's sockets and timers"),
    ("libc", "the allocations bench asks for a thread's name without allocating"),
    ("loom", "models of our own atomics, every interleaving"),
    ("memchr", "vectorised search in bodies and event streams"),
    ("mimalloc", "the allocator under many small short-lived pieces"),
    ("prometheus", "the registry and the exposition format"),
    ("proptest", "properties of parsers and machines over random input"),
    ("prost", "generated messages"),
    ("prost-build", "generates the messages"),
    ("protox", "compiles .proto files without a system protoc"),
    ("quinn", "QUIC"),
    ("rand", "random tokens and epochs from the system"),
    ("rcgen", "certificates made for tests, and for a machine of one's own"),
    ("redb", "the embedded store: one file that survives kill -9"),
    ("redis", "the store that several memory gateways share"),
    ("rustls", "TLS"),
    ("rustls-native-certs", "the system's roots"),
    ("saphyr-parser", "YAML with lines and columns for messages"),
    ("serde", "JSON shapes of answers"),
    ("serde_json", "JSON"),
    ("sha2", "hashes of keys and of sets"),
    ("similar", "unified text of what an Apply would change"),
    ("socket2", "listen options std does not have: SO_REUSEPORT, backlog"),
    ("tantivy", "full text of the memory gateway: an inverted index, weights, merges"),
    ("tempfile", "folders of tests and of rivals' configurations that clean up after themselves"),
    ("thiserror", "error enums with their text beside them"),
    ("tokio", "the runtime of every `io`"),
    ("tokio-rustls", "TLS on tokio's sockets"),
    ("tokio-stream", "streams of gRPC"),
    ("tokio-tungstenite", "WebSockets"),
    ("tonic", "gRPC"),
    ("tonic-health", "the standard health service"),
    ("tonic-prost", "tonic's codec over generated messages"),
    ("tonic-prost-build", "generates the services"),
    ("tonic-reflection", "the API describes itself to grpcurl"),
    ("tracing", "structured events"),
    ("tracing-subscriber", "where they are written"),
];

/// Packages that must not be built: a name, the first version that may (`None`: none), why.
pub const BANNED: &[(&str, Option<[u64; 3]>, &str)] = &[
    ("ring", None, "one provider of cryptography: aws-lc-rs"),
    ("openssl", None, "TLS is rustls; no system library"),
    ("openssl-sys", None, "TLS is rustls; no system library"),
    ("native-tls", None, "TLS is rustls; no system library"),
    ("rsa", None, "RUSTSEC-2023-0071 is not mended"),
    ("serde_yaml", None, "unmaintained; YAML is proto/core/parse"),
    ("serde_yml", None, "unmaintained; YAML is proto/core/parse"),
    ("bincode", None, "unmaintained"),
    ("paste", None, "unmaintained"),
    ("rustls-pemfile", None, "unmaintained; rustls_pki_types::pem"),
    ("fastwebsockets", None, "unsound; tokio-tungstenite where WebSockets come"),
    ("arc-swap", Some([1, 9, 5]), "load could return a value of another instance"),
    ("bytes", Some([1, 11, 1]), "RUSTSEC-2026-0007"),
    ("crossbeam-epoch", Some([0, 9, 20]), "RUSTSEC-2026-0204"),
    ("h2", Some([0, 4, 19]), "closes healthy connections that carry many small frames"),
    ("quinn-proto", Some([0, 11, 15]), "RUSTSEC-2026-0185"),
    ("rand", Some([0, 8, 6]), "RUSTSEC-2026-0097"),
    ("rustls-webpki", Some([0, 103, 13]), "RUSTSEC-2026-0104"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_outside_package_has_its_reason_and_no_reason_is_left_over() {
        let used: BTreeSet<&str> =
            ROOMS.iter().flat_map(|room| [room.outside, room.build, room.dev].concat()).collect();
        let explained: BTreeSet<&str> = REASONS.iter().map(|(package, _)| *package).collect();
        assert_eq!(used, explained);
        assert!(REASONS.iter().all(|(_, reason)| !reason.is_empty()));
    }

    #[test]
    fn the_list_itself_only_points_downward() {
        let floor = |name: &str| FLOORS.iter().position(|floor| floor.contains(&name));
        for room in ROOMS {
            assert!(floor(room.name).is_some(), "{} stands on no floor", room.name);
            for used in room.inside {
                assert!(floor(used) < floor(room.name), "{} may not use {used}", room.name);
            }
        }
    }

    #[test]
    fn the_planes_never_see_each_other() {
        for room in ROOMS {
            for (own, other) in [("dataplane-", "controlplane-"), ("controlplane-", "dataplane-")] {
                let crosses =
                    room.name.starts_with(own) && room.inside.iter().any(|used| used.starts_with(other));
                assert!(!crosses, "{} sees the other plane", room.name);
            }
        }
    }

    #[test]
    fn state_has_neither_runtime_nor_locks() {
        let state = ROOMS.iter().find(|room| room.name == "dataplane-state").unwrap();
        for package in ["tokio", "parking_lot", "dashmap"] {
            assert!(!state.outside.contains(&package), "{package}");
        }
    }
}
