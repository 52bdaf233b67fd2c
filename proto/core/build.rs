//! Turns the .proto files of `proto/api` into messages, without a system protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../api");
    let files = ["atp/control/v1/sync.proto", "atp/admin/v1/admin.proto", "atp/adapter/v1/adapter.proto"];
    let descriptors = protox::compile(files, ["../api"])?;
    prost_build::Config::new().bytes(["."]).include_file("wire.rs").compile_fds(descriptors)?;
    Ok(())
}
