//! Generated gRPC services of `proto/api`; nothing by hand. Messages live in [`proto_core::wire`].
#![allow(missing_docs, clippy::all, clippy::too_many_lines)]

/// Between the planes.
pub mod control {
    tonic::include_proto!("atp.control.v1");
}

/// For operators.
pub mod admin {
    tonic::include_proto!("atp.admin.v1");
}

/// For adapters.
pub mod adapter {
    tonic::include_proto!("atp.adapter.v1");
}

/// The encoded file descriptors, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
