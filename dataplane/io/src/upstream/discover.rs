//! Asks what addresses a name has, again and again, and tells the places of a server. On the runtime that
//! takes sets in; no request waits for it but those that come before a first answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use dataplane_core::discover::{self, Target, chosen, look_again};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use proto_core::model::{Discovery, Endpoint};
use tokio::time::{sleep, timeout};

use super::places::Found;

/// Who is asked, and how it went; one for a data plane.
#[derive(Default)]
pub struct Names {
    /// In place of the system's.
    servers: Vec<SocketAddr>,
    resolver: OnceLock<TokioResolver>,
    pub looks: AtomicU64,
    pub failures: AtomicU64,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    name: Box<str>,
    /// `None`: an SRV record says.
    port: Option<u16>,
}

impl Wanted {
    /// `None`: the system looks the host up whenever a connection is made.
    pub fn of(endpoint: &Endpoint) -> Option<Wanted> {
        let port = match endpoint.discovery {
            Discovery::None => return None,
            Discovery::Addresses => Some(endpoint.port),
            Discovery::Service => None,
        };
        Some(Wanted { name: endpoint.host.clone(), port })
    }
}

impl Names {
    pub fn new(servers: Vec<SocketAddr>) -> Names {
        Names { servers, ..Names::default() }
    }

    /// Addresses, and for how long they are good.
    async fn look(&self, wanted: &Wanted) -> Result<(Vec<SocketAddr>, Duration), String> {
        // One that could not be made is made again: a file that it reads may not be there yet.
        let resolver = match self.resolver.get() {
            Some(resolver) => resolver,
            None => {
                let made = resolver(&self.servers)?;
                self.resolver.get_or_init(|| made)
            }
        };
        let (mut found, mut until) = (Vec::new(), None);
        let mut targets = Vec::new();
        match wanted.port {
            Some(port) => targets.push(Target { priority: 0, name: wanted.name.to_string(), port }),
            None => {
                let lookup = resolver.srv_lookup(&*wanted.name).await.map_err(|error| error.to_string())?;
                until = Some(lookup.valid_until());
                let lines = lookup.answers().iter().filter_map(|record| match &record.data {
                    RData::SRV(line) => {
                        Some(Target { priority: line.priority, name: line.target.to_utf8(), port: line.port })
                    }
                    _ => None,
                });
                targets = discover::targets(lines);
            }
        }
        let mut missed = None;
        for Target { name, port, .. } in &targets {
            match resolver.lookup_ip(name.as_str()).await {
                Ok(lookup) => {
                    until =
                        Some(until.map_or(lookup.valid_until(), |at: Instant| at.min(lookup.valid_until())));
                    found.extend(lookup.iter().map(|address: IpAddr| SocketAddr::new(address, *port)));
                }
                // One of several that has none yet, or no more.
                Err(error) => missed = Some(error.to_string()),
            }
        }
        match (found.is_empty(), until) {
            (false, Some(until)) => Ok((found, until.saturating_duration_since(Instant::now()))),
            _ => Err(missed.unwrap_or_else(|| "it has no addresses".into())),
        }
    }
}

/// Keeps the places of `found` what `wanted` names, for as long as anybody has them.
pub async fn follow(names: Arc<Names>, wanted: Wanted, found: Weak<Found>) {
    let mut is_well = true;
    while found.strong_count() > 0 {
        // Order: relaxed, a count for people.
        names.looks.fetch_add(1, Ordering::Relaxed);
        let looked = timeout(LOOK_WAIT, names.look(&wanted)).await;
        let looked = looked.unwrap_or_else(|_| Err(format!("no answer within {} s", LOOK_WAIT.as_secs())));
        let Some(place) = found.upgrade() else { return };
        let wait = match looked {
            Ok((addresses, ttl)) => {
                let (addresses, left_out) = chosen(addresses);
                if place.set(&addresses) {
                    let name = &*wanted.name;
                    tracing::info!(
                        name,
                        addresses = addresses.len(),
                        left_out,
                        "an adapter has new addresses"
                    );
                }
                is_well = true;
                look_again(ttl)
            }
            Err(what) => {
                // Order: relaxed, a count for people.
                names.failures.fetch_add(1, Ordering::Relaxed);
                if is_well {
                    let name = &*wanted.name;
                    tracing::warn!(name, %what, "an adapter's addresses are not found; the last are kept");
                }
                is_well = false;
                LOOK_AFTER_FAILURE
            }
        };
        drop(place);
        sleep(wait).await;
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let mut builder = if servers.is_empty() {
        let system = TokioResolver::builder_tokio();
        system.map_err(|error| format!("the system's settings for names cannot be read: {error}"))?
    } else {
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // How long an answer is good decides when it is asked for again, within bounds of our own.
    options.cache_size = 0;
    builder.build().map_err(|error| error.to_string())
}

/// Of one look, all its questions together.
const LOOK_WAIT: Duration = Duration::from_secs(10);
/// After one that failed.
const LOOK_AFTER_FAILURE: Duration = Duration::from_secs(2);
