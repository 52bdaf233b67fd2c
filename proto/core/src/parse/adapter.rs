//! The spec of an Adapter. Never opens what it names: files and environment are the data plane's to look up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fields::{Field, Fields};
use super::persona;
use crate::model::{
    Adapter, AdapterKind, Auth, Concurrency, Discovery, EchoSpeed, Endpoint, Grade, Limits, Model,
    ModelStatus, Name, Price, Scheme, TlsFiles,
};
use crate::units::{Permille, Picodollars, TokenCount};

/// Reads a spec. `name` is `None` where it is wrong, which was said already.
pub fn read(spec: &Field<'_>, name: Option<Name>) -> Option<Adapter> {
    let fields = spec.fields(FIELDS)?;
    let kind = kind(&fields);
    let limits = fields.or("limits", DEFAULT_LIMITS, read_limits);
    let concurrency = fields.or("concurrency", Concurrency::default(), read_concurrency);
    let models = fields.must("models", read_models);
    Some(Adapter { name: name?, kind: kind?, limits: limits?, concurrency: concurrency?, models: models? })
}

fn kind(fields: &Fields<'_>) -> Option<AdapterKind> {
    let field = fields.required("kind")?;
    let kind = field.one_of(&[
        ("openai", Served::OpenAi),
        ("anthropic", Served::Anthropic),
        ("ollama", Served::Ollama),
        ("grpc", Served::Grpc),
        ("persona", Served::Persona),
        ("echo", Served::Echo),
        ("attached", Served::Attached),
    ])?;
    if matches!(kind, Served::Anthropic | Served::Ollama | Served::Grpc)
        && let Some(allowed) = fields.optional("allow_endpoints")
    {
        allowed.mistake("is for kind openai only; remove it");
    }
    if kind != Served::Persona
        && let Some(persona) = fields.optional("persona")
    {
        persona.mistake("is for kind persona only; remove it");
    }
    match kind {
        Served::OpenAi if fields.optional("allow_endpoints").is_some() => dialled(fields),
        Served::OpenAi => {
            let (endpoint, auth, tls) = server(fields, fields.must("endpoint", read_endpoint).map(Some))?;
            Some(AdapterKind::OpenAi { endpoint: endpoint?, auth, tls })
        }
        Served::Anthropic => {
            let (endpoint, auth, tls) = server(fields, fields.must("endpoint", read_endpoint).map(Some))?;
            Some(AdapterKind::Anthropic { endpoint: endpoint?, auth, tls })
        }
        Served::Ollama => {
            let (endpoint, auth, tls) = server(fields, fields.maybe("endpoint", read_endpoint))?;
            Some(AdapterKind::Ollama { endpoint, auth, tls })
        }
        Served::Grpc => grpc(fields),
        Served::Persona => persona::read(fields),
        Served::Echo => echo(fields),
        Served::Attached => attached(fields),
    }
}

/// Kinds of adapter, as written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Served {
    OpenAi,
    Anthropic,
    Ollama,
    Grpc,
    Persona,
    Echo,
    Attached,
}

type Server = (Option<Endpoint>, Option<Auth>, Option<TlsFiles>);

/// What a server over HTTP has beside its endpoint: whom we are to it, and how both know each other.
fn server(fields: &Fields<'_>, endpoint: Option<Option<Endpoint>>) -> Option<Server> {
    if let Some(echo) = fields.optional("echo") {
        echo.mistake("is for kind echo only; remove it");
    }
    if let Some(lease) = fields.optional("lease_ms") {
        lease.mistake("is for allow_endpoints only; remove it");
    }
    let auth = fields.maybe("auth", read_auth);
    let tls = fields.maybe("tls", |tls| {
        let known = endpoint.as_ref().and_then(Option::as_ref);
        if known.is_some_and(|endpoint| endpoint.scheme == Scheme::Http) {
            tls.mistake("has no effect on an http:// endpoint; write https:// or remove it");
        }
        read_tls(tls)
    });
    Some((endpoint?, auth?, tls?))
}

fn grpc(fields: &Fields<'_>) -> Option<AdapterKind> {
    let endpoint = fields.must("endpoint", |field| {
        let endpoint = read_endpoint(field)?;
        if !endpoint.base_path.is_empty() {
            return field.wrong("names a path, and a gRPC service has none; remove it");
        }
        Some(endpoint)
    });
    let (endpoint, auth, tls) = server(fields, endpoint.map(Some))?;
    Some(AdapterKind::Grpc { endpoint: endpoint?, auth, tls })
}

/// One that registers itself: where it may be, instead of where it is.
fn dialled(fields: &Fields<'_>) -> Option<AdapterKind> {
    if let Some(echo) = fields.optional("echo") {
        echo.mistake("is for kind echo only; remove it");
    }
    let allowed = fields.required("allow_endpoints")?;
    if let Some(endpoint) = fields.optional("endpoint") {
        endpoint.mistake("is instead of allow_endpoints; remove one of them");
    }
    let places = allowed.list(1..=ENDPOINTS_MAX).map(|places| {
        let mut found: Vec<Endpoint> = Vec::new();
        let mut all_right = true;
        for place in &places {
            match read_endpoint(place) {
                Some(endpoint) if found.contains(&endpoint) => {
                    place.mistake("is given twice; remove one");
                    all_right = false;
                }
                Some(endpoint) if endpoint.discovery != Discovery::None => {
                    place
                        .mistake("says itself where it is, and is not looked for; write http:// or https://");
                    all_right = false;
                }
                Some(endpoint) => found.push(endpoint),
                None => all_right = false,
            }
        }
        all_right.then_some(found)
    });
    let lease = fields.or("lease_ms", LEASE_DEFAULT, |field| field.millis(LEASE_MS_MIN..=LEASE_MS_MAX));
    let auth = fields.maybe("auth", read_auth);
    let tls = fields.maybe("tls", |tls| {
        let is_plain = |places: &Vec<Endpoint>| places.iter().all(|place| place.scheme == Scheme::Http);
        if places.as_ref().is_some_and(|places| places.as_ref().is_some_and(is_plain)) {
            tls.mistake("has no effect on http:// endpoints; write https:// or remove it");
        }
        read_tls(tls)
    });
    let endpoints = places??.into();
    Some(AdapterKind::Dialled { endpoints, lease: lease?, auth: auth?, tls: tls? })
}

fn attached(fields: &Fields<'_>) -> Option<AdapterKind> {
    for name in ["endpoint", "allow_endpoints", "lease_ms", "auth", "tls", "echo"] {
        if let Some(field) = fields.optional(name) {
            field.mistake("kind attached dials in and is connected to nowhere; remove it");
        }
    }
    Some(AdapterKind::Attached)
}

fn echo(fields: &Fields<'_>) -> Option<AdapterKind> {
    for name in ["endpoint", "allow_endpoints", "lease_ms", "auth", "tls"] {
        if let Some(field) = fields.optional(name) {
            field.mistake("kind echo is built in and connects nowhere; remove it");
        }
    }
    let speed = fields.or("echo", INSTANT, |echo| {
        let fields = echo.fields(&["first_token_ms", "tokens_per_second"])?;
        let first_token = fields.or("first_token_ms", Duration::ZERO, |field| field.millis(0..=ECHO_MS_MAX));
        let rate = fields.or("tokens_per_second", 0, |field| field.whole(0..=ECHO_RATE_MAX));
        Some(EchoSpeed { first_token: first_token?, tokens_per_second: rate? })
    });
    speed.map(AdapterKind::Echo)
}

fn read_endpoint(field: &Field<'_>) -> Option<Endpoint> {
    // A URL with user info or a query holds a secret more often than not.
    if field.text()?.contains(['@', '?', '#']) {
        field.parsed_unseen(Endpoint::parse)
    } else {
        field.parsed(Endpoint::parse)
    }
}

fn read_auth(field: &Field<'_>) -> Option<Auth> {
    let fields = field.fields_unseen(&["bearer", "header", "value"])?;
    match (fields.optional("bearer"), fields.optional("header"), fields.optional("value")) {
        (Some(bearer), None, None) => bearer.secret().map(Auth::Bearer),
        (None, Some(header), Some(value)) => {
            let (name, value) = (header.parsed_unseen(header_name), value.secret());
            Some(Auth::Header { name: name?, value: value? })
        }
        _ => field.wrong("is either `bearer: REF` or `header: NAME` with `value: REF`"),
    }
}

/// A header field name (RFC 9110 section 5.1), in lower case.
fn header_name(text: &str) -> Result<Box<str>, &'static str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.len() > HEADER_NAME_BYTES_MAX || !text.bytes().all(is_token) {
        return Err("is no header name (not shown); write a name such as x-api-key");
    }
    let name = text.to_ascii_lowercase();
    if OWN_HEADERS.contains(&&*name) {
        return Err("is a header the proxy itself sets; a credential cannot go there");
    }
    Ok(name.into())
}

fn read_tls(field: &Field<'_>) -> Option<TlsFiles> {
    let fields = field.fields(&["ca", "cert", "key"])?;
    let path = |name| fields.maybe(name, |path| path.text().map(Box::from));
    let (ca, cert, key) = (path("ca"), path("cert"), path("key"));
    let client = match (cert?, key?) {
        (None, None) => Some(None),
        (Some(cert), Some(key)) => Some(Some((cert, key))),
        _ => field.wrong("`cert` and `key` come together; add the other or remove both"),
    };
    Some(TlsFiles { ca: ca?, client: client? })
}

fn read_limits(field: &Field<'_>) -> Option<Limits> {
    let fields = field.fields(&["max_parallel", "max_tokens_in_flight", "max_queued"])?;
    let parallel =
        fields.or("max_parallel", Limits::MAX_PARALLEL_DEFAULT, |field| field.whole(1..=PARALLEL_MAX));
    let tokens = fields.maybe("max_tokens_in_flight", |field| field.whole(1..=TOKENS_MAX));
    let queued = fields.or("max_queued", Limits::MAX_QUEUED_DEFAULT, |field| field.whole(0..=QUEUED_MAX));
    Some(Limits {
        max_parallel: parallel?,
        max_tokens_in_flight: tokens?.map(TokenCount),
        max_queued: queued?,
    })
}

fn read_concurrency(field: &Field<'_>) -> Option<Concurrency> {
    let table =
        [("aimd", Concurrency::Aimd), ("gradient", Concurrency::Gradient), ("fixed", Concurrency::Fixed)];
    field.one_of(&table)
}

fn read_models(field: &Field<'_>) -> Option<Vec<Model>> {
    let mut lines = BTreeMap::new();
    let mut models = Vec::new();
    let mut all_right = true;
    for item in field.list(1..=MODELS_MAX)? {
        let Some((model, name)) = read_model(&item) else {
            all_right = false;
            continue;
        };
        match lines.insert(model.name.clone(), name.mark().line) {
            Some(line) => {
                name.mistake(format!("model {} is given twice, first on line {line}; remove one", model.name))
            }
            None => models.push(model),
        }
    }
    all_right.then_some(models)
}

fn read_model<'r>(item: &Field<'r>) -> Option<(Model, Field<'r>)> {
    let fields = item.fields(MODEL_FIELDS)?;
    let name_field = fields.required("name");
    let name = name_field.as_ref().and_then(|name| name.parsed(Name::model));
    let upstream_name = fields.maybe("upstream_name", |field| field.parsed(Name::model));
    let context = fields.maybe("context_tokens", |field| field.whole(1..=TOKENS_MAX));
    let price = fields.or("price", Price::default(), read_price);
    let quality = fields.or("quality", QUALITY_DEFAULT, read_share);
    let latency = fields.maybe("latency_p95_ms", |field| field.whole(1..=LATENCY_MS_MAX));
    let status = fields.or("status", ModelStatus::default(), |field| {
        let all = [ModelStatus::Active, ModelStatus::Shadow, ModelStatus::Fallback];
        field.one_of(&all.map(|status| (status.as_str(), status)))
    });
    let grade = fields.or("safety_grade", Grade::default(), |field| field.one_of(&GRADES));
    let name = name?;
    let model = Model {
        upstream_name: upstream_name?.unwrap_or_else(|| name.clone()),
        name,
        context_tokens: context?.map(TokenCount),
        price: price?,
        quality: quality?,
        latency_p95_ms: latency?,
        status: status?,
        safety_grade: grade?,
    };
    Some((model, name_field?))
}

/// USD per million tokens are 10⁻⁶ USD a token, which is 10⁶ picodollars a token.
fn read_price(field: &Field<'_>) -> Option<Price> {
    let fields = field.fields(&["in", "out", "cached_in", "cache_write", "reasoning"])?;
    let usd = |field: &Field<'_>| field.decimal(PRICE_PLACES, PRICE_USD_MAX).map(Picodollars);
    let (input, output) = (fields.must("in", usd), fields.must("out", usd));
    let cached_input = fields.maybe("cached_in", usd);
    let cache_write = fields.maybe("cache_write", usd);
    let reasoning = fields.maybe("reasoning", usd);
    let (input, output) = (input?, output?);
    Some(Price {
        input,
        output,
        cached_input: cached_input?.unwrap_or(input),
        cache_write: cache_write?.unwrap_or(input),
        reasoning: reasoning?.unwrap_or(output),
    })
}

fn read_share(field: &Field<'_>) -> Option<Permille> {
    let permille = field.decimal(SHARE_PLACES, 1)?;
    u16::try_from(permille).ok().map(Permille)
}

const FIELDS: &[&str] = &[
    "kind",
    "endpoint",
    "allow_endpoints",
    "lease_ms",
    "auth",
    "tls",
    "limits",
    "concurrency",
    "models",
    "echo",
    "persona",
];

const MODEL_FIELDS: &[&str] = &[
    "name",
    "upstream_name",
    "context_tokens",
    "price",
    "quality",
    "latency_p95_ms",
    "status",
    "safety_grade",
];

/// Replicas of one model server.
const ENDPOINTS_MAX: usize = 64;
/// What existing adapters' health frames keep fresh.
const LEASE_DEFAULT: Duration = Duration::from_secs(300);
const LEASE_MS_MIN: u64 = 1_000;
const LEASE_MS_MAX: u64 = 86_400_000;

const GRADES: [(&str, Grade); 4] = [("A", Grade::A), ("B", Grade::B), ("C", Grade::C), ("D", Grade::D)];

/// What frames a request or routes it: a credential there would break every call, not only its own.
const OWN_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const INSTANT: EchoSpeed = EchoSpeed { first_token: Duration::ZERO, tokens_per_second: 0 };

const DEFAULT_LIMITS: Limits = Limits {
    max_parallel: Limits::MAX_PARALLEL_DEFAULT,
    max_tokens_in_flight: None,
    max_queued: Limits::MAX_QUEUED_DEFAULT,
};

/// In the middle, so that one not stated is neither preferred nor shunned.
const QUALITY_DEFAULT: Permille = Permille(500);

/// More models than any server offers; the data plane keeps a row for each.
const MODELS_MAX: usize = 1000;

/// One permit is one request in flight; a million is past every server and every port range.
const PARALLEL_MAX: u32 = 1_000_000;

/// A hundred thousand that wait are minutes of the fastest servers; each costs about a kilobyte.
const QUEUED_MAX: u32 = 100_000;

/// A million requests of a million tokens, with room in u64 for sums of a million such limits.
const TOKENS_MAX: u64 = 1_000_000_000_000;

/// A tenth of a day is no latency any more; ten minutes is the total timeout's default.
const ECHO_MS_MAX: u64 = 600_000;

/// A token each microsecond: past what a client can tell from all at once.
const ECHO_RATE_MAX: u32 = 1_000_000;

/// One day, as for every timeout.
const LATENCY_MS_MAX: u32 = 86_400_000;

const HEADER_NAME_BYTES_MAX: usize = 128;

/// Picodollars per token are exact to six decimals of USD per million tokens.
const PRICE_PLACES: u32 = 6;

/// A dollar a token: dearer is a typo, and 18 million such tokens still fit the u64 of one request.
const PRICE_USD_MAX: u64 = 1_000_000;

/// Thousandths.
const SHARE_PLACES: u32 = 3;
