//! Items: put, get, delete, list, search.

use std::str::FromStr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use hyper::body::Incoming;
use memory_core::audit::EventKind;
use memory_core::consistency::Consistency;
use memory_core::entry::{Entry, Precondition, lifetime};
use memory_core::place::{Namespace, Place};
use memory_core::redact::{self, Found};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Asked;
use super::answer::{self, Answer, Fault};
use super::intake::{self, SearchBody, Stored};
use crate::backend::Noted;
use crate::index::Matches;
use crate::index::ask::Question;
use crate::store::changes::Put;
use crate::store::reading::Item;

/// An item as it is answered.
#[derive(Serialize)]
pub struct Shown<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    object: &'a RawValue,
    version: u64,
    created: String,
    updated: String,
    expires: Option<String>,
}

impl<'a> Shown<'a> {
    /// Without its place, which the caller named.
    fn of(item: &'a Item) -> Result<Shown<'a>, Fault> {
        let Entry { version, created, updated, expires } = item.entry;
        let object = serde_json::from_slice(&item.value).map_err(|error| {
            tracing::error!(%error, path = item.path, "a stored value is not JSON");
            Fault::Internal
        })?;
        Ok(Shown {
            namespace: None,
            key: None,
            score: None,
            object,
            version,
            created: created.to_string(),
            updated: updated.to_string(),
            expires: expires.map(|expires| expires.to_string()),
        })
    }

    /// With it.
    pub fn at_place(item: &'a Item, score: Option<f32>) -> Result<Shown<'a>, Fault> {
        let place = Place::of_path(&item.path).map_err(|error| {
            tracing::error!(%error, path = item.path, "a stored path is no place");
            Fault::Internal
        })?;
        let (namespace, key) = (Some(place.namespace.to_string()), Some(place.key.to_string()));
        Ok(Shown { namespace, key, score, ..Shown::of(item)? })
    }
}

pub async fn put(asked: &Asked<'_>, place: Place, body: Incoming) -> Result<Answer, Fault> {
    let gateway = asked.gateway;
    let precondition = precondition(asked.headers)?;
    let body = intake::read(asked.headers, body).await?;
    let Stored { mut json, mut value, ttl_seconds } = intake::stored(&body)?;
    let lifetime =
        lifetime(ttl_seconds, gateway.config.lifetime).map_err(|fault| Fault::Invalid(fault.to_string()))?;
    let mut found = Found::default();
    if gateway.config.redact {
        redact::json(&mut value, &mut found);
        if found.total() > 0 {
            json = value.to_string().into_bytes();
        }
    }
    let put = Put {
        tenant: asked.tenant.to_string(),
        place,
        value: json,
        precondition,
        lifetime,
        quota: gateway.config.quota,
    };
    gateway.watch(&asked.tenant, put.place.namespace.as_str());
    let stored = gateway.backend.put(put).await?;
    let entry = stored.map_err(Fault::from).inspect_err(|fault| {
        if matches!(fault, Fault::Quota(_)) {
            gateway.metrics.throttled.inc();
        }
    })?;
    gateway.metrics.redactions.inc_by(found.total());
    let mut body = json!({
        "ok": true,
        "version": entry.version,
        "expires": entry.expires.map(|expires| expires.to_string()),
    });
    if gateway.config.redact {
        body["pii_detected"] = (found.total() > 0).into();
        body["pii_matches_count"] = found.total().into();
        body["pii_types"] = kinds(found).into();
    }
    answer::versioned(&body, entry.version)
}

/// Names of what was found.
pub fn kinds(found: Found) -> Vec<&'static str> {
    found.kinds().iter().filter(|(_, count)| *count > 0).map(|(kind, _)| *kind).collect()
}

pub async fn get(asked: &Asked<'_>, place: Place) -> Result<Answer, Fault> {
    asked.gateway.watch(&asked.tenant, place.namespace.as_str());
    let level = consistency(asked.headers)?;
    let item = asked.gateway.backend.get(Arc::clone(&asked.tenant), place, level).await?;
    match item {
        Some(item) => answer::versioned(&Shown::of(&item)?, item.entry.version),
        // With status 200, as existing clients expect.
        None => answer::ok(&json!({"error": "not_found"})),
    }
}

pub async fn delete(asked: &Asked<'_>, place: Place) -> Result<Answer, Fault> {
    let precondition = precondition(asked.headers)?;
    asked.gateway.watch(&asked.tenant, place.namespace.as_str());
    let deleted = asked.gateway.backend.delete(Arc::clone(&asked.tenant), place, precondition).await?;
    answer::ok(&json!({"ok": true, "deleted": deleted.map_err(Fault::from)?}))
}

pub async fn list(
    asked: &Asked<'_>,
    namespace: Namespace,
    prefix: String,
    cursor: Option<String>,
    limit: usize,
) -> Result<Answer, Fault> {
    let gateway = asked.gateway;
    gateway.watch(&asked.tenant, namespace.as_str());
    let (tenant, at) = (Arc::clone(&asked.tenant), namespace.clone());
    let page = gateway.backend.list(tenant, at, prefix, cursor, limit).await?;
    note(asked, EventKind::List, namespace.to_string(), page.rows.len()).await?;
    let keys: Vec<&str> = page.rows.iter().map(|(key, _)| key.as_str()).collect();
    let items = page.rows.iter().map(|(key, entry)| {
        let expires = entry.expires.map(|expires| expires.to_string());
        let updated = entry.updated.to_string();
        json!({"key": key, "version": entry.version, "updated": updated, "expires": expires})
    });
    answer::ok(&json!({
        "namespace": namespace.as_str(),
        "keys": keys,
        "items": items.collect::<Vec<_>>(),
        "cursor": page.next,
    }))
}

pub async fn search(asked: &Asked<'_>, body: Incoming) -> Result<Answer, Fault> {
    let gateway = asked.gateway;
    let body = intake::read(asked.headers, body).await?;
    let SearchBody { q, namespace, limit, cursor } = intake::json(&body)?;
    let invalid = |why: String| Fault::Invalid(why);
    let namespace = namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let namespace =
        namespace.map(Namespace::parse).transpose().map_err(|fault| invalid(fault.to_string()))?;
    let limit = match limit.map(usize::try_from) {
        None => SEARCH_DEFAULT,
        Some(Ok(limit)) if (1..=SEARCH_MAX).contains(&limit) => limit,
        Some(_) => return Err(invalid(format!("limit is a whole number from 1 to {SEARCH_MAX}"))),
    };
    let skip = match cursor.map(|cursor| cursor.parse::<usize>()) {
        None => 0,
        Some(Ok(skip)) if skip <= SEARCH_DEPTH_MAX => skip,
        Some(_) => return Err(invalid("cursor is what an answer to this search had as `cursor`".into())),
    };
    let question = Question::of(&q, namespace.clone(), skip, limit)
        .ok_or_else(|| invalid("q has no word to look for".into()))?;
    gateway.watch(&asked.tenant, namespace.as_ref().map_or("", Namespace::as_str));
    let Matches { items: found, next } = gateway.backend.search(Arc::clone(&asked.tenant), question).await?;
    let cursor = next.filter(|next| *next <= SEARCH_DEPTH_MAX).map(|next| next.to_string());
    let namespace = namespace.map(|namespace| namespace.to_string()).unwrap_or_default();
    note(asked, EventKind::Search, namespace, found.len()).await?;
    let shown = found.iter().map(|(score, item)| Shown::at_place(item, Some(*score)));
    let results = shown.collect::<Result<Vec<_>, _>>()?;
    answer::ok(&SearchAnswer { results, cursor })
}

#[derive(Serialize)]
struct SearchAnswer<'a> {
    results: Vec<Shown<'a>>,
    cursor: Option<String>,
}

/// Puts an event of many items into the queue. It says where, never what was asked or found.
pub async fn note(asked: &Asked<'_>, kind: EventKind, namespace: String, items: usize) -> Result<(), Fault> {
    let detail = Some(("items", items as u64));
    let noted = Noted { kind, namespace, key: String::new(), detail };
    Ok(asked.gateway.backend.note_later(Arc::clone(&asked.tenant), noted).await?)
}

fn consistency(headers: &HeaderMap) -> Result<Consistency, Fault> {
    let Some(level) = headers.get("x-consistency-level") else { return Ok(Consistency::default()) };
    let known = level.to_str().ok().and_then(Consistency::parse);
    known.ok_or_else(|| Fault::Invalid("x-consistency-level is EVENTUAL or STRONG".into()))
}

fn precondition(headers: &HeaderMap) -> Result<Precondition, Fault> {
    let why = "if-match is `*` or one version in quotes, if-none-match is `*`, and only one of them is sent";
    let text = |name| match headers.get(name).map(|value| String::from_str(value.to_str().ok()?).ok()) {
        None => Ok(None),
        Some(Some(text)) => Ok(Some(text)),
        Some(None) => Err(Fault::Invalid(why.into())),
    };
    let (if_match, if_none_match) = (text(IF_MATCH)?, text(IF_NONE_MATCH)?);
    Precondition::parse(if_match.as_deref(), if_none_match.as_deref())
        .ok_or_else(|| Fault::Invalid(why.into()))
}

const SEARCH_DEFAULT: usize = 10;
/// Of one page.
const SEARCH_MAX: usize = 20;
/// Results that all pages together reach: who has not found it by then asks for something else.
const SEARCH_DEPTH_MAX: usize = 1000;
