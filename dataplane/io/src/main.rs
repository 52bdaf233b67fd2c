//! The data plane alone, for small images: `atp-dataplane --config FILE`. Everything is in the library. Its
//! command line is read by hand: an argument parser would be a tenth of the program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use dataplane_io::telemetry::logs::{Format, format_of_environment};

fn main() -> ExitCode {
    match Asked::of(std::env::args_os().skip(1)) {
        Some(Asked::Serve { config, format }) => {
            dataplane_io::run::from_file(&config, format.or_else(format_of_environment))
        }
        Some(Asked::Health(url)) => dataplane_io::probe::run(&url),
        Some(Asked::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Some(Asked::Version) => {
            println!("atp-dataplane {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("{HELP}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Serve { config: PathBuf, format: Option<Format> },
    Health(String),
    Help,
    Version,
}

impl Asked {
    fn of(mut args: impl Iterator<Item = OsString>) -> Option<Asked> {
        let (mut config, mut format) = (None, None);
        let first = args.next()?;
        match first.to_str() {
            Some("-h" | "--help") => return Some(Asked::Help),
            Some("-V" | "--version") => return Some(Asked::Version),
            Some("health") => {
                let url = args.next().map_or(Ok(READY.to_owned()), OsString::into_string).ok()?;
                return (!url.starts_with('-') && args.next().is_none()).then_some(Asked::Health(url));
            }
            _ => {}
        }
        let mut next = Some(first);
        while let Some(flag) = next {
            let value = args.next()?;
            match (flag.to_str()?, value.to_str()) {
                ("--config", _) if config.is_none() => config = Some(PathBuf::from(value)),
                ("--log-format", Some("text")) => format = Some(Format::Text),
                ("--log-format", Some("json")) => format = Some(Format::Json),
                _ => return None,
            }
            next = args.next();
        }
        Some(Asked::Serve { config: config?, format })
    }
}

const READY: &str = "http://127.0.0.1:7443/readyz";
const HELP: &str = "\
The data plane of ATP: serves what its resources file or its control plane says.

usage: atp-dataplane --config FILE [--log-format text|json]
       atp-dataplane health [URL]     whether it is well: exit code 0 or 1 [URL: http://127.0.0.1:7443/readyz]
       atp-dataplane --help | --version

Examples:
  atp-dataplane --config deploy/examples/dataplane.yaml
  ROUTER_PORT=8443 atp-dataplane --config deploy/examples/dataplane.yaml --log-format json

Exit codes: 0 stopped by a signal, 1 failed, 2 wrong usage or settings";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Option<Asked> {
        Asked::of(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_line_is_read_or_refused() {
        let serve = |format| Some(Asked::Serve { config: "c.yaml".into(), format });
        assert_eq!(asked("--config c.yaml"), serve(None));
        assert_eq!(asked("--log-format json --config c.yaml"), serve(Some(Format::Json)));
        assert_eq!(asked("--config c.yaml --log-format text"), serve(Some(Format::Text)));
        assert_eq!(asked("health"), Some(Asked::Health(READY.into())));
        assert_eq!(asked("health http://a/"), Some(Asked::Health("http://a/".into())));
        assert_eq!((asked("--help"), asked("-V")), (Some(Asked::Help), Some(Asked::Version)));
        let wrong = ["", "c.yaml", "--config", "--config a --config b", "--log-format json", "health a b"];
        for line in wrong.into_iter().chain(["--config a --log-format xml", "health --url"]) {
            assert_eq!(asked(line), None, "{line}");
        }
    }
}
