//! `status`, `explain` and `watch`.

use proto_core::parse;
use proto_core::wire::atp::admin::v1 as wire;
use proto_core::wire::atp::control::v1::{Generation, Reject};
use serde_json::{Value, json};

use super::args::{Kinds, Output, Question};
use super::connect::Connection;
use super::table::Table;
use super::{Failure, Terminal, text};

pub async fn status(
    connection: &mut Connection,
    terminal: &mut Terminal<'_>,
    output: Output,
) -> Result<(), Failure> {
    let status = connection.operations.status(wire::StatusRequest {}).await?.into_inner();
    terminal.out(&match output {
        Output::Table => status_text(&status),
        Output::Yaml => parse::to_yaml(&status_json(&status).to_string()),
        Output::Json => text::pretty(&status_json(&status)),
    });
    Ok(())
}

pub async fn explain(
    connection: &mut Connection,
    terminal: &mut Terminal<'_>,
    question: &Question,
    output: Output,
) -> Result<(), Failure> {
    let Question { model, task_type, tenant, node } = question.clone();
    let request = wire::ExplainRequest { model, task_type, tenant, node };
    let answer = connection.operations.explain(request).await?.into_inner();
    let json = String::from_utf8_lossy(&answer.json).into_owned();
    terminal.err(&format!("answered by data plane {}", answer.node));
    terminal.out(&match (output, serde_json::from_str::<Value>(&json)) {
        (Output::Json, Ok(value)) => text::pretty(&value),
        (Output::Json, Err(_)) => json,
        (Output::Table | Output::Yaml, _) => parse::to_yaml(&json),
    });
    Ok(())
}

/// Ends with Ctrl-C, or with the control plane.
pub async fn watch(
    connection: &mut Connection,
    terminal: &mut Terminal<'_>,
    kinds: Kinds,
    output: Output,
) -> Result<(), Failure> {
    let request = wire::WatchRequest { kind: kinds.as_wire() };
    let mut events = connection.resources.watch(request).await?.into_inner();
    terminal.err("watching; Ctrl-C ends it");
    while let Some(event) = events.message().await? {
        terminal.out(&event_text(&event, output));
    }
    Err(Failure::Message("the control plane ended the watch; look at what there is, then watch again".into()))
}

fn event_text(event: &wire::WatchEvent, output: Output) -> String {
    let change = event.change.clone().unwrap_or_default();
    let number = event.generation.map(|generation| generation.number).unwrap_or_default();
    let resource = event.resource.as_ref();
    match output {
        Output::Table => format!("{number}   {}", text::change(&change, false)),
        Output::Yaml => {
            let body =
                resource.map(|resource| text::yaml(std::slice::from_ref(resource))).unwrap_or_default();
            format!("--- # generation {number}: {}\n{body}", text::change(&change, false))
        }
        Output::Json => {
            let resource: Value =
                resource.and_then(|resource| serde_json::from_slice(&resource.json).ok()).unwrap_or_default();
            let verb = change.verb().as_str_name().trim_start_matches("VERB_").to_ascii_lowercase();
            let (kind, name) = (change.kind, change.name);
            json!({ "generation": number, "verb": verb, "kind": kind, "name": name, "resource": resource })
                .to_string()
        }
    }
}

fn status_text(status: &wire::StatusResponse) -> String {
    let generation = status.generation.unwrap_or_default();
    let counts = [
        text::count(status.adapters as usize, "adapter"),
        text::count(status.routes as usize, "route"),
        text::count(status.tenants as usize, "tenant"),
    ];
    let mut out = format!(
        "Generation:  {} (epoch {:016x})\nResources:   {}\nVersion:     {}\n\n",
        generation.number,
        generation.epoch,
        counts.join(", "),
        status.version,
    );
    if status.data_planes.is_empty() {
        return out + "No data plane was ever connected.\n";
    }
    let mut table = Table::new(&["DATA PLANE", "VERSION", "STATE", "GENERATION", "CONNECTED"]);
    for plane in &status.data_planes {
        let connected = if plane.connected { age(plane.connected_seconds) } else { "-".into() };
        let serving = serving(plane, generation);
        table.row([plane.node.clone(), plane.version.clone(), state(plane).into(), serving, connected]);
    }
    out += &table.print();
    for plane in &status.data_planes {
        for reject in &plane.rejects {
            out += &format!("\n{} refused {}", plane.node, reason(reject));
        }
    }
    if out.ends_with('\n') { out } else { out + "\n" }
}

/// In one word: what an operator asks first.
fn state(plane: &wire::DataPlane) -> &'static str {
    match (plane.connected, plane.current, plane.rejects.is_empty()) {
        (false, _, _) => "away",
        (true, true, _) => "current",
        (true, false, false) => "refused",
        (true, false, true) => "behind",
    }
}

fn serving(plane: &wire::DataPlane, newest: Generation) -> String {
    match plane.serving {
        None => "none".into(),
        Some(serving) if serving.epoch == newest.epoch => serving.number.to_string(),
        Some(serving) => format!("{} of another store", serving.number),
    }
}

fn reason(reject: &Reject) -> String {
    let Reject { kind, name, reason } = reject;
    if kind.is_empty() {
        format!("the set: {reason}")
    } else {
        format!("{}/{name}: {reason}", kind.to_ascii_lowercase())
    }
}

/// `5s`, `3m`, `2h`, `4d`
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn status_json(status: &wire::StatusResponse) -> Value {
    let generation = |generation: &Option<Generation>| match generation {
        Some(Generation { epoch, number }) => json!({ "epoch": format!("{epoch:016x}"), "number": number }),
        None => Value::Null,
    };
    let planes: Vec<Value> = status
        .data_planes
        .iter()
        .map(|plane| {
            json!({
                "node": plane.node,
                "version": plane.version,
                "state": state(plane),
                "connected": plane.connected,
                "current": plane.current,
                "serving": generation(&plane.serving),
                "connected_seconds": plane.connected_seconds,
                "rejects": plane.rejects.iter().map(|reject| json!({
                    "kind": reject.kind, "name": reject.name, "reason": reject.reason,
                })).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "generation": generation(&status.generation),
        "resources": { "adapters": status.adapters, "routes": status.routes, "tenants": status.tenants },
        "version": status.version,
        "data_planes": planes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(node: &str) -> wire::DataPlane {
        wire::DataPlane {
            node: node.into(),
            version: "0.1.0".into(),
            connected: true,
            serving: Some(Generation { epoch: 1, number: 7 }),
            current: true,
            rejects: Vec::new(),
            connected_seconds: 200,
        }
    }

    fn standing(data_planes: Vec<wire::DataPlane>) -> wire::StatusResponse {
        wire::StatusResponse {
            generation: Some(Generation { epoch: 1, number: 7 }),
            adapters: 1,
            routes: 2,
            tenants: 0,
            data_planes,
            version: "0.1.0".into(),
        }
    }

    #[test]
    fn status_shows_the_store_each_data_plane_and_why_one_refused() {
        let older = Some(Generation { epoch: 1, number: 6 });
        let reject =
            Reject { kind: "Adapter".into(), name: "gpt".into(), reason: "OPENAI_API_KEY is not set".into() };
        let refused =
            wire::DataPlane { current: false, serving: older, rejects: vec![reject], ..plane("edge-2") };
        let away = wire::DataPlane { connected: false, current: false, serving: None, ..plane("edge-3") };
        let other = Some(Generation { epoch: 2, number: 9 });
        let behind = wire::DataPlane { current: false, serving: other, ..plane("edge-4") };
        assert_eq!(
            status_text(&standing(vec![plane("edge-1"), refused, away, behind])),
            "Generation:  7 (epoch 0000000000000001)\n\
             Resources:   1 adapter, 2 routes, 0 tenants\n\
             Version:     0.1.0\n\
             \n\
             DATA PLANE   VERSION   STATE     GENERATION           CONNECTED\n\
             edge-1       0.1.0     current   7                    3m\n\
             edge-2       0.1.0     refused   6                    3m\n\
             edge-3       0.1.0     away      none                 -\n\
             edge-4       0.1.0     behind    9 of another store   3m\n\
             \n\
             edge-2 refused adapter/gpt: OPENAI_API_KEY is not set\n"
        );
    }

    #[test]
    fn status_without_data_planes_says_so() {
        let text = status_text(&standing(Vec::new()));
        assert!(text.ends_with("\n\nNo data plane was ever connected.\n"), "{text}");
    }

    #[test]
    fn status_as_json_has_every_field_and_epochs_as_text() {
        let value = status_json(&standing(vec![plane("edge-1")]));
        assert_eq!(value["generation"], json!({ "epoch": "0000000000000001", "number": 7 }));
        assert_eq!(value["data_planes"][0]["state"], "current");
        assert_eq!(value["resources"]["routes"], 2);
    }

    #[test]
    fn an_event_is_one_line_as_text_and_as_json() {
        let change =
            wire::Change { verb: wire::change::Verb::Created.into(), kind: "Route".into(), name: "a".into() };
        let resource = wire::Resource { json: r#"{"kind":"Route"}"#.into(), ..wire::Resource::default() };
        let generation = Some(Generation { epoch: 1, number: 7 });
        let event = wire::WatchEvent { change: Some(change), resource: Some(resource), generation };
        assert_eq!(event_text(&event, Output::Table), "7   route/a created");
        assert_eq!(
            event_text(&event, Output::Json),
            r#"{"generation":7,"kind":"Route","name":"a","resource":{"kind":"Route"},"verb":"created"}"#
        );
        assert_eq!(event_text(&event, Output::Yaml), "--- # generation 7: route/a created\nkind: Route\n");
    }

    #[test]
    fn ages_read_at_a_glance() {
        let ages = [0, 59, 60, 3599, 3600, 86_399, 86_400].map(age);
        assert_eq!(ages, ["0s", "59s", "1m", "59m", "1h", "23h", "1d"]);
    }
}
