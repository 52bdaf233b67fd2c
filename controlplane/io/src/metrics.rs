//! What the control plane counts. Names start with `atp_controlplane_`; everything that can be looked up is
//! looked up when it is scraped, so a gauge cannot disagree with what it shows.

use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use proto_core::model::Kind;

use crate::planes::Planes;
use crate::writer::State;

/// Handles of every metric.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    generation: IntGauge,
    resources: IntGaugeVec,
    connected: IntGauge,
    current: IntGauge,
    applies: IntCounterVec,
    registered: IntGauge,
    unregistered: IntCounter,
    /// Generations data planes said they serve.
    pub acks: IntCounter,
    /// Generations data planes refused.
    pub rejections: IntCounter,
    /// Calls without a valid token.
    pub unauthenticated: IntCounter,
    /// Connections ended because their certificate is trusted no more.
    pub tls_retired: IntCounter,
}

/// What became of an Apply or Delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    Unchanged,
    Mistakes,
    Failed,
}

impl Outcome {
    const ALL: [Outcome; 4] = [Outcome::Applied, Outcome::Unchanged, Outcome::Mistakes, Outcome::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Unchanged => "unchanged",
            Outcome::Mistakes => "mistakes",
            Outcome::Failed => "failed",
        }
    }
}

impl Metrics {
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let options = |name: &str, help: &str| Opts::new(name, help);
        let gauge = |name, help| IntGauge::with_opts(options(name, help));
        let counter = |name, help| IntCounter::with_opts(options(name, help));
        let metrics = Metrics {
            registry: Registry::new(),
            generation: gauge("atp_controlplane_generation", "Number of the stored generation.")?,
            resources: IntGaugeVec::new(
                options("atp_controlplane_resources", "Stored resources by kind."),
                &["kind"],
            )?,
            connected: gauge(
                "atp_controlplane_data_planes_connected",
                "Data planes with an open Sync stream.",
            )?,
            current: gauge(
                "atp_controlplane_data_planes_current",
                "Connected data planes that serve the stored generation.",
            )?,
            applies: IntCounterVec::new(
                options(
                    "atp_controlplane_applies_total",
                    "Calls that would change resources, by what became of them.",
                ),
                &["outcome"],
            )?,
            registered: gauge(
                "atp_controlplane_registered_endpoints",
                "Endpoints where adapters stand, each as often as a data plane said it.",
            )?,
            unregistered: counter(
                "atp_controlplane_registrations_dropped_total",
                "Endpoints that data planes said and that found no room.",
            )?,
            acks: counter("atp_controlplane_acks_total", "Generations that data planes said they serve.")?,
            rejections: counter(
                "atp_controlplane_rejections_total",
                "Generations that data planes refused.",
            )?,
            unauthenticated: counter(
                "atp_controlplane_unauthenticated_total",
                "Calls refused for want of a valid token.",
            )?,
            tls_retired: counter(
                "atp_controlplane_tls_retired_total",
                "Connections ended because their certificate is trusted no more.",
            )?,
        };
        metrics.register()?;
        // Shown from the start, so that a first failure is a step and not a series out of nowhere.
        for outcome in Outcome::ALL {
            metrics.applies.with_label_values(&[outcome.as_str()]);
        }
        Ok(metrics)
    }

    pub fn applied(&self, outcome: Outcome) {
        self.applies.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Prometheus' text exposition.
    pub fn exposition(&self, state: &State, planes: &Planes) -> Result<String, prometheus::Error> {
        self.generation.set(i64::try_from(state.generation().number).unwrap_or(i64::MAX));
        for kind in Kind::ALL {
            self.resources.with_label_values(&[kind.as_str()]).set(whole(state.stored.of(kind).count()));
        }
        let (registered, dropped) = planes.registered();
        self.registered.set(whole(registered));
        self.unregistered.inc_by(dropped.saturating_sub(self.unregistered.get()));
        let (planes, _) = planes.all();
        let connected = planes.iter().filter(|(_, plane)| plane.stream.is_some());
        let current = connected.clone().filter(|(_, plane)| plane.held == Some(state.published.held()));
        self.connected.set(whole(connected.count()));
        self.current.set(whole(current.count()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|_| prometheus::Error::Msg("a metric is not UTF-8".into()))
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(self.generation.clone()))?;
        self.registry.register(Box::new(self.resources.clone()))?;
        self.registry.register(Box::new(self.connected.clone()))?;
        self.registry.register(Box::new(self.current.clone()))?;
        self.registry.register(Box::new(self.applies.clone()))?;
        self.registry.register(Box::new(self.registered.clone()))?;
        self.registry.register(Box::new(self.unregistered.clone()))?;
        self.registry.register(Box::new(self.acks.clone()))?;
        self.registry.register(Box::new(self.rejections.clone()))?;
        self.registry.register(Box::new(self.unauthenticated.clone()))?;
        self.registry.register(Box::new(self.tls_retired.clone()))
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
