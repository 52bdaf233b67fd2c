//! What a request asks for, by its method and address. Pure.

use http::Method;
use memory_core::audit::EventKind;
use memory_core::place::{self, Key, Namespace, Place};
use memory_core::wall::Wall;

use crate::store::reading::EventFilter;

/// One thing the gateway does.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    Health,
    Metrics,
    Get(Place),
    Put(Place),
    Delete(Place),
    List { namespace: Namespace, prefix: String, cursor: Option<String>, limit: usize },
    Search,
    AuditLog(EventQuery),
    AuditIntegrity,
    AccessReport { from: Option<Wall>, to: Option<Wall> },
    SubjectExport { subject: String, cursor: Option<String> },
    SubjectDelete { subject: String },
    PiiDetect,
    PiiRedact,
}

/// Which events, and of whom they are said to be.
#[derive(Debug, Clone, PartialEq)]
pub struct EventQuery {
    pub filter: EventFilter,
    pub tenant: Option<String>,
}

/// What it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// No such address.
    Path,
    /// The address takes these methods.
    Method(&'static str),
    /// Said to the caller.
    Wrong(String),
}

impl Call {
    /// The name its metrics carry.
    pub fn name(&self) -> &'static str {
        match self {
            Call::Health => "health",
            Call::Metrics => "metrics",
            Call::Get(_) => "get",
            Call::Put(_) => "put",
            Call::Delete(_) => "delete",
            Call::List { .. } => "list",
            Call::Search => "search",
            Call::AuditLog(_) => "audit_log",
            Call::AuditIntegrity => "audit_integrity",
            Call::AccessReport { .. } => "access_report",
            Call::SubjectExport { .. } => "subject_export",
            Call::SubjectDelete { .. } => "subject_delete",
            Call::PiiDetect => "pii_detect",
            Call::PiiRedact => "pii_redact",
        }
    }

    pub fn of(method: &Method, path: &str, query: Option<&str>) -> Result<Call, Unknown> {
        let query = Query::read(query.unwrap_or_default())?;
        let only = |expected: Method, allowed: &'static str, call: Call| {
            if *method == expected { Ok(call) } else { Err(Unknown::Method(allowed)) }
        };
        match path {
            "/healthz" => only(Method::GET, "GET", Call::Health),
            "/metrics" => only(Method::GET, "GET", Call::Metrics),
            "/v1/memory/search" if method == Method::POST => Ok(Call::Search),
            "/v1/memory" if method == Method::GET => {
                let namespace = query.text("namespace").unwrap_or_default();
                list(Namespace::parse(namespace).map_err(wrong)?, &query)
            }
            "/v1/memory" => Err(Unknown::Method("GET")),
            "/v1/pii/detect" => only(Method::POST, "POST", Call::PiiDetect),
            "/v1/pii/redact" => only(Method::POST, "POST", Call::PiiRedact),
            "/v1/compliance/audit-log" if method == Method::GET => events(&query).map(Call::AuditLog),
            "/v1/compliance/audit-log" => Err(Unknown::Method("GET")),
            "/v1/compliance/audit-integrity" => only(Method::GET, "GET", Call::AuditIntegrity),
            "/v1/compliance/soc2/access-report" => {
                let (from, to) = (query.time("start_date")?, query.time("end_date")?);
                only(Method::GET, "GET", Call::AccessReport { from, to })
            }
            _ => match (path.strip_prefix("/v1/memory/"), path.strip_prefix(SUBJECTS)) {
                (Some(raw), _) => item(method, raw, &query),
                (None, Some(raw)) => subject(method, raw, &query),
                (None, None) => Err(Unknown::Path),
            },
        }
    }
}

fn item(method: &Method, raw: &str, query: &Query) -> Result<Call, Unknown> {
    if *method == Method::GET && !raw.contains('/') {
        return list(Namespace::of_url(raw).map_err(wrong)?, query);
    }
    let place = || Place::of_url(raw).map_err(wrong);
    match *method {
        Method::GET => Ok(Call::Get(place()?)),
        Method::PUT => Ok(Call::Put(place()?)),
        Method::DELETE => Ok(Call::Delete(place()?)),
        _ => Err(Unknown::Method("GET, PUT, DELETE")),
    }
}

fn list(namespace: Namespace, query: &Query) -> Result<Call, Unknown> {
    let limit = query.number("limit", LIST_DEFAULT, LIST_MAX)?;
    let prefix = query.text("prefix").unwrap_or_default().to_owned();
    Ok(Call::List { namespace, prefix, cursor: query.text("cursor").map(str::to_owned), limit })
}

fn events(query: &Query) -> Result<EventQuery, Unknown> {
    let kind = match query.text("event_type") {
        None => None,
        Some(text) => Some(EventKind::parse(text).ok_or_else(|| {
            let known: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
            Unknown::Wrong(format!("event_type is one of {}", known.join(", ")))
        })?),
    };
    let filter = EventFilter {
        from: query.time("start_time")?,
        to: query.time("end_time")?,
        kind,
        before: match query.text("before") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| Unknown::Wrong("before is a number".into()))?),
        },
        limit: query.number("limit", EVENTS_DEFAULT, EVENTS_MAX)?,
    };
    Ok(EventQuery { filter, tenant: query.text("tenant_id").map(str::to_owned) })
}

fn subject(method: &Method, raw: &str, query: &Query) -> Result<Call, Unknown> {
    let subject = place::decoded(raw).map_err(wrong)?;
    if subject.contains('/') {
        return Err(Unknown::Wrong("a data subject is one segment of a place".into()));
    }
    Key::parse(&subject).map_err(wrong)?;
    match *method {
        Method::GET => Ok(Call::SubjectExport { subject, cursor: query.text("cursor").map(str::to_owned) }),
        Method::DELETE => Ok(Call::SubjectDelete { subject }),
        _ => Err(Unknown::Method("GET, DELETE")),
    }
}

fn wrong(fault: place::PlaceFault) -> Unknown {
    Unknown::Wrong(fault.to_string())
}

/// Names and values behind `?`, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(raw: &str) -> Result<Query, Unknown> {
        let decoded = |text: &str| place::decoded(&text.replace('+', " ")).map_err(wrong);
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        };
        raw.split('&').filter(|part| !part.is_empty()).map(pair).collect::<Result<_, _>>().map(Query)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str, default: usize, most: usize) -> Result<usize, Unknown> {
        let Some(text) = self.text(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| Unknown::Wrong(format!("{name} is a whole number from 1 to {most}")))
    }

    fn time(&self, name: &str) -> Result<Option<Wall>, Unknown> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let why = "is a date (2026-11-22), a time in UTC (2026-11-22T17:47:34Z) or seconds since 1970";
        Wall::parse(text).map(Some).ok_or_else(|| Unknown::Wrong(format!("{name} {why}")))
    }
}

const SUBJECTS: &str = "/v1/compliance/gdpr/data-subject/";
const LIST_DEFAULT: usize = 50;
const LIST_MAX: usize = 100;
const EVENTS_DEFAULT: usize = 100;
const EVENTS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: Method, address: &str) -> Result<Call, Unknown> {
        let (path, query) =
            address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
        Call::of(&method, path, query)
    }

    fn listed(namespace: &str, prefix: &str, cursor: Option<&str>, limit: usize) -> Result<Call, Unknown> {
        let namespace = Namespace::parse(namespace).unwrap();
        Ok(Call::List { namespace, prefix: prefix.into(), cursor: cursor.map(str::to_owned), limit })
    }

    #[test]
    fn each_address_is_one_call() {
        let place = Place::of_url("tenant/acme/session/s1").unwrap();
        let address = "/v1/memory/tenant/acme/session/s1";
        assert_eq!(call(Method::GET, address), Ok(Call::Get(place.clone())));
        assert_eq!(call(Method::PUT, address), Ok(Call::Put(place.clone())));
        assert_eq!(call(Method::DELETE, address), Ok(Call::Delete(place)));
        assert_eq!(call(Method::POST, "/v1/memory/search"), Ok(Call::Search));
        assert_eq!(call(Method::GET, "/v1/memory/notes"), listed("notes", "", None, 50));
        assert_eq!(
            call(Method::GET, "/v1/memory?namespace=tenant%2Facme&prefix=s&cursor=s1&limit=7"),
            listed("tenant/acme", "s", Some("s1"), 7)
        );
        assert_eq!(call(Method::GET, "/healthz"), Ok(Call::Health));
        assert_eq!(call(Method::GET, "/v1/compliance/audit-integrity"), Ok(Call::AuditIntegrity));
        assert_eq!(
            call(Method::DELETE, "/v1/compliance/gdpr/data-subject/u42"),
            Ok(Call::SubjectDelete { subject: "u42".into() })
        );
        assert_eq!(
            call(Method::GET, "/v1/compliance/soc2/access-report?start_date=1970-01-02"),
            Ok(Call::AccessReport { from: Some(Wall(86_400_000)), to: None })
        );
    }

    #[test]
    fn the_audit_log_takes_its_filters() {
        let address = "/v1/compliance/audit-log?start_time=10&end_time=1970-01-01T00:01:00Z&tenant_id=acme\
                       &event_type=memory_put&limit=1000&before=5";
        let filter = EventFilter {
            from: Some(Wall(10_000)),
            to: Some(Wall(60_000)),
            kind: Some(EventKind::Put),
            before: Some(5),
            limit: 1000,
        };
        let expected = EventQuery { filter, tenant: Some("acme".into()) };
        assert_eq!(call(Method::GET, address), Ok(Call::AuditLog(expected)));
    }

    #[test]
    fn what_is_no_call_says_what_is_wrong() {
        let wrong = |method: Method, address: &str, part: &str| match call(method, address) {
            Err(Unknown::Wrong(why)) => assert!(why.contains(part), "{why}"),
            other => panic!("{address}: {other:?}"),
        };
        wrong(Method::PUT, "/v1/memory/alone", "/v1/memory/{namespace}/{key}");
        wrong(Method::GET, "/v1/memory", "empty segment");
        wrong(Method::GET, "/v1/memory/notes?limit=101", "limit is a whole number from 1 to 100");
        wrong(Method::GET, "/v1/memory/notes?limit=0", "limit");
        wrong(Method::GET, "/v1/memory/notes?prefix=%zz", "no encoding");
        wrong(Method::GET, "/v1/compliance/audit-log?limit=1001", "from 1 to 1000");
        wrong(Method::GET, "/v1/compliance/audit-log?start_time=today", "start_time is a date");
        wrong(Method::GET, "/v1/compliance/audit-log?event_type=x", "memory_put");
        wrong(Method::GET, "/v1/compliance/gdpr/data-subject/a%2Fb", "one segment");
        wrong(Method::GET, "/v1/compliance/gdpr/data-subject/", "empty segment");
        assert_eq!(call(Method::POST, "/v1/memory/a/b"), Err(Unknown::Method("GET, PUT, DELETE")));
        assert_eq!(call(Method::POST, "/healthz"), Err(Unknown::Method("GET")));
        assert_eq!(call(Method::GET, "/v1/pii/detect"), Err(Unknown::Method("POST")));
        assert_eq!(call(Method::GET, "/"), Err(Unknown::Path));
        assert_eq!(call(Method::GET, "/v1/memoryx"), Err(Unknown::Path));
    }
}
