//! Adapters that register themselves: a capability frame with an endpoint makes that place routable, for as
//! long as its connection lasts and health frames renew it. Only a place that the Adapter's document allows,
//! and only from a peer that may be that adapter: anybody else could have prompts sent to itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto_core::frame::Code;
use proto_core::identity::Identity;
use proto_core::model::Endpoint;
use proto_core::session::Refusal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::opening::{Caller, refusal};
use crate::serve::http::held;
use crate::served::Hold;
use crate::upstream::Upstream;
use crate::upstream::dialled::{Dialled, Registered};

/// What one connection has registered. Dropped, it is withdrawn.
#[derive(Debug)]
pub struct Registrations {
    id: u64,
    counts: Arc<Counts>,
    places: Vec<Standing>,
}

/// A place the peer said it stands at.
#[derive(Debug)]
struct Standing {
    upstream: Arc<Upstream>,
    endpoint: Endpoint,
}

/// Of this data plane, since its start.
#[derive(Debug, Default)]
pub struct Counts {
    last_id: AtomicU64,
    events: [AtomicU64; EVENTS.len()],
    health: AtomicU64,
    untold: AtomicU64,
}

/// Of the counts.
pub const EVENTS: [&str; 5] = ["registered", "renewed", "expired", "withdrawn", "refused"];
const REGISTERED: usize = 0;
const RENEWED: usize = 1;
const EXPIRED: usize = 2;
const WITHDRAWN: usize = 3;
const REFUSED: usize = 4;

#[derive(Deserialize)]
struct Words {
    #[serde(alias = "adapterId")]
    adapter_id: String,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    status: Option<String>,
}

impl Registrations {
    pub fn new(caller: &Caller) -> Registrations {
        let counts = Arc::clone(&caller.peer.worker.shared.registry);
        // Order: relaxed. A name; nothing is read because of it.
        let id = counts.last_id.fetch_add(1, Ordering::Relaxed);
        Registrations { id, counts, places: Vec::new() }
    }

    /// A capability or health frame (`is_health`); what its sender is told.
    pub fn on_said(&mut self, caller: &Caller, is_health: bool, content: &[u8]) -> Result<Value, Refusal> {
        if is_health {
            Counts::one(&self.counts.health);
        }
        let Ok(words) = serde_json::from_slice::<Words>(content) else {
            return Ok(told("", true, NOT_DECLARED));
        };
        let is_adapter = caller.peer.identity().and_then(Identity::adapter).is_some();
        let found = if is_adapter { held(&caller.peer) } else { caller.tenant().map(|(held, _)| held) };
        let held = found.map_err(|fault| refusal(fault, &caller.telling()))?;
        match &words.endpoint {
            Some(endpoint) if !is_health => self.on_endpoint(caller, &held, &words.adapter_id, endpoint),
            _ => Ok(self.on_word(caller, &held, is_health, &words)),
        }
    }

    fn on_endpoint(
        &mut self,
        caller: &Caller,
        held: &Hold,
        adapter: &str,
        endpoint: &str,
    ) -> Result<Value, Refusal> {
        let endpoint = Endpoint::parse(endpoint).map_err(|what| Refusal::new(Code::BadInput, what))?;
        let allowed = find(held, adapter).filter(|_| caller.may_attach(adapter));
        let is_known = self.places.iter().any(|place| place.is(adapter, &endpoint));
        if !is_known && self.places.len() >= PLACES_MAX {
            return Err(Refusal::new(Code::Window, "a connection registers at most 64 endpoints"));
        }
        let outcome = allowed.and_then(|(upstream, dialled)| {
            let registered = dialled.register(&endpoint, self.id, true)?;
            Some((upstream, dialled, registered))
        });
        let Some((upstream, dialled, registered)) = outcome else {
            Counts::one(&self.counts.events[REFUSED]);
            // Counted above; a peer may say this as often as it likes, and its words are no log's.
            tracing::debug!("a peer may not register this endpoint");
            // One answer for all: who may not register learns nothing of what is declared.
            let what = "this peer may not register this endpoint: it needs the permission `adapter` for a \
                        declared Adapter that allows it";
            return Err(Refusal::new(Code::Sec, what));
        };
        let content = self.on_registered(adapter, dialled, registered);
        self.places.retain(|place| !place.is(adapter, &endpoint));
        self.places.push(Standing { upstream: Arc::clone(upstream), endpoint });
        Ok(content)
    }

    fn on_registered(&self, adapter: &str, dialled: &Dialled, registered: Registered) -> Value {
        let (event, word) = match registered {
            Registered::Anew => (REGISTERED, "registered"),
            Registered::Again => (RENEWED, "renewed"),
        };
        Counts::one(&self.counts.events[event]);
        if registered == Registered::Anew {
            tracing::info!(adapter, "an adapter registered an endpoint");
        }
        let mut content = told(adapter, true, word);
        content["adapter_type"] = json!("openai");
        content["lease_ms"] = json!(u64::try_from(dialled.lease().as_millis()).unwrap_or(u64::MAX));
        content
    }

    /// Nothing is registered by it; what was is renewed by a health frame.
    fn on_word(&mut self, caller: &Caller, held: &Hold, is_health: bool, words: &Words) -> Value {
        let adapter = &*words.adapter_id;
        let own = |place: &Standing| place.upstream.name.as_str() == adapter;
        if is_health && self.places.iter().any(own) {
            return self.renew(caller, held, adapter, words.status.as_deref() != Some("unhealthy"));
        }
        let row = held.table.adapters.iter().find(|row| row.name.as_str() == adapter);
        match (row, find(held, adapter)) {
            (None, _) => told(adapter, true, NOT_DECLARED),
            (Some(_), Some(_)) => {
                told(adapter, true, "not routed to: no endpoint is registered by this frame")
            }
            (Some(_), None) => told(adapter, true, "renewed"),
        }
    }

    /// With the set that is served now: it may allow other places, or none.
    fn renew(&mut self, caller: &Caller, held: &Hold, adapter: &str, is_well: bool) -> Value {
        let allowed = find(held, adapter).filter(|_| caller.may_attach(adapter));
        let mut content = None;
        let mut places = std::mem::take(&mut self.places);
        places.retain_mut(|place| {
            if place.upstream.name.as_str() != adapter {
                return true;
            }
            let registered = allowed.and_then(|(upstream, dialled)| {
                let registered = dialled.register(&place.endpoint, self.id, is_well)?;
                place.upstream = Arc::clone(upstream);
                Some((dialled, registered))
            });
            match registered {
                Some((dialled, registered)) => {
                    content = Some(self.on_registered(adapter, dialled, registered));
                    true
                }
                None => {
                    self.withdraw(place);
                    false
                }
            }
        });
        self.places = places;
        content.unwrap_or_else(|| told(adapter, false, "its endpoint is not allowed any more"))
    }

    fn withdraw(&self, place: &Standing) {
        let stood =
            place.upstream.dialled().is_some_and(|dialled| dialled.withdraw(&place.endpoint, self.id));
        if stood {
            Counts::one(&self.counts.events[WITHDRAWN]);
            tracing::info!(adapter = place.upstream.name.as_str(), "a registered endpoint is gone");
        }
    }
}

impl Drop for Registrations {
    fn drop(&mut self) {
        self.places.iter().for_each(|place| self.withdraw(place));
    }
}

impl Standing {
    fn is(&self, adapter: &str, endpoint: &Endpoint) -> bool {
        self.upstream.name.as_str() == adapter && self.endpoint == *endpoint
    }
}

impl Counts {
    fn one(count: &AtomicU64) {
        // Order: relaxed, a count for people.
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub fn on_expired(&self, count: u64) {
        // Order: relaxed, a count for people.
        self.events[EXPIRED].fetch_add(count, Ordering::Relaxed);
    }

    /// By [`EVENTS`].
    pub fn events(&self) -> impl Iterator<Item = (&'static str, u64)> {
        // Order: relaxed, a count for people.
        EVENTS.into_iter().zip(&self.events).map(|(event, count)| (event, count.load(Ordering::Relaxed)))
    }

    /// Places that stand now and that the control plane is not told of, for there are too many.
    pub fn on_untold(&self, count: usize) {
        // Order: relaxed, a count for people.
        self.untold.store(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// As last said by [`Counts::on_untold`].
    pub fn untold(&self) -> u64 {
        // Order: relaxed, a count for people.
        self.untold.load(Ordering::Relaxed)
    }

    /// Health frames.
    pub fn health(&self) -> u64 {
        // Order: relaxed, a count for people.
        self.health.load(Ordering::Relaxed)
    }
}

/// A declared Adapter that registers itself.
fn find<'h>(held: &'h Hold, adapter: &str) -> Option<(&'h Arc<Upstream>, &'h Dialled)> {
    let at = held.table.adapters.iter().position(|row| row.name.as_str() == adapter)?;
    let upstream = &held.upstreams[at];
    upstream.dialled().map(|dialled| (upstream, dialled))
}

fn told(adapter: &str, success: bool, message: &str) -> Value {
    let key = if success { "message" } else { "error" };
    let mut content = json!({ "success": success, "adapter_id": adapter });
    content[key] = json!(message);
    content
}

const NOT_DECLARED: &str = "not routed to: no Adapter of this name is declared";
/// Of one connection: as many as an Adapter may allow.
const PLACES_MAX: usize = 64;
