//! Tables as kubectl prints them: a header, columns three blanks apart, nothing cut off.

use proto_core::model::{Adapter, AdapterKind, Endpoint, Kind, Match, Persona, Resource, Route, Tenant};
use proto_core::parse;
use proto_core::wire::atp::admin::v1 as wire;

/// Rows under a header.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(header: &[&str]) -> Table {
        Table { rows: vec![header.iter().map(|word| (*word).to_owned()).collect()] }
    }

    pub fn row(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    pub fn print(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            text += cells.collect::<Vec<_>>().join("   ").trim_end();
            text.push('\n');
        }
        text
    }
}

/// Resources of one kind; those a newer control plane holds and this program cannot read have a name only.
pub fn resources(kind: Kind, resources: &[wire::Resource]) -> String {
    let mut table = Table::new(match kind {
        Kind::Adapter => &["NAME", "KIND", "MODELS", "PARALLEL", "ENDPOINT"],
        Kind::Route => &["NAME", "MODEL", "TASK", "TENANT", "STRATEGY", "CANDIDATES"],
        Kind::Tenant => &["NAME", "QOS", "WEIGHT", "KEYS"],
    });
    for resource in resources {
        let read = parse::resource_json(&resource.json).ok().map(|document| document.resource);
        let cells = match &read {
            Some(Resource::Adapter(adapter)) => of_adapter(adapter),
            Some(Resource::Route(route)) => of_route(route),
            Some(Resource::Tenant(tenant)) => of_tenant(tenant),
            None => vec!["?".into()],
        };
        table.row(std::iter::once(resource.name.clone()).chain(cells));
    }
    table.print()
}

fn of_adapter(adapter: &Adapter) -> Vec<String> {
    let endpoint = match &adapter.kind {
        AdapterKind::Dialled { endpoints, .. } => {
            format!("registers itself: {}", joined(endpoints.iter().map(Endpoint::url)))
        }
        AdapterKind::OpenAi { endpoint, .. }
        | AdapterKind::Anthropic { endpoint, .. }
        | AdapterKind::Ollama { endpoint: Some(endpoint), .. }
        | AdapterKind::Grpc { endpoint, .. } => endpoint.url(),
        AdapterKind::Ollama { endpoint: None, .. } => "$OLLAMA_BASE_URL".into(),
        AdapterKind::Persona(Persona { over: Some(over), .. }) => {
            format!("over {}/{}", over.adapter, over.model)
        }
        AdapterKind::Persona(_) => "$PERSONA_MODEL_ENDPOINT".into(),
        AdapterKind::Echo(_) => "built in".into(),
        AdapterKind::Attached => "dials in".into(),
    };
    let models = joined(adapter.models.iter().map(|model| model.name.to_string()));
    vec![adapter.kind.as_str().into(), models, adapter.limits.max_parallel.to_string(), endpoint]
}

fn of_route(route: &Route) -> Vec<String> {
    let any = |text: Option<&str>| text.unwrap_or("*").to_owned();
    let Match { model, task_type, tenant } = &route.matches;
    let candidates = route.candidates.iter().map(|one| format!("{}/{}", one.adapter, one.model));
    vec![
        any(model.as_deref()),
        any(task_type.as_deref()),
        any(tenant.as_ref().map(proto_core::model::Name::as_str)),
        route.strategy.as_str().into(),
        joined(candidates),
    ]
}

fn of_tenant(tenant: &Tenant) -> Vec<String> {
    vec![tenant.qos.as_str().into(), tenant.weight.to_string(), tenant.keys.len().to_string()]
}

/// The first few; how many more there are.
fn joined(words: impl ExactSizeIterator<Item = String>) -> String {
    let more = words.len().saturating_sub(LISTED_MAX);
    let listed = words.take(LISTED_MAX).collect::<Vec<_>>().join(",");
    if more > 0 { format!("{listed} +{more}") } else { listed }
}

/// Names in one cell.
const LISTED_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(yaml: &str) -> wire::Resource {
        let source = parse::Source { file: "t.yaml", content: yaml.as_bytes() };
        let document = parse::documents(&[source]).unwrap().documents.remove(0);
        let (name, json) = (document.name.to_string(), document.json.into_bytes().into());
        wire::Resource { name, json, ..wire::Resource::default() }
    }

    #[test]
    fn adapters_show_what_they_offer_and_where() {
        let echo = "kind: Adapter\nname: echo\nspec:\n  kind: echo\n  \
                    models: [{name: a}, {name: b}, {name: c}, {name: d}]";
        let remote = "kind: Adapter\nname: remote\nspec:\n  kind: openai\n  \
                      endpoint: https://api.example.com/v1\n  \
                      limits: { max_parallel: 64 }\n  models: [{name: big}]";
        assert_eq!(
            resources(Kind::Adapter, &[resource(echo), resource(remote)]),
            "NAME     KIND     MODELS     PARALLEL   ENDPOINT\n\
             echo     echo     a,b,c +1   1024       built in\n\
             remote   openai   big        64         https://api.example.com/v1\n"
        );
    }

    #[test]
    fn routes_show_what_they_take_and_whom_they_ask() {
        let route = "kind: Route\nname: review\nspec:\n  strategy: thompson\n  \
                     match: { model: auto, tenant: acme }\n  \
                     candidates: [{ adapter: echo, model: a }, { adapter: remote, model: big }]";
        assert_eq!(
            resources(Kind::Route, &[resource(route)]),
            "NAME     MODEL   TASK   TENANT   STRATEGY   CANDIDATES\n\
             review   auto    *      acme     thompson   echo/a,remote/big\n"
        );
    }

    #[test]
    fn tenants_show_how_many_keys_never_the_keys() {
        let tenant = format!(
            "kind: Tenant\nname: acme\nspec: {{ weight: 2, qos: gold, keys: [{{ sha256: \"{}\" }}] }}",
            "ab".repeat(32)
        );
        let table = resources(Kind::Tenant, &[resource(&tenant)]);
        assert_eq!(table, "NAME   QOS    WEIGHT   KEYS\nacme   gold   2        1\n");
    }

    #[test]
    fn what_this_program_cannot_read_keeps_its_row() {
        let newer = wire::Resource { name: "new".into(), json: "{}".into(), ..wire::Resource::default() };
        assert_eq!(resources(Kind::Tenant, &[newer]), "NAME   QOS   WEIGHT   KEYS\nnew    ?\n");
    }
}
