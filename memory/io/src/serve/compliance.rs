//! What auditors and the people behind the data may ask for: the log and whether it is whole, everything
//! about a subject and its end, personal data in a text. Each tenant sees its own only.

use std::sync::Arc;

use hyper::body::Incoming;
use memory_core::audit::{self, EventKind};
use memory_core::redact::{self, Found};
use memory_core::wall::Wall;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::Asked;
use super::answer::{self, Answer, Fault};
use super::intake::{self, PiiBody};
use super::items::{Shown, kinds};
use super::route::EventQuery;
use crate::backend::Noted;
use crate::identity::Denied;
use crate::store::reading::{Integrity, Page};

#[derive(Serialize)]
struct ShownEvent<'a> {
    event: &'a RawValue,
    prev: Option<String>,
    hmac: Option<String>,
    hash: String,
    number: u64,
}

pub async fn audit_log(asked: &Asked<'_>, query: EventQuery) -> Result<Answer, Fault> {
    let EventQuery { filter, tenant } = query;
    if tenant.is_some_and(|tenant| tenant != *asked.tenant) {
        let why = "tenant_id names another tenant; each sees its own log only".into();
        return Err(Fault::Denied(Denied::OtherTenant { why }));
    }
    let limit = filter.limit;
    let kept = asked.gateway.backend.events(Arc::clone(&asked.tenant), filter).await?;
    let shown = kept.iter().map(|kept| {
        let event = serde_json::from_str(&kept.event).map_err(|error| {
            tracing::error!(%error, number = kept.number, "an event is not JSON");
            Fault::Internal
        })?;
        let (prev, hash) = (kept.previous.as_ref().map(audit::hex), audit::hex(&kept.hash));
        let hmac = kept.seal.as_ref().map(audit::hex);
        Ok(ShownEvent { event, prev, hmac, hash, number: kept.number })
    });
    #[derive(Serialize)]
    struct Log<'a> {
        events: Vec<ShownEvent<'a>>,
        /// To ask for those before, where there may be some.
        before: Option<u64>,
    }
    let before = kept.last().filter(|last| kept.len() == limit && last.number > 1);
    answer::ok(&Log { events: shown.collect::<Result<_, Fault>>()?, before: before.map(|last| last.number) })
}

pub async fn audit_integrity(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let Integrity { account, verdict, sealed } =
        asked.gateway.backend.integrity(Arc::clone(&asked.tenant)).await?;
    if let Err(found) = verdict {
        tracing::error!(tenant = %asked.tenant, %found, "the audit log was changed");
    }
    answer::ok(&json!({
        "integrity_valid": verdict.is_ok(),
        "broken_at": verdict.err().map(audit::Break::number),
        "reason": verdict.err().map(|found| found.to_string()),
        "events": account.chain.next - account.anchor.next,
        "sealed": sealed,
        "first": account.anchor.next,
        "head": account.chain.head.as_ref().map(audit::hex),
        "audit_path": asked.gateway.backend.name(),
        "verification_timestamp": asked.gateway.now().to_string(),
    }))
}

pub async fn access_report(asked: &Asked<'_>, from: Option<Wall>, to: Option<Wall>) -> Result<Answer, Fault> {
    let counts = asked.gateway.backend.report(Arc::clone(&asked.tenant), from, to).await?;
    let by_type: Map<String, Value> =
        counts.iter().map(|(kind, count)| (kind.as_str().to_owned(), (*count).into())).collect();
    answer::ok(&json!({
        "tenant_id": &*asked.tenant,
        "start_date": from.map(|from| from.to_string()),
        "end_date": to.map(|to| to.to_string()),
        "total_events": counts.values().sum::<u64>(),
        "events_by_type": by_type,
    }))
}

pub async fn subject_export(
    asked: &Asked<'_>,
    subject: String,
    cursor: Option<String>,
) -> Result<Answer, Fault> {
    let (whose, of) = (Arc::clone(&asked.tenant), subject.clone());
    let Page { rows: items, next } =
        asked.gateway.backend.items_of_subject(whose, of, cursor, EXPORT_PAGE).await?;
    note(asked, EventKind::SubjectExport, &subject, items.len() as u64).await?;
    #[derive(Serialize)]
    struct Export<'a> {
        data_subject_id: &'a str,
        records: Vec<Shown<'a>>,
        cursor: Option<String>,
    }
    let records = items.iter().map(|item| Shown::at_place(item, None)).collect::<Result<_, _>>()?;
    answer::ok(&Export { data_subject_id: &subject, records, cursor: next })
}

/// Looks and deletes until nothing is found; what somebody writes about the subject meanwhile may stay.
pub async fn subject_delete(asked: &Asked<'_>, subject: String) -> Result<Answer, Fault> {
    let mut deleted = 0;
    let mut cursor = None;
    loop {
        let (whose, of) = (Arc::clone(&asked.tenant), subject.clone());
        let page = asked.gateway.backend.of_subject(whose, of, cursor, DELETE_PAGE).await?;
        if !page.rows.is_empty() {
            let whose = Arc::clone(&asked.tenant);
            deleted += asked.gateway.backend.delete_paths(whose, page.rows).await?;
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    note(asked, EventKind::SubjectDeletion, &subject, deleted).await?;
    answer::ok(&json!({"ok": true, "data_subject_id": subject, "deleted": deleted}))
}

/// On disk before the answer: who asks for this must be able to prove it.
async fn note(asked: &Asked<'_>, kind: EventKind, subject: &str, items: u64) -> Result<(), Fault> {
    let detail = Some(("items", items));
    let noted = Noted { kind, namespace: String::new(), key: subject.to_owned(), detail };
    Ok(asked.gateway.backend.note(Arc::clone(&asked.tenant), noted).await?)
}

pub async fn pii_detect(asked: &Asked<'_>, body: Incoming) -> Result<Answer, Fault> {
    let (_, found) = looked_through(asked, body).await?;
    answer::ok(&json!({
        "pii_detected": found.total() > 0,
        "pii_matches_count": found.total(),
        "pii_types": kinds(found),
    }))
}

pub async fn pii_redact(asked: &Asked<'_>, body: Incoming) -> Result<Answer, Fault> {
    let (mut answer, found) = looked_through(asked, body).await?;
    asked.gateway.metrics.redactions.inc_by(found.total());
    answer.insert("pii_matches_count".into(), found.total().into());
    answer.insert("pii_types".into(), kinds(found).into());
    answer::ok(&answer)
}

async fn looked_through(asked: &Asked<'_>, body: Incoming) -> Result<(Map<String, Value>, Found), Fault> {
    let body = intake::read(asked.headers, body).await?;
    let PiiBody { text, object } = intake::json(&body)?;
    let (mut out, mut found) = (Map::new(), Found::default());
    if text.is_none() && object.is_none() {
        return Err(Fault::Invalid("text or object is needed".into()));
    }
    if let Some(text) = text {
        out.insert("text".into(), redact::text(&text, &mut found).into());
    }
    if let Some(mut object) = object {
        redact::json(&mut object, &mut found);
        out.insert("object".into(), object);
    }
    Ok((out, found))
}

/// Items; fewer where they are large.
const EXPORT_PAGE: usize = 20;
/// In one transaction.
const DELETE_PAGE: usize = 200;
