//! Instructions each decision on the path executes, counted by valgrind: the same on a busy machine as on an
//! idle one.
//!
//! A scenario runs in a process of its own under callgrind, once `ITERATIONS` times and once twice as often;
//! the difference is what the iterations alone took. Compared with `instructions.baseline`, which `--update`
//! rewrites.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    if let Some(name) = benches::value_of("--run") {
        let times = benches::value_of("--times").and_then(|times| times.parse().ok());
        return run(&name, times.unwrap_or(ITERATIONS));
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed: instructions were not counted");
        return ExitCode::SUCCESS;
    }
    let iterations = if benches::has_flag("--test") { ITERATIONS_QUICK } else { ITERATIONS };
    let mut counted = BTreeMap::new();
    for scenario in benches::SCENARIOS.iter().chain(benches::RIVALS) {
        match count(scenario.name, iterations) {
            Ok(count) => drop(counted.insert(scenario.name.to_owned(), count)),
            Err(error) => {
                eprintln!("{}: {error}", scenario.name);
                return ExitCode::FAILURE;
            }
        }
    }
    if !are_within_bars(&counted) {
        return ExitCode::FAILURE;
    }
    // What others take is not ours to keep.
    counted.retain(|name, _| !benches::RIVALS.iter().any(|rival| rival.name == name));
    if benches::has_flag("--update") {
        return match std::fs::write(baseline_path(), written(&counted)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", baseline_path().display());
                ExitCode::FAILURE
            }
        };
    }
    let text = std::fs::read_to_string(baseline_path()).unwrap_or_default();
    compare(&counted, &read(&text))
}

/// Whether we take as little as we promise beside others.
fn are_within_bars(counted: &BTreeMap<String, u64>) -> bool {
    let is_within = |(own, other, permille): &(&str, &str, u64)| {
        let (ours, theirs) = (counted[*own], counted[*other]);
        let note = if ours * 1000 <= theirs * permille { "" } else { "  MORE" };
        println!(
            "{own}: {:.2} of {other}, bar {:.2}{note}",
            ours as f64 / theirs as f64,
            *permille as f64 / 1e3
        );
        note.is_empty()
    };
    // All of them, so that all are told.
    BARS.iter().filter(|bar| !is_within(bar)).count() == 0
}

/// The child: a scenario so many times, nothing else.
fn run(name: &str, times: u64) -> ExitCode {
    let Some(scenario) = benches::scenario(name) else {
        eprintln!("there is no scenario {name}");
        return ExitCode::FAILURE;
    };
    let mut step = scenario.ready();
    (0..times).for_each(|_| step());
    ExitCode::SUCCESS
}

/// Instructions of one step.
fn count(name: &str, iterations: u64) -> Result<u64, String> {
    let (once, twice) = (whole(name, iterations)?, whole(name, 2 * iterations)?);
    Ok(twice.saturating_sub(once) / iterations)
}

/// Instructions of a whole process.
fn whole(name: &str, times: u64) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args(["--run", name, "--times", &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match collected {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(said.into_owned()),
    }
}

fn compare(counted: &BTreeMap<String, u64>, baseline: &BTreeMap<String, u64>) -> ExitCode {
    let mut is_sound = true;
    println!("{:<34} {:>12} {:>12} {:>8}", "instructions each time", "now", "baseline", "change");
    for (name, now) in counted {
        let Some(before) = baseline.get(name) else {
            println!("{name:<34} {now:>12} {:>12}", "none");
            continue;
        };
        let permille = (*now as f64 - *before as f64) * 1000.0 / (*before).max(1) as f64;
        let is_off = permille.abs() > TOLERANCE_PERMILLE && now.abs_diff(*before) > SLACK;
        is_sound &= !is_off || permille < 0.0;
        let note = match (is_off, permille < 0.0) {
            (false, _) => "",
            (true, true) => "  fewer: write them down with --update",
            (true, false) => "  MORE",
        };
        println!("{name:<34} {now:>12} {before:>12} {:>7.1}%{note}", permille / 10.0);
    }
    if is_sound {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "more instructions than the baseline allows; if that buys something, say what and run --update"
    );
    ExitCode::FAILURE
}

fn written(counted: &BTreeMap<String, u64>) -> String {
    let lines: String = counted.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
    format!(
        "# Instructions of one step, by `cargo bench -p benches --bench instructions -- --update`.\n{lines}"
    )
}

fn read(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect()
}

fn baseline_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.baseline")
}

/// Ours, another's, and how much of its instructions ours may take, in thousandths.
const BARS: &[(&str, &str, u64)] = &[
    ("read_json_frame_1_kib", "read_json_frame_serde_owned", 700),
    ("read_json_frame_1_kib", "read_json_frame_serde_borrowed", 700),
];

const ITERATIONS: u64 = 1000;
const ITERATIONS_QUICK: u64 = 20;
/// Another compiler of the same year stays within it.
const TOLERANCE_PERMILLE: f64 = 100.0;
/// Of a step so short that a spilled register is a tenth of it.
const SLACK: u64 = 5;
