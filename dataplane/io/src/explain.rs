//! How a request would be routed, answered from the tables that are served: the same code, nothing sent.

use dataplane_core::fault::Fault;
use dataplane_core::route::{self, Wish};
use proto_core::model::PUBLIC;
use proto_core::sync::Question;
use proto_core::units::Permille;
use serde_json::{Value, json};

use crate::served::Served;
use crate::worker::Shared;

/// As JSON; a refusal is an answer too.
pub fn answer(shared: &Shared, question: &Question) -> String {
    let Some(served) = shared.tables.peek() else {
        return json!({"error": "not_ready", "message": "no set of resources is served yet"}).to_string();
    };
    explain(&served, question).unwrap_or_else(|error| error).to_string()
}

fn explain(served: &Served, question: &Question) -> Result<Value, Value> {
    let table = &served.table;
    let refusal = |fault: Fault| json!({"error": fault.code(), "status": fault.status()});
    let wanted = if question.tenant.is_empty() { PUBLIC } else { &question.tenant };
    let tenant = table.tenants.iter().position(|row| row.name.as_str() == wanted).ok_or_else(
        || json!({"error": "unknown_tenant", "message": format!("no tenant `{wanted}` is served")}),
    )?;
    let tenant = dataplane_core::table::TenantId(u32::try_from(tenant).unwrap_or(u32::MAX));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (model, task_type) = (some(&question.model), some(&question.task_type));
    let route = table.find(model.as_deref(), task_type.as_deref(), tenant).map_err(refusal)?;
    let wish = Wish {
        quality: Wish::BALANCED,
        latency_slo_ms: None,
        cost_max: None,
        input: 0,
        output: 0,
        explore: Permille(0),
    };
    let plan = route::plan(table, route, &wish, 0).map_err(refusal)?;
    let row = table.route(route);
    let candidates = plan.offers.iter().map(|id| {
        let offer = table.offer(*id);
        let weight = row.candidates.iter().find(|candidate| candidate.offer == *id).map(|found| found.weight);
        json!({
            "adapter": table.adapter(offer.owner).name.as_str(),
            "model": offer.model.as_str(),
            "weight": weight,
            "status": offer.status.as_str(),
            "breaker": served.adapters[offer.adapter.0 as usize].breaker.now().as_str(),
        })
    });
    Ok(json!({
        "generation": {"epoch": format!("{:x}", served.epoch), "number": served.number},
        "route": row.name,
        "declared": row.declared,
        "strategy": row.strategy.as_str(),
        "candidates": candidates.collect::<Vec<_>>(),
        "attempts": row.retry.attempts,
        "timeout_ms": {
            "first_token": row.timeout.first_token.as_millis() as u64,
            "idle": row.timeout.idle.as_millis() as u64,
            "total": row.timeout.total.as_millis() as u64,
        },
    }))
}
