//! Whether requests are traced, and where their spans go: OpenTelemetry's variables, and the older names that
//! existing deployments set.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use dataplane_core::trace::Sampler;
use proto_core::logline;
use proto_core::parse::Mistake;
use proto_core::parse::environment::{Row, Variable, flag, whole};

/// How requests are traced.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tracing {
    /// `None`: not at all.
    pub sampler: Option<Sampler>,
    /// `None`: contexts are passed on, and nothing is recorded.
    pub export: Option<Export>,
}

/// Where spans go.
#[derive(Clone, PartialEq)]
pub struct Export {
    /// OTLP over gRPC.
    pub endpoint: String,
    /// Sent along; may hold credentials.
    pub headers: HashMap<String, String>,
    /// Who the spans are of.
    pub resource: Vec<(String, String)>,
    /// Spans that wait; more are dropped.
    pub spans_max: usize,
    /// In one call.
    pub batch: usize,
    pub every: Duration,
    pub timeout: Duration,
}

impl Export {
    /// Headers are credentials more often than not, and who reads one on the way has it.
    fn check_cleartext(&self, mistakes: &mut Vec<Mistake>) {
        let is_open = self.endpoint.starts_with("http://") && !super::is_of_this_machine(&self.endpoint);
        if is_open && !self.headers.is_empty() {
            let what = format!(
                "would go to {} in cleartext, for everybody on the way to read; name an https:// endpoint, \
                 or one on this machine",
                logline::redacted(&self.endpoint)
            );
            mistakes.push(Mistake { place: None, path: HEADERS.into(), what });
        }
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Export { endpoint, headers, spans_max, .. } = self;
        let headers: Vec<&String> = headers.keys().collect();
        f.debug_struct("Export")
            .field("endpoint", endpoint)
            .field("headers", &headers)
            .field("spans_max", spans_max)
            .finish_non_exhaustive()
    }
}

/// What the environment said so far.
#[derive(Debug)]
pub(super) struct Said {
    is_on: bool,
    is_disabled: bool,
    has_export: bool,
    sampler: String,
    argument: Option<String>,
    sampled_by: Sampler,
    /// By how they go before each other.
    endpoints: [Option<String>; 3],
    headers: HashMap<String, String>,
    service: Option<String>,
    resource: Vec<(String, String)>,
    spans_max: usize,
    batch: usize,
    every_ms: u64,
    timeout_ms: u64,
}

impl Default for Said {
    fn default() -> Said {
        Said {
            is_on: false,
            is_disabled: false,
            has_export: true,
            sampler: String::new(),
            argument: None,
            sampled_by: Sampler::default(),
            endpoints: [const { None }; 3],
            headers: HashMap::new(),
            service: None,
            resource: Vec::new(),
            spans_max: SPANS_MAX,
            batch: BATCH,
            every_ms: EVERY_MS,
            timeout_ms: TIMEOUT_MS,
        }
    }
}

impl Said {
    pub fn is_wanted(&self) -> bool {
        self.is_on && !self.is_disabled
    }

    pub fn whole(self, mistakes: &mut Vec<Mistake>) -> Tracing {
        if !self.is_wanted() {
            return Tracing::default();
        }
        let mut resource = self.resource;
        let own = resource.iter().position(|(name, _)| name == SERVICE_NAME);
        let own = own.map(|at| resource.remove(at).1);
        resource.push((SERVICE_NAME.into(), self.service.or(own).unwrap_or_else(|| SERVICE.into())));
        resource.push(("service.version".into(), env!("CARGO_PKG_VERSION").into()));
        let export = Export {
            endpoint: self.endpoints.into_iter().flatten().next().unwrap_or_else(|| ENDPOINT.into()),
            headers: self.headers,
            resource,
            spans_max: self.spans_max,
            batch: self.batch.min(self.spans_max),
            every: Duration::from_millis(self.every_ms),
            timeout: Duration::from_millis(self.timeout_ms),
        };
        let export = self.has_export.then_some(export);
        if let Some(export) = &export {
            export.check_cleartext(mistakes);
        }
        Tracing { sampler: Some(self.sampled_by), export }
    }

    /// The name and the argument come one after the other.
    fn sample(&mut self) -> Result<(), String> {
        if !self.sampler.is_empty() {
            self.sampled_by = Sampler::parse(&self.sampler, self.argument.as_deref())?;
        }
        Ok(())
    }

    fn on_endpoint(&mut self, at: usize, text: &str) -> Result<(), String> {
        let is_url = ["http://", "https://"].iter().any(|start| text.starts_with(start));
        self.endpoints[at] = Some(text.into());
        if is_url { Ok(()) } else { Err("begins with neither http:// nor https://".into()) }
    }
}

fn protocol(_: &mut Said, text: &str) -> Result<(), String> {
    if text == "grpc" { Ok(()) } else { Err("is not `grpc`, the only protocol spoken here".into()) }
}

pub(super) const VARIABLES: &[Variable<Said>] = &[
    Variable {
        row: Row::new("ROUTER_ENABLE_TRACING", "0", "whether requests are traced"),
        take: |said, text| flag(text).map(|is_on| said.is_on = is_on),
    },
    Variable {
        row: Row::new("OTEL_SDK_DISABLED", "0", "whether they are not, all the same"),
        take: |said, text| flag(text).map(|is_disabled| said.is_disabled = is_disabled),
    },
    Variable {
        row: Row::new("ROUTER_DISABLE_OTLP_EXPORT", "0", "whether contexts are only passed on"),
        take: |said, text| flag(text).map(|is_disabled| said.has_export = !is_disabled),
    },
    Variable {
        row: Row::new("ROUTER_OTLP_ENDPOINT", ENDPOINT, "where spans go, by OTLP over gRPC"),
        take: |said, text| said.on_endpoint(0, text),
    },
    Variable {
        row: Row::new("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "", "the same, where that one is not set"),
        take: |said, text| said.on_endpoint(1, text),
    },
    Variable {
        row: Row::new("OTEL_EXPORTER_OTLP_ENDPOINT", "", "the same, where neither is set"),
        take: |said, text| said.on_endpoint(2, text),
    },
    Variable {
        row: Row::new(HEADERS, "", "sent with spans: name=value,name=value").secret(),
        take: |said, text| {
            let pairs = read_pairs(text)?.into_iter();
            said.headers = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
            Ok(())
        },
    },
    Variable {
        row: Row::new("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "nothing else is spoken"),
        take: protocol,
    },
    Variable {
        row: Row::new("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "nothing else is spoken"),
        take: protocol,
    },
    Variable {
        row: Row::new("OTEL_SERVICE_NAME", SERVICE, "who spans are of"),
        take: |said, text| {
            said.service = Some(text.into());
            Ok(())
        },
    },
    Variable {
        row: Row::new("OTEL_RESOURCE_ATTRIBUTES", "", "more about who they are of: name=value,name=value"),
        take: |said, text| {
            said.resource = read_pairs(text)?;
            Ok(())
        },
    },
    Variable {
        row: Row::new("OTEL_TRACES_SAMPLER_ARG", "1", "the share of a traceidratio sampler, 0 to 1"),
        take: |said, text| {
            said.argument = Some(text.into());
            Ok(())
        },
    },
    Variable {
        row: Row::new("OTEL_TRACES_SAMPLER", "parentbased_always_on", "which requests are traced"),
        take: |said, text| {
            said.sampler = text.into();
            said.sample()
        },
    },
    Variable {
        row: Row::new("OTEL_BSP_MAX_QUEUE_SIZE", "2048", "spans that wait; more are dropped"),
        take: |said, text| whole(text, 1..=1 << 20).map(|spans| said.spans_max = spans),
    },
    Variable {
        row: Row::new("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512", "spans in one call"),
        take: |said, text| whole(text, 1..=1 << 14).map(|spans| said.batch = spans),
    },
    Variable {
        row: Row::new("OTEL_BSP_SCHEDULE_DELAY", "5000", "milliseconds until a batch that is not full goes"),
        take: |said, text| whole(text, 1..=600_000).map(|millis| said.every_ms = millis),
    },
    Variable {
        row: Row::new("OTEL_BSP_EXPORT_TIMEOUT", "30000", "milliseconds for one call"),
        take: |said, text| whole(text, 1..=600_000).map(|millis| said.timeout_ms = millis),
    },
];

/// `a=b,c=d`, with percent signs as in addresses.
fn read_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim();
        (!name.is_empty()).then(|| Some((name.to_owned(), decoded(value.trim())?)))?
    };
    let parts = text.split(',').filter(|part| !part.trim().is_empty());
    let pairs: Option<Vec<_>> = parts.map(pair).collect();
    pairs.ok_or_else(|| "is not written name=value,name=value".into())
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const ENDPOINT: &str = "http://localhost:4317";
const SERVICE_NAME: &str = "service.name";
const SERVICE: &str = "atp-router";
/// OpenTelemetry's own defaults.
const SPANS_MAX: usize = 2048;
const BATCH: usize = 512;
const EVERY_MS: u64 = 5000;
const TIMEOUT_MS: u64 = 30_000;

#[cfg(test)]
mod tests {
    use proto_core::parse::environment::take_all;

    use super::*;

    fn read(env: &[(&str, &str)]) -> Result<Tracing, Vec<String>> {
        let mut said = Said::default();
        let look =
            |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        let mut mistakes = take_all(VARIABLES, &look, &mut said);
        let tracing = said.whole(&mut mistakes);
        let told = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>();
        if told.is_empty() { Ok(tracing) } else { Err(told) }
    }

    #[test]
    fn it_is_off_until_it_is_asked_for() {
        assert_eq!(read(&[]), Ok(Tracing::default()));
        assert_eq!(read(&[("ROUTER_OTLP_ENDPOINT", "http://there:4317")]), Ok(Tracing::default()));
        let disabled = [("ROUTER_ENABLE_TRACING", "1"), ("OTEL_SDK_DISABLED", "true")];
        assert_eq!(read(&disabled), Ok(Tracing::default()));
    }

    #[test]
    fn on_it_samples_what_its_callers_do_and_exports_here() {
        let tracing = read(&[("ROUTER_ENABLE_TRACING", "1")]).unwrap();
        assert_eq!(tracing.sampler, Some(Sampler::default()));
        let export = tracing.export.unwrap();
        assert_eq!((&*export.endpoint, export.spans_max, export.batch), (ENDPOINT, SPANS_MAX, BATCH));
        assert_eq!(export.resource[0], ("service.name".into(), "atp-router".into()));
        let quiet = read(&[("ROUTER_ENABLE_TRACING", "1"), ("ROUTER_DISABLE_OTLP_EXPORT", "1")]).unwrap();
        assert!(quiet.sampler.is_some() && quiet.export.is_none());
    }

    #[test]
    fn names_of_both_kinds_are_read_and_the_older_one_counts() {
        let tracing = read(&[
            ("ROUTER_ENABLE_TRACING", "yes"),
            ("ROUTER_OTLP_ENDPOINT", "https://one:1"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://two:2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20secret, x-a = b"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.name=other"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
        ]);
        let export = tracing.unwrap().export.unwrap();
        assert_eq!((&*export.endpoint, export.spans_max, export.batch), ("https://one:1", 8, 8));
        assert_eq!(export.headers["authorization"], "Bearer secret");
        assert_eq!(export.headers["x-a"], "b");
        let named = |name: &str| export.resource.iter().find(|(known, _)| known == name).map(|(_, v)| &**v);
        assert_eq!(named("deployment.environment"), Some("test"));
        assert_eq!(named("service.name"), Some("other"));
        assert!(!format!("{export:?}").contains("secret"), "credentials are not shown");
    }

    #[test]
    fn credentials_leave_this_machine_behind_tls_only() {
        let with = |endpoint: &str, export: &str| {
            read(&[
                ("ROUTER_ENABLE_TRACING", "1"),
                ("ROUTER_DISABLE_OTLP_EXPORT", export),
                ("ROUTER_OTLP_ENDPOINT", endpoint),
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret"),
            ])
        };
        for here in ["http://localhost:4317", "http://127.0.0.9:4317", "http://[::1]:4317", "https://otel"] {
            assert!(with(here, "0").is_ok(), "{here}");
        }
        for there in ["http://otel:4317", "http://127.0.0.1.example.com", "http://localhost@otel:4317"] {
            let told = with(there, "0").unwrap_err().join(" ");
            assert!(told.starts_with("OTEL_EXPORTER_OTLP_HEADERS: would go to"), "{told}");
            assert!(!told.contains("secret"), "{told}");
            assert!(with(there, "1").is_ok(), "nothing is sent");
        }
        assert!(
            read(&[("ROUTER_ENABLE_TRACING", "1"), ("ROUTER_OTLP_ENDPOINT", "http://otel:4317")]).is_ok()
        );
    }

    #[test]
    fn every_mistake_is_told() {
        let told = read(&[
            ("ROUTER_ENABLE_TRACING", "maybe"),
            ("ROUTER_OTLP_ENDPOINT", "there:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ]);
        let told = told.unwrap_err();
        assert_eq!(told.len(), 6, "{told:?}");
        assert!(!told.join(" ").contains("secret"));
    }
}
