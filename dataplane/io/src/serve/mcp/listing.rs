//! Which tools there are now: of what is served, by how it is.

use std::hash::{DefaultHasher, Hash, Hasher};

use dataplane_core::dialect::mcp::tools::{self, ADAPTER, AdapterTool, Completion, Listing, ROUTE};
use proto_core::model::AdapterKind;
use serde_json::value::RawValue;

use super::fixed::{self, Handler};
use crate::clock;
use crate::served::Served;
use crate::worker::Shared;

/// All that is listed.
pub fn listing<'s>(shared: &Shared, served: &'s Served) -> Listing<'s> {
    let mut adapters = of_adapters(served);
    let mut kinds: Vec<_> = adapters.iter().map(|(at, _)| served.table.adapters[*at].kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    adapters.retain(|(at, _)| is_well(shared, served, *at));
    let fixed = fixed::TOOLS.iter().filter(|handler| shared.memory.is_some() || !handler.needs_memory);
    let fixed = fixed.map(|handler| handler.tool).collect();
    Listing { fixed, adapters: adapters.into_iter().map(|(_, tool)| tool).collect(), kinds }
}

/// Changes where the listing does.
pub fn mark(shared: &Shared, served: &Served) -> u64 {
    let mut hasher = DefaultHasher::new();
    listing(shared, served).hash(&mut hasher);
    hasher.finish()
}

/// By name, with their places in the table; those without a model have nothing to ask.
fn of_adapters(served: &Served) -> Vec<(usize, AdapterTool<'_>)> {
    let table = &served.table;
    let rows = table.adapters.iter().enumerate();
    let mut tools: Vec<_> =
        rows.map(|(at, row)| (at, AdapterTool { name: row.name.as_str(), models: Vec::new() })).collect();
    for offer in &table.offers {
        tools[offer.adapter.0 as usize].1.models.push(offer.model.as_str());
    }
    tools.retain(|(_, tool)| !tool.models.is_empty());
    tools.sort_by_key(|(_, tool)| tool.name);
    tools
}

/// Its breaker would let something through, and somebody is there, where adapters dial in.
fn is_well(shared: &Shared, served: &Served, at: usize) -> bool {
    let row = &served.table.adapters[at];
    let is_there = !matches!(row.kind, AdapterKind::Attached) || shared.lines.count(&row.name) > 0;
    is_there && !served.adapters[at].breaker.now().is_resting(clock::now())
}

/// What a name stands for.
pub enum Target<'s> {
    Route(Vec<&'static str>),
    /// Also where it is not listed now: the exchange says what is wrong with it.
    Adapter(AdapterTool<'s>),
    Fixed(&'static Handler),
}

pub fn find<'s>(served: &'s Served, name: &str) -> Option<Target<'s>> {
    if name == ROUTE {
        let kinds = served.table.adapters.iter().map(|row| row.kind.as_str());
        return Some(Target::Route(kinds.collect()));
    }
    if let Some(handler) = fixed::TOOLS.iter().find(|handler| handler.tool.name == name) {
        return Some(Target::Fixed(handler));
    }
    let name = name.strip_prefix(ADAPTER)?;
    let mut tools = of_adapters(served).into_iter();
    tools.find(|(_, tool)| tool.name == name).map(|(_, tool)| Target::Adapter(tool))
}

/// What a call asks of the exchange; `None`: a fixed tool, which asks nothing of it.
///
/// # Errors
/// What is wrong with the arguments, as sentences.
pub fn completion(target: &Target<'_>, arguments: Option<&RawValue>) -> Option<Result<Completion, String>> {
    match target {
        Target::Route(kinds) => {
            let mut kinds = kinds.clone();
            kinds.sort_unstable();
            kinds.dedup();
            Some(tools::route(arguments, &kinds))
        }
        Target::Adapter(tool) => Some(tools::adapter(arguments, tool)),
        Target::Fixed(_) => None,
    }
}
