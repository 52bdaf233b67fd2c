//! Calls: who makes them, what they ask for, what is answered.

pub mod answer;
mod compliance;
pub mod guard;
mod intake;
mod items;
pub mod route;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use memory_core::anomaly::Watch;
use memory_core::wall::Wall;

use self::answer::{Answer, Fault};
use self::route::{Call, Unknown};
use crate::backend::Backend;
use crate::clock;
use crate::config::Config;
use crate::identity::{CLAIM, Denied};
use crate::telemetry::{self, Metrics};
use crate::writer::Clock;

/// What all calls share.
pub struct Gateway {
    pub config: Config,
    pub backend: Backend,
    pub clock: Clock,
    pub metrics: Metrics,
    /// The listener is bound to loopback: whoever calls is on this machine.
    pub is_loopback: bool,
    /// By tenant; those are declared, so they are bounded. Held for a few comparisons.
    pub watches: Mutex<HashMap<Arc<str>, Watch>>,
}

/// One call, and by whom.
pub struct Asked<'a> {
    pub gateway: &'a Gateway,
    pub tenant: Arc<str>,
    pub headers: &'a HeaderMap,
}

/// Answers a request, whatever it is.
pub async fn serve(gateway: &Gateway, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let began = clock::now();
    let (head, body) = request.into_parts();
    let (name, answered) = match Call::of(&head.method, head.uri.path(), head.uri.query()) {
        _ if gateway.is_loopback && is_foreign(&head.headers) => ("refused", Err(Fault::Foreign)),
        Err(unknown) => ("unknown", Err(Fault::Unknown(unknown))),
        Ok(call) => (call.name(), answer(gateway, call, &head.headers, body).await),
    };
    let answer = answered.unwrap_or_else(Fault::into_answer);
    gateway.metrics.answered(name, answer.status().as_u16());
    gateway.metrics.duration.observe(clock::now().since(began).as_secs_f64());
    Ok(answer)
}

async fn answer(gateway: &Gateway, call: Call, headers: &HeaderMap, body: Incoming) -> Result<Answer, Fault> {
    match call {
        Call::Health => {
            gateway.backend.health().await?;
            return Ok(answer::with_type(StatusCode::OK, "application/json", b"{\"ok\":true}".into()));
        }
        Call::Metrics => return scrape(gateway).await,
        _ => {}
    }
    let tenant = gateway.config.callers.identify(headers).map_err(|denied| {
        if denied != Denied::NotReady {
            gateway.metrics.unauthenticated.inc();
        }
        Fault::Denied(denied)
    })?;
    let asked = Asked { gateway, tenant, headers };
    let mut answer = match call {
        Call::Get(place) => items::get(&asked, place).await,
        Call::Put(place) => items::put(&asked, place, body).await,
        Call::Delete(place) => items::delete(&asked, place).await,
        Call::List { namespace, prefix, cursor, limit } => {
            items::list(&asked, namespace, prefix, cursor, limit).await
        }
        Call::Search => items::search(&asked, body).await,
        Call::AuditLog(query) => compliance::audit_log(&asked, query).await,
        Call::AuditIntegrity => compliance::audit_integrity(&asked).await,
        Call::AccessReport { from, to } => compliance::access_report(&asked, from, to).await,
        Call::SubjectExport { subject, cursor } => compliance::subject_export(&asked, subject, cursor).await,
        Call::SubjectDelete { subject } => compliance::subject_delete(&asked, subject).await,
        Call::PiiDetect => compliance::pii_detect(&asked, body).await,
        Call::PiiRedact => compliance::pii_redact(&asked, body).await,
        Call::Health | Call::Metrics => Err(Fault::Unknown(Unknown::Path)),
    }?;
    // Whose memory it was, also where the caller named nobody.
    let name = HeaderValue::try_from(&*asked.tenant).expect("a tenant's name is visible ASCII");
    answer.headers_mut().insert(CLAIM, name);
    Ok(answer)
}

async fn scrape(gateway: &Gateway) -> Result<Answer, Fault> {
    // What is counted here is told also where the store is gone; its sums are then of the last time.
    match gateway.backend.accounts().await {
        Ok(accounts) => gateway.metrics.sum(&accounts),
        Err(fault) => tracing::warn!(%fault, "what the store holds is not counted anew"),
    }
    let page = gateway.metrics.exposition().map_err(|error| {
        tracing::error!(%error, "metrics could not be written");
        Fault::Internal
    })?;
    Ok(answer::with_type(StatusCode::OK, telemetry::CONTENT_TYPE, page))
}

impl Gateway {
    pub fn now(&self) -> Wall {
        (self.clock)()
    }

    /// Counts an access of a tenant to a namespace.
    pub fn watch(&self, tenant: &Arc<str>, namespace: &str) {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = watches.entry(Arc::clone(tenant)).or_default();
        if watch.on_access(clock::now(), namespace, self.config.accesses_max) {
            drop(watches);
            self.metrics.anomalies.inc();
            tracing::warn!(%tenant, "many accesses to many namespaces within a minute");
        }
    }
}

/// Whether a page of somewhere else may be behind a request to this machine: it names another host (a name
/// bound to loopback by its owner), or comes from another origin.
fn is_foreign(headers: &HeaderMap) -> bool {
    let is_here = |authority: &str| {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => authority,
        };
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    };
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let is_origin_here =
        |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| is_here(authority));
    text(HOST).is_some_and(|host| !is_here(host))
        || text(ORIGIN).is_some_and(|origin| !is_origin_here(origin))
}

#[cfg(test)]
mod tests;
