//! The data plane alone: `atp-dataplane --config FILE`.

use std::process::ExitCode;

use dataplane_io::telemetry::logs::Format;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match (args.next(), args.next(), args.next()) {
        (Some(flag), Some(file), None) if flag == "--config" => {
            dataplane_io::run::from_file(file.as_ref(), Format::from_env())
        }
        _ => {
            eprintln!("usage: atp-dataplane --config FILE");
            ExitCode::from(2)
        }
    }
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
