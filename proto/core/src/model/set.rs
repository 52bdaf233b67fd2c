//! A whole set of resources that fit together: every reference resolves, every name is unique.
//! Everything that can reject a set is here or in [`crate::parse`]; building tables from it cannot fail.

use std::collections::BTreeMap;
use std::fmt;

use super::{Adapter, AdapterKind, Kind, Model, Name, PERSONAS_DEEP_MAX, Persona, Resource, Route, Tenant};

/// Resources that fit together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Set {
    adapters: BTreeMap<Name, Adapter>,
    routes: BTreeMap<Name, Route>,
    tenants: BTreeMap<Name, Tenant>,
}

/// Why resources do not fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMistake {
    pub kind: Kind,
    pub name: Name,
    /// Where inside the resource: `spec.candidates[0].model`.
    pub path: String,
    pub what: String,
}

impl fmt::Display for SetMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}: {}", self.kind, self.name, self.path, self.what)
    }
}

impl Set {
    /// Joins resources, or names every mistake.
    pub fn build(resources: impl IntoIterator<Item = Resource>) -> Result<Set, Vec<SetMistake>> {
        let mut set = Set::default();
        let mut mistakes = Vec::new();
        for resource in resources {
            let (kind, name) = (resource.kind(), resource.name().clone());
            let duplicate = match resource {
                Resource::Adapter(adapter) => set.adapters.insert(adapter.name.clone(), adapter).is_some(),
                Resource::Route(route) => set.routes.insert(route.name.clone(), route).is_some(),
                Resource::Tenant(tenant) => set.tenants.insert(tenant.name.clone(), tenant).is_some(),
            };
            if duplicate {
                let what = format!("there are two {kind}s of this name; remove or rename one");
                mistakes.push(SetMistake { kind, name, path: "name".into(), what });
            }
        }
        set.check_candidates(&mut mistakes);
        set.check_route_names(&mut mistakes);
        set.check_personas(&mut mistakes);
        set.check_keys(&mut mistakes);
        set.check_identities(&mut mistakes);
        if mistakes.is_empty() { Ok(set) } else { Err(mistakes) }
    }

    pub fn adapters(&self) -> impl ExactSizeIterator<Item = &Adapter> {
        self.adapters.values()
    }

    pub fn routes(&self) -> impl ExactSizeIterator<Item = &Route> {
        self.routes.values()
    }

    pub fn tenants(&self) -> impl ExactSizeIterator<Item = &Tenant> {
        self.tenants.values()
    }

    pub fn adapter(&self, name: &Name) -> Option<&Adapter> {
        self.adapters.get(name)
    }

    /// Who plays `model` of `adapter`, through all personas that stand over each other: the adapter and the
    /// model that are asked, and the roles, the outermost first. `None`: it ends nowhere, or never.
    pub fn played<'s>(
        &'s self,
        adapter: &'s Adapter,
        model: &'s Model,
    ) -> Option<(&'s Adapter, &'s Model, Vec<&'s Persona>)> {
        let (mut adapter, mut model, mut roles) = (adapter, model, Vec::new());
        while let AdapterKind::Persona(persona) = &adapter.kind {
            roles.push(persona);
            let Some(over) = &persona.over else { break };
            if roles.len() > PERSONAS_DEEP_MAX {
                return None;
            }
            adapter = self.adapters.get(&over.adapter)?;
            model = adapter.models.iter().find(|model| model.name == over.model)?;
        }
        Some((adapter, model, roles))
    }

    fn check_personas(&self, mistakes: &mut Vec<SetMistake>) {
        for adapter in self.adapters.values() {
            let AdapterKind::Persona(Persona { over: Some(over), .. }) = &adapter.kind else { continue };
            let mut wrong = |field: &str, what: String| {
                let path = format!("spec.persona.over.{field}");
                mistakes.push(SetMistake { kind: Kind::Adapter, name: adapter.name.clone(), path, what });
            };
            match self.adapters.get(&over.adapter) {
                None => wrong("adapter", format!("there is no Adapter `{}`", over.adapter)),
                Some(under) if under.models.iter().all(|model| model.name != over.model) => {
                    wrong("model", format!("Adapter `{}` has no model `{}`", over.adapter, over.model));
                }
                Some(_) if self.is_endless(adapter) => {
                    let most = PERSONAS_DEEP_MAX;
                    let what = format!("stands over itself, or over more than {most} personas; name a model");
                    wrong("adapter", what);
                }
                Some(_) => {}
            }
        }
    }

    fn is_endless(&self, adapter: &Adapter) -> bool {
        let mut next = Some(adapter);
        for _ in 0..=PERSONAS_DEEP_MAX {
            next = match next.map(|adapter| &adapter.kind) {
                Some(AdapterKind::Persona(Persona { over: Some(over), .. })) => {
                    self.adapters.get(&over.adapter)
                }
                _ => return false,
            };
        }
        next.is_some()
    }

    fn check_candidates(&self, mistakes: &mut Vec<SetMistake>) {
        for route in self.routes.values() {
            for (at, candidate) in route.candidates.iter().enumerate() {
                let mut wrong = |field: &str, what: String| {
                    let path = format!("spec.candidates[{at}].{field}");
                    mistakes.push(SetMistake { kind: Kind::Route, name: route.name.clone(), path, what });
                };
                match self.adapters.get(&candidate.adapter) {
                    None => wrong("adapter", format!("there is no Adapter `{}`", candidate.adapter)),
                    Some(adapter) if adapter.models.iter().all(|model| model.name != candidate.model) => {
                        let what = format!("Adapter `{}` has no model `{}`", adapter.name, candidate.model);
                        wrong("model", what);
                    }
                    Some(_) => {}
                }
            }
            if let Some(tenant) = &route.matches.tenant
                && tenant.as_str() != super::PUBLIC
                && !self.tenants.contains_key(tenant)
            {
                let what = format!("there is no Tenant `{tenant}`");
                let path = "spec.match.tenant".into();
                mistakes.push(SetMistake { kind: Kind::Route, name: route.name.clone(), path, what });
            }
        }
    }

    /// A route is also called by its name, so the name must not hide a model.
    fn check_route_names(&self, mistakes: &mut Vec<SetMistake>) {
        for route in self.routes.values() {
            let hidden = self.adapters.values().find_map(|adapter| {
                let model = adapter.models.iter().find(|model| model.name.as_str() == route.name.as_str())?;
                let own = route.candidates.iter().any(|candidate| candidate.model == model.name);
                (!own).then_some(adapter)
            });
            if let Some(adapter) = hidden {
                let what =
                    format!("hides the model of this name of Adapter `{}`; rename the route", adapter.name);
                let name = route.name.clone();
                mistakes.push(SetMistake { kind: Kind::Route, name, path: "name".into(), what });
            }
        }
    }

    fn check_identities(&self, mistakes: &mut Vec<SetMistake>) {
        let mut owners = BTreeMap::new();
        for tenant in self.tenants.values() {
            for (at, identity) in tenant.identities.iter().enumerate() {
                let listed = owners.insert(identity, &tenant.name);
                let named = identity.tenant().and_then(|name| Name::resource(name).ok());
                let owner = listed.or(named.as_ref().filter(|named| self.tenants.contains_key(*named)));
                if let Some(owner) = owner.filter(|owner| **owner != tenant.name || listed.is_some()) {
                    let what =
                        format!("this is Tenant `{owner}` already; an identity names one tenant, once");
                    let path = format!("spec.identities[{at}]");
                    mistakes.push(SetMistake { kind: Kind::Tenant, name: tenant.name.clone(), path, what });
                }
            }
        }
    }

    fn check_keys(&self, mistakes: &mut Vec<SetMistake>) {
        let mut owners = BTreeMap::new();
        for tenant in self.tenants.values() {
            for (at, key) in tenant.keys.iter().enumerate() {
                if let Some(owner) = owners.insert(*key, &tenant.name) {
                    let what = format!("the same key belongs to Tenant `{owner}`; a key names one tenant");
                    let path = format!("spec.keys[{at}]");
                    mistakes.push(SetMistake { kind: Kind::Tenant, name: tenant.name.clone(), path, what });
                }
            }
        }
    }
}
