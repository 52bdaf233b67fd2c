//! What a set of resources becomes on the data plane: flat rows and hash lookups, built once per generation,
//! never changed. Building cannot fail: whatever can be wrong with a set was refused in `proto/core`.

use std::hash::{BuildHasher, Hash};

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use http::HeaderValue;
use proto_core::identity::Identity;
use proto_core::model::{
    AUTO, Adapter, AdapterKind, Budget, CANDIDATES_MAX, Concurrency, Fallback, Grade, KeyHash, Limits, Model,
    ModelStatus, Name, PUBLIC, Price, Qos, Retry, Set, Strategy, Timeout, Window,
};
use proto_core::units::{Permille, Picodollars, TokenCount};

use crate::admit::window;
use crate::dialect::role::Role;
use crate::fault::{Fault, Kind};

/// Index of an adapter in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdapterId(pub u32);

/// Index of an offer, one model of one adapter, in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OfferId(pub u32);

/// Index of a route in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteId(pub u32);

/// Index of a tenant in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TenantId(pub u32);

/// One generation's lookups.
#[derive(Debug)]
pub struct Table {
    pub adapters: Box<[AdapterRow]>,
    pub offers: Box<[OfferRow]>,
    /// Declared routes in name order, then those made for plain model names.
    pub routes: Box<[RouteRow]>,
    pub tenants: Box<[TenantRow]>,
    /// Route name, `adapter/model` and model name → route.
    names: HashMap<Box<str>, RouteId, FixedState>,
    /// Routes that ask for a model, most specific first.
    conditional: HashMap<Box<str>, Box<[RouteId]>, FixedState>,
    /// Routes for any model, most specific first.
    any_model: Box<[RouteId]>,
    /// The route of `auto` where no declared one takes it; absent where there is no offer at all.
    auto: Option<RouteId>,
    /// That any tenant may ask for.
    pub best_qos: Qos,
    keys: HashMap<[u8; 32], TenantId, FixedState>,
    /// Names in certificates that were listed, and those of tenants.
    identities: Identities,
    tenant_names: TenantNames,
    public: Option<TenantId>,
    /// Nobody without a key is served, not even on loopback.
    closed: bool,
}

#[derive(Debug)]
pub struct AdapterRow {
    pub name: Name,
    pub kind: AdapterKind,
    pub limits: Limits,
    pub concurrency: Concurrency,
    /// Of the name.
    pub hash: u64,
    /// The name as the value of `x-atp-adapter`.
    pub header: HeaderValue,
}

#[derive(Debug)]
pub struct OfferRow {
    /// Who works: whose permits, breaker and connections it takes.
    pub adapter: AdapterId,
    /// Under whose name. Another than `adapter` for a persona that stands over one.
    pub owner: AdapterId,
    /// What the model is told before the caller speaks.
    pub role: Option<Role>,
    pub model: Name,
    /// The upstream's name of the model as a JSON string, quotes included.
    pub upstream_json: Bytes,
    /// The model as the value of `x-atp-model`.
    pub header: HeaderValue,
    pub context_tokens: Option<TokenCount>,
    pub price: Price,
    pub quality: Permille,
    pub latency_p95_ms: Option<u32>,
    pub status: ModelStatus,
    pub grade: Grade,
    /// Of adapter and model: what is learned of it is kept under this.
    pub hash: u64,
}

#[derive(Debug)]
pub struct RouteRow {
    pub name: Box<str>,
    /// The name as the value of `x-atp-route`.
    pub header: HeaderValue,
    /// False for a route made for a plain model name.
    pub declared: bool,
    pub task_type: Option<Box<str>>,
    pub tenant: Option<Name>,
    pub candidates: Box<[CandidateRow]>,
    pub strategy: Strategy,
    pub fallback: Fallback,
    pub retry: Retry,
    pub timeout: Timeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandidateRow {
    pub offer: OfferId,
    pub weight: u32,
}

#[derive(Debug)]
pub struct TenantRow {
    pub name: Name,
    pub weight: u32,
    /// The best its requests may ask for.
    pub qos: Qos,
    pub window: window::Limits,
    pub budget: Option<Budget>,
    pub preempt_streams: bool,
    /// Of the name: its place in queues and in what is learned.
    pub hash: u64,
}

impl Table {
    /// `closed`: this data plane has once served a set with keys, so callers without a key are no longer
    /// `public` unless the set says so (tenancy fails closed).
    pub fn build(set: &Set, closed: bool) -> Table {
        let adapters = set.adapters().map(adapter_row).collect();
        let mut build = Build { adapters, ..Build::default() };
        for (at, adapter) in set.adapters().enumerate() {
            build.offers(set, AdapterId(index(at)), adapter);
        }
        build.declared_routes(set);
        build.model_routes(set);
        let auto = build.auto_route();
        let (tenants, keys) = tenants(set);
        let (identities, tenant_names) = identities(set);
        let declared_public = tenants.iter().position(|row| row.name.as_str() == PUBLIC);
        let mut tenants = tenants;
        let open_by_default = tenants.is_empty() && !closed;
        let public = declared_public.or_else(|| {
            open_by_default.then(|| {
                let name = Name::resource(PUBLIC).expect("`public` is a name");
                tenants.push(TenantRow {
                    hash: hash(&name),
                    name,
                    weight: 1,
                    qos: Qos::Gold,
                    window: window::Limits::NONE,
                    budget: None,
                    preempt_streams: false,
                });
                tenants.len() - 1
            })
        });
        Table {
            best_qos: tenants.iter().map(|row| row.qos).max().unwrap_or(Qos::Gold),
            adapters: build.adapters.into(),
            offers: build.offers.into(),
            routes: build.routes.into(),
            names: build.names,
            conditional: build.conditional.into_iter().map(|(model, ids)| (model, ids.into())).collect(),
            any_model: build.any_model.into(),
            auto,
            keys,
            identities,
            tenant_names,
            public: public.map(|at| TenantId(index(at))),
            closed: !open_by_default,
            tenants: tenants.into(),
        }
    }

    pub fn adapter(&self, id: AdapterId) -> &AdapterRow {
        &self.adapters[id.0 as usize]
    }

    pub fn offer(&self, id: OfferId) -> &OfferRow {
        &self.offers[id.0 as usize]
    }

    pub fn route(&self, id: RouteId) -> &RouteRow {
        &self.routes[id.0 as usize]
    }

    pub fn tenant(&self, id: TenantId) -> &TenantRow {
        &self.tenants[id.0 as usize]
    }

    /// Whether any tenant has a key or an identity: from then on the data plane stays closed.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty() || !self.identities.is_empty()
    }

    /// Whether callers send a key at all here; where nobody has one, a key sent along is ignored and not
    /// hashed.
    pub fn wants_keys(&self) -> bool {
        self.closed
    }

    /// Who calls. `key` is the SHA-256 of the key sent; `loopback` says whether the listener is one.
    pub fn identify(&self, key: Option<&[u8; 32]>, loopback: bool) -> Result<TenantId, Fault> {
        match key {
            Some(hash) if self.closed => self.keys.get(hash).copied().ok_or(Fault::client(Kind::KeyUnknown)),
            _ => match self.public {
                Some(public) if self.closed || loopback => Ok(public),
                _ => Err(Fault::client(Kind::KeyMissing)),
            },
        }
    }

    /// Who calls, of somebody whose certificate was verified. Its tenant needs no key, and one that is sent
    /// along must be that tenant's. A name that is nobody's is no reason to let its holder in: beyond
    /// loopback it needs a key, also where others do not.
    pub fn identify_verified(
        &self,
        identity: &Identity,
        key: Option<&[u8; 32]>,
        loopback: bool,
    ) -> Result<TenantId, Fault> {
        let by_name = || self.tenant_names.get(identity.tenant()?);
        let Some(tenant) = self.identities.get(identity).or_else(by_name).copied() else {
            return match key {
                None if !loopback => Err(Fault::client(Kind::KeyMissing)),
                key => self.identify(key, loopback),
            };
        };
        match key {
            Some(hash) if self.keys.get(hash) != Some(&tenant) => Err(Fault::client(Kind::KeyUnknown)),
            _ => Ok(tenant),
        }
    }

    /// The route of a request: declared routes that match, most specific first, then plain names.
    pub fn find(
        &self,
        model: Option<&str>,
        task_type: Option<&str>,
        tenant: TenantId,
    ) -> Result<RouteId, Fault> {
        let model = model.unwrap_or(AUTO);
        let tenant = &self.tenant(tenant).name;
        let takes = |id: &&RouteId| {
            let route = self.route(**id);
            let task = route.task_type.as_deref().is_none_or(|wanted| Some(wanted) == task_type);
            task && self.is_open(route, tenant)
        };
        if let Some(id) = self.conditional.get(model).and_then(|ids| ids.iter().find(takes)) {
            return Ok(*id);
        }
        if let Some(id) = self.names.get(model) {
            // Called by its name a route asks for no task; whose it is still counts.
            let is_open = self.is_open(self.route(*id), tenant);
            return is_open.then_some(*id).ok_or(Fault::client(Kind::ModelUnknown));
        }
        if model != AUTO {
            return Err(Fault::client(Kind::ModelUnknown));
        }
        self.any_model.iter().find(takes).copied().or(self.auto).ok_or(Fault::client(Kind::ModelUnknown))
    }

    /// Whether a route is for this tenant, too.
    fn is_open(&self, route: &RouteRow, tenant: &Name) -> bool {
        route.tenant.as_ref().is_none_or(|wanted| wanted == tenant)
    }

    /// Every name this caller may send as `model`, with who answers: plain model names and declared routes.
    pub fn listed(&self, tenant: TenantId) -> impl Iterator<Item = (&str, &str)> {
        let tenant = &self.tenant(tenant).name;
        let routes = self.routes.iter().filter(move |route| self.is_open(route, tenant));
        routes.map(|route| {
            let owner = match route.candidates.first() {
                Some(first) if !route.declared && &*route.name != AUTO => {
                    self.adapter(self.offer(first.offer).owner).name.as_str()
                }
                _ => "atp",
            };
            (&*route.name, owner)
        })
    }
}

#[derive(Default)]
struct Build {
    adapters: Vec<AdapterRow>,
    offers: Vec<OfferRow>,
    routes: Vec<RouteRow>,
    names: HashMap<Box<str>, RouteId, FixedState>,
    conditional: HashMap<Box<str>, Vec<RouteId>, FixedState>,
    any_model: Vec<RouteId>,
    offer_of: HashMap<(Name, Name), OfferId, FixedState>,
}

impl Build {
    fn offers(&mut self, set: &Set, owner: AdapterId, adapter: &Adapter) {
        for model in &adapter.models {
            let offer = OfferId(index(self.offers.len()));
            self.offer_of.insert((adapter.name.clone(), model.name.clone()), offer);
            let mut row = offer_row(owner, adapter, model);
            let (player, played, roles) =
                set.played(adapter, model).expect("a set's personas stand over models");
            row.role = Role::of(&roles);
            if player.name != adapter.name {
                let at = self.adapters.iter().position(|row| row.name == player.name);
                row.adapter = AdapterId(index(at.expect("a set has every adapter it names")));
                row.upstream_json = upstream_json(played);
                (row.price, row.context_tokens) = (played.price, played.context_tokens);
            }
            self.offers.push(row);
        }
    }

    fn declared_routes(&mut self, set: &Set) {
        // Most specific first, so that the first match of a list is the right one; names break ties.
        let mut declared: Vec<_> = set.routes().collect();
        declared.sort_by_key(|route| {
            let specific =
                u8::from(route.matches.tenant.is_some()) + u8::from(route.matches.task_type.is_some());
            (std::cmp::Reverse(specific), route.name.clone())
        });
        for route in declared {
            let id = RouteId(index(self.routes.len()));
            let candidates = route.candidates.iter().map(|candidate| {
                let key = (candidate.adapter.clone(), candidate.model.clone());
                CandidateRow { offer: self.offer_of[&key], weight: candidate.weight }
            });
            self.routes.push(RouteRow {
                name: route.name.as_str().into(),
                header: header(route.name.as_str()),
                declared: true,
                task_type: route.matches.task_type.clone(),
                tenant: route.matches.tenant.clone(),
                candidates: candidates.collect(),
                strategy: route.strategy,
                fallback: route.fallback,
                retry: route.retry,
                timeout: route.timeout,
            });
            self.names.insert(route.name.as_str().into(), id);
            match &route.matches.model {
                Some(model) => self.conditional.entry(model.clone()).or_default().push(id),
                None => self.any_model.push(id),
            }
        }
    }

    /// Each model is served under its own name by every adapter that offers it, and under `adapter/model` by
    /// one.
    fn model_routes(&mut self, set: &Set) {
        let mut by_model: Vec<(Name, Vec<OfferId>)> = Vec::new();
        for (at, offer) in self.offers.iter().enumerate() {
            let id = OfferId(index(at));
            match by_model.iter_mut().find(|(model, _)| *model == offer.model) {
                Some((_, offers)) if offers.len() < CANDIDATES_MAX => offers.push(id),
                Some(_) => {}
                None => by_model.push((offer.model.clone(), vec![id])),
            }
        }
        for (model, offers) in by_model {
            let id = self.implicit(model.as_str(), &offers, Strategy::Weighted);
            self.names.entry(model.as_str().into()).or_insert(id);
        }
        for adapter in set.adapters() {
            for model in &adapter.models {
                let offer = self.offer_of[&(adapter.name.clone(), model.name.clone())];
                let name = format!("{}/{}", adapter.name, model.name);
                if !self.names.contains_key(name.as_str()) {
                    let id = self.implicit(&name, &[offer], Strategy::Weighted);
                    self.names.insert(name.into(), id);
                }
            }
        }
    }

    /// Where nobody declared a route for `auto`: the cheapest acceptable of all that is offered.
    fn auto_route(&mut self) -> Option<RouteId> {
        let mut offers: Vec<_> = (0..self.offers.len()).map(|at| OfferId(index(at))).collect();
        offers.retain(|id| self.offers[id.0 as usize].status != ModelStatus::Shadow);
        // Past what a plan holds, the cheapest stay.
        offers.sort_by_key(|id| {
            let price = self.offers[id.0 as usize].price;
            price.input.0.saturating_add(price.output.0)
        });
        offers.truncate(CANDIDATES_MAX);
        (!offers.is_empty()).then(|| self.implicit(AUTO, &offers, Strategy::CheapestAcceptable))
    }

    fn implicit(&mut self, name: &str, offers: &[OfferId], strategy: Strategy) -> RouteId {
        let id = RouteId(index(self.routes.len()));
        self.routes.push(RouteRow {
            name: name.into(),
            header: header(name),
            declared: false,
            task_type: None,
            tenant: None,
            candidates: offers.iter().map(|offer| CandidateRow { offer: *offer, weight: 1 }).collect(),
            strategy,
            fallback: Fallback::default(),
            retry: Retry::default(),
            timeout: Timeout::default(),
        });
        id
    }
}

fn adapter_row(adapter: &Adapter) -> AdapterRow {
    AdapterRow {
        name: adapter.name.clone(),
        kind: adapter.kind.clone(),
        limits: adapter.limits,
        concurrency: adapter.concurrency,
        hash: hash(&adapter.name),
        header: header(adapter.name.as_str()),
    }
}

/// Made shared here, so that every clone on the path is a count and no allocation.
fn upstream_json(model: &Model) -> Bytes {
    Bytes::from_owner(serde_json::to_vec(model.upstream_name.as_str()).expect("a string is JSON"))
}

fn offer_row(id: AdapterId, adapter: &Adapter, model: &Model) -> OfferRow {
    OfferRow {
        adapter: id,
        owner: id,
        role: None,
        hash: hash(&(&adapter.name, &model.name)),
        model: model.name.clone(),
        upstream_json: upstream_json(model),
        header: header(model.name.as_str()),
        context_tokens: model.context_tokens,
        price: model.price,
        quality: model.quality,
        latency_p95_ms: model.latency_p95_ms,
        status: model.status,
        grade: model.safety_grade,
    }
}

type Keys = HashMap<[u8; 32], TenantId, FixedState>;

fn tenants(set: &Set) -> (Vec<TenantRow>, Keys) {
    let mut keys = Keys::default();
    let mut rows = Vec::new();
    for tenant in set.tenants() {
        let id = TenantId(index(rows.len()));
        keys.extend(tenant.keys.iter().map(|KeyHash(hash)| (*hash, id)));
        rows.push(TenantRow {
            name: tenant.name.clone(),
            weight: tenant.weight,
            qos: tenant.qos,
            window: tenant.window.map_or(window::Limits::NONE, limits),
            budget: tenant.budget,
            preempt_streams: tenant.preempt_streams,
            hash: hash(&tenant.name),
        });
    }
    (rows, keys)
}

type Identities = HashMap<Identity, TenantId, FixedState>;
type TenantNames = HashMap<Box<str>, TenantId, FixedState>;

/// By the tenants' places, which are those of the set.
fn identities(set: &Set) -> (Identities, TenantNames) {
    let (mut identities, mut names) = (Identities::default(), TenantNames::default());
    for (at, tenant) in set.tenants().enumerate() {
        let id = TenantId(index(at));
        identities.extend(tenant.identities.iter().map(|identity| (identity.clone(), id)));
        names.insert(tenant.name.as_str().into(), id);
    }
    (identities, names)
}

fn limits(window: Window) -> window::Limits {
    let micros = |micros: u64| Picodollars(micros.saturating_mul(Picodollars::PER_MICRO));
    window::Limits {
        calls: window.max_parallel,
        tokens: window.max_tokens.map(|tokens| tokens.0),
        picodollars: window.max_usd_micros.map(micros),
    }
}

/// The same in every process: what is kept by it may be compared.
fn hash(name: &impl Hash) -> u64 {
    FixedState::default().hash_one(name)
}

/// Names are made of visible ASCII, so each is a header value; shared, so that clones do not allocate.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from_owner(text.as_bytes().to_vec()))
        .expect("names are visible ASCII")
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a set has fewer than four billion rows")
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
