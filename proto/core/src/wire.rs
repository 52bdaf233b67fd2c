//! Generated protobuf messages. The services over them are in `proto/rpc`, so that pure code never sees gRPC.
#![allow(missing_docs, clippy::all, clippy::too_many_lines)]

include!(concat!(env!("OUT_DIR"), "/wire.rs"));
