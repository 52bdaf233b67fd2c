//! Logs: to standard error, as text or JSON, at `info` unless `RUST_LOG` says otherwise. Every line passes
//! [`proto_core::logline`], which takes secrets and prompts out of it.

use std::fmt;
use std::io::IsTerminal;

use proto_core::logline::{About, Line, Shape};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

pub use proto_core::logline::Shape as Format;

/// `ATP_LOG_FORMAT`, where it says one.
pub fn format_of_environment() -> Option<Format> {
    Format::parse(&std::env::var("ATP_LOG_FORMAT").ok()?)
}

/// Starts logging, once a process; later calls change nothing.
pub fn start(shape: Shape) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Already started, as in tests: keep that one.
    let _ = builder.with_ansi(std::io::stderr().is_terminal()).event_format(Lines(shape)).try_init();
}

/// Writes events as lines.
struct Lines(Shape);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (metadata, mut at) = (event.metadata(), String::new());
        SystemTime.format_time(&mut Writer::new(&mut at))?;
        let about = About { at: &at, level: metadata.level().as_str(), target: metadata.target() };
        if !about.may_be_written() {
            return Ok(());
        }
        let mut said = Said(Line::default());
        event.record(&mut said);
        let colour = out.has_ansi_escapes().then(|| colour(*metadata.level()));
        writeln!(out, "{}", said.0.write(self.0, &about, colour))
    }
}

struct Said(Line);

impl Visit for Said {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.plain(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.plain(field.name(), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.plain(field.name(), &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.text(field.name(), &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.text(field.name(), &format_args!("{value:?}"));
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    }
}
