//! Generates gRPC services only: their messages are those of `proto_core::wire`.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../api");
    let files = ["atp/control/v1/sync.proto", "atp/admin/v1/admin.proto", "atp/adapter/v1/adapter.proto"];
    let descriptors = protox::compile(files, ["../api"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().extern_path(".atp", "::proto_core::wire::atp").compile_fds(descriptors)?;
    Ok(())
}
