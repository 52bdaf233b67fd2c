//! `get` and `describe`.

use proto_core::model::{Kind, Resource};
use proto_core::parse;
use proto_core::wire::atp::admin::v1 as wire;

use super::args::{Kinds, Output};
use super::connect::Connection;
use super::{Failure, Terminal, table, text};

pub async fn get(
    connection: &mut Connection,
    terminal: &mut Terminal<'_>,
    kinds: Kinds,
    name: Option<&str>,
    output: Output,
) -> Result<(), Failure> {
    if let Some(name) = name {
        let Some(kind) = kinds.0 else {
            return Err(Failure::Message("a name needs one kind: adapter, route or tenant".into()));
        };
        let resource = fetch(connection, kind, name).await?;
        terminal.out(&match output {
            Output::Table => table::resources(kind, &[resource]),
            Output::Yaml => text::yaml(&[resource]),
            Output::Json => text::json(&resource),
        });
        return Ok(());
    }
    let request = wire::ListRequest { kind: kinds.as_wire() };
    let resources = connection.resources.list(request).await?.into_inner().resources;
    if resources.is_empty() && output != Output::Json {
        let what =
            kinds.0.map_or("resources".into(), |kind| format!("{}s", kind.as_str().to_ascii_lowercase()));
        terminal.err(&format!("no {what} found"));
        return Ok(());
    }
    terminal.out(&match output {
        Output::Table => tables(&resources),
        Output::Yaml => text::yaml(&resources),
        Output::Json => text::json_list(&resources),
    });
    Ok(())
}

pub async fn describe(
    connection: &mut Connection,
    terminal: &mut Terminal<'_>,
    kind: Kind,
    name: &str,
) -> Result<(), Failure> {
    let resource = fetch(connection, kind, name).await?;
    let request = wire::ListRequest { kind: Kind::Route.as_str().into() };
    let routes = connection.resources.list(request).await?.into_inner().resources;
    terminal.out(&described(&resource, &users(kind, name, &routes)));
    Ok(())
}

async fn fetch(connection: &mut Connection, kind: Kind, name: &str) -> Result<wire::Resource, Failure> {
    let request = wire::GetRequest { kind: kind.as_str().into(), name: name.into() };
    Ok(connection.resources.get(request).await?.into_inner())
}

/// One table for each kind there is something of.
fn tables(resources: &[wire::Resource]) -> String {
    let of_kind = |kind: Kind| {
        let own: Vec<wire::Resource> =
            resources.iter().filter(|resource| resource.kind == kind.as_str()).cloned().collect();
        (!own.is_empty()).then(|| table::resources(kind, &own))
    };
    Kind::ALL.into_iter().filter_map(of_kind).collect::<Vec<_>>().join("\n")
}

fn described(resource: &wire::Resource, users: &[String]) -> String {
    let used_by = if users.is_empty() { "nobody".into() } else { users.join(", ") };
    let mut head = format!("Version:  {:016x}\n", resource.version);
    if resource.kind != Kind::Route.as_str() {
        head += &format!("Used by:  {used_by}\n");
    }
    format!("{head}\n{}", text::yaml(std::slice::from_ref(resource)))
}

/// The routes that name an adapter as a candidate, or a tenant as whom they take.
fn users(kind: Kind, name: &str, routes: &[wire::Resource]) -> Vec<String> {
    let uses = |route: &wire::Resource| match parse::resource_json(&route.json).ok()?.resource {
        Resource::Route(route) => {
            let is_user = match kind {
                Kind::Adapter => route.candidates.iter().any(|one| one.adapter.as_str() == name),
                Kind::Tenant => route.matches.tenant.as_ref().is_some_and(|tenant| tenant.as_str() == name),
                Kind::Route => false,
            };
            is_user.then(|| format!("route/{}", route.name))
        }
        Resource::Adapter(_) | Resource::Tenant(_) => None,
    };
    routes.iter().filter_map(uses).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(kind: &str, name: &str, spec: &str) -> wire::Resource {
        let json = format!(r#"{{"kind":"{kind}","name":"{name}","spec":{spec}}}"#).into_bytes().into();
        wire::Resource { kind: kind.into(), name: name.into(), version: 0xab, json }
    }

    fn route(name: &str) -> wire::Resource {
        let spec = r#"{"candidates":[{"adapter":"echo","model":"m"}],"match":{"tenant":"acme"}}"#;
        resource("Route", name, spec)
    }

    fn echo() -> wire::Resource {
        resource("Adapter", "echo", r#"{"kind":"echo","models":[{"name":"m"}]}"#)
    }

    #[test]
    fn every_kind_has_its_own_table_and_an_absent_one_has_none() {
        assert_eq!(
            tables(&[echo(), route("chat")]),
            "NAME   KIND   MODELS   PARALLEL   ENDPOINT\n\
             echo   echo   m        1024       built in\n\
             \n\
             NAME   MODEL   TASK   TENANT   STRATEGY   CANDIDATES\n\
             chat   *       *      acme     weighted   echo/m\n"
        );
    }

    #[test]
    fn a_description_names_the_version_and_who_would_miss_the_resource() {
        let routes = [route("a"), route("b")];
        assert_eq!(users(Kind::Adapter, "echo", &routes), ["route/a", "route/b"]);
        assert_eq!(users(Kind::Tenant, "acme", &routes), ["route/a", "route/b"]);
        assert!(users(Kind::Adapter, "other", &routes).is_empty());
        assert_eq!(
            described(&echo(), &users(Kind::Adapter, "echo", &routes)),
            "Version:  00000000000000ab\nUsed by:  route/a, route/b\n\n\
             kind: Adapter\nname: echo\nspec:\n  kind: echo\n  models:\n    - name: m\n"
        );
        assert!(described(&route("a"), &[]).starts_with("Version:  00000000000000ab\n\nkind: Route\n"));
    }
}
