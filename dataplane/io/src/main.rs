//! The data plane alone: `atp-dataplane --config FILE`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match (args.next(), args.next(), args.next()) {
        (Some(flag), Some(file), None) if flag == "--config" => dataplane_io::run::from_file(file.as_ref()),
        _ => {
            eprintln!("usage: atp-dataplane --config FILE");
            ExitCode::from(2)
        }
    }
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
