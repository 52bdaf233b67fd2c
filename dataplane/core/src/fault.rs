//! What went wrong, whose it is, and whether again: plain `Copy` values on the path. Text is made at the
//! edge, by the dialect that answers.

use crate::admit::window::Axis;

/// One thing that went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub side: Side,
    pub kind: Kind,
    pub retry: Retry,
}

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    Client,
    Proxy,
    Upstream,
}

/// Whether another attempt makes sense, and what it may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The answer would be the same.
    Never,
    /// The upstream certainly did no work: elsewhere, within the retry budget.
    Elsewhere,
    /// The upstream may have done work: elsewhere only where the route's fallback is `on-error`.
    ElsewhereAtCost,
}

/// Whose window or budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The run's (`x-atp-session`), or of this one request's own headers.
    Session,
    Tenant,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body is not the JSON it should be.
    Malformed(Malformed),
    /// A field has a value that cannot be served; names the field and what it should be.
    InvalidField(&'static str, &'static str),
    /// The body is over its limit in bytes.
    BodyTooLarge { limit: u64 },
    /// `/v1/ask`: the prompt is over its limit in characters.
    PromptTooLarge { limit: u32 },
    /// `/v1/ask`: what `context_refs` name is over its limit in bytes.
    ContextTooLarge { limit: u32 },
    /// The memory gateway cannot be reached, or did not answer in time.
    MemoryAway,
    /// The memory gateway does not take this caller, or takes it for another tenant.
    MemoryRefused,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body carries an encoding (`content-encoding`) that is not understood.
    BodyEncoded,
    /// No key was sent and one is needed.
    KeyMissing,
    /// The key sent belongs to nobody.
    KeyUnknown,
    /// No key was sent because none is needed, and somebody else's page may be asking.
    Foreign,
    /// It has come by here before, or by as many proxies as a request may.
    Loop,
    /// There is nothing at this path.
    PathUnknown,
    /// This path exists, for another method.
    MethodNotAllowed,
    /// No model, route or `adapter/model` of this name.
    ModelUnknown,
    /// Every candidate is over what `max_cost_usd` (or a session's envelope) allows.
    BudgetExceeded,
    /// The client went away.
    ClientGone,
    /// All permits of every candidate are taken, and the queue for them is full or not to be waited in.
    NoPermit,
    /// The queue for a permit is longer than the request's deadline.
    TooLate { wait_s: u32 },
    /// More at once than a window allows.
    WindowFull(Whose, Axis),
    /// More over time, or in all, than a budget allows; with when there is more, where that is known.
    BudgetSpent { whose: Whose, axis: Axis, again_s: Option<u32> },
    /// Its place was given to a request of better quality of service.
    Preempted,
    /// This data plane is too hard pressed to begin with it.
    Shed { again_s: u32 },
    /// More requests than this tenant or listener may have at once.
    Overloaded,
    /// More requests a second than this caller may make.
    TooOften { again_s: u32 },
    /// As many runs as a tenant may have open.
    RunsFull,
    /// This data plane is shutting down.
    Draining,
    /// No set of resources has arrived yet.
    NotReady,
    /// Every candidate's breaker is tripped.
    AllTripped,
    /// Nobody is attached as the adapter; whoever attaches gets the next call.
    Absent,
    /// The deadline passed before an answer began (`total`, or the caller's own).
    DeadlineExceeded,
    /// An invariant of ours broke; counted, never the client's fault.
    Internal,
    /// No connection: refused, unreachable, name not found.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// No TLS: certificate, version.
    Tls,
    /// The connection ended before a response head.
    Reset,
    /// HTTP/2 REFUSED_STREAM: the request was not taken.
    Refused,
    /// No head, or no first token, in time.
    FirstTokenTimeout,
    /// Nothing for the idle time within an answer.
    IdleTimeout,
    /// The answer ended before its end.
    Truncated,
    /// The answer is not what its dialect says.
    Garbled,
    /// The upstream reported an error inside its stream.
    StreamError,
    /// The client does not read; cut at the bound of its buffer.
    SlowClient,
    /// An HTTP status that is no success. 429, 503 and 529 carry when to come back.
    Status { code: u16, retry_after_s: Option<u32> },
    /// 401 or 403 from upstream: our own credentials, not the caller's.
    CredentialsRefused,
}

/// Why a body is refused, and the byte it was noticed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    pub what: MalformedWhat,
    /// Offset into the body, from 0.
    pub at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MalformedWhat {
    /// Not JSON: names what was expected.
    Syntax(&'static str),
    /// The body ends inside a value.
    Unfinished,
    /// Nested deeper than [`crate::dialect::scan::DEPTH_MAX`].
    TooDeep,
    /// A string is not UTF-8, or holds half a surrogate pair as an escape.
    NotUtf8,
    /// A key the proxy acts on stands twice.
    DuplicateKey(&'static str),
    /// A key the proxy acts on is missing.
    MissingKey(&'static str),
    /// A key the proxy acts on has a value of another type.
    WrongType(&'static str, &'static str),
    /// The top level is not an object.
    NotAnObject,
    /// Bytes after the top-level object.
    Trailing,
}

impl Fault {
    pub const fn client(kind: Kind) -> Fault {
        Fault { side: Side::Client, kind, retry: Retry::Never }
    }

    pub const fn proxy(kind: Kind) -> Fault {
        Fault { side: Side::Proxy, kind, retry: Retry::Never }
    }

    pub const fn upstream(kind: Kind, retry: Retry) -> Fault {
        Fault { side: Side::Upstream, kind, retry }
    }

    pub const fn malformed(what: MalformedWhat, at: u64) -> Fault {
        Fault::client(Kind::Malformed(Malformed { what, at }))
    }

    /// Of an upstream's answer head. `None`: a success, or a refusal that is the caller's own (400, 404, 413,
    /// 422 and the like), which passes through as the upstream wrote it.
    pub fn of_status(code: u16, retry_after_s: Option<u32>) -> Option<Fault> {
        let retry = match code {
            429 | 503 | 529 => Retry::Elsewhere,
            401 | 403 => return Some(Fault::upstream(Kind::CredentialsRefused, Retry::Elsewhere)),
            500..=599 => Retry::ElsewhereAtCost,
            300..=399 => Retry::Never,
            _ => return None,
        };
        Some(Fault::upstream(Kind::Status { code, retry_after_s }, retry))
    }

    /// The HTTP status of the answer, the same in every dialect.
    pub fn status(self) -> u16 {
        match self.kind {
            Kind::Malformed(_) | Kind::InvalidField(..) => 400,
            Kind::KeyMissing | Kind::KeyUnknown => 401,
            Kind::Foreign => 403,
            Kind::PathUnknown | Kind::ModelUnknown => 404,
            Kind::MethodNotAllowed => 405,
            Kind::BodyTimeout => 408,
            Kind::BodyTooLarge { .. } | Kind::PromptTooLarge { .. } | Kind::ContextTooLarge { .. } => 413,
            Kind::BodyEncoded => 415,
            Kind::BudgetExceeded
            | Kind::BudgetSpent { .. }
            | Kind::WindowFull(..)
            | Kind::NoPermit
            | Kind::TooLate { .. }
            | Kind::Overloaded
            | Kind::TooOften { .. }
            | Kind::RunsFull => 429,
            Kind::ClientGone => 499,
            Kind::Internal => 500,
            Kind::Loop => 508,
            Kind::Draining
            | Kind::NotReady
            | Kind::AllTripped
            | Kind::Absent
            | Kind::Preempted
            | Kind::MemoryAway
            | Kind::Shed { .. } => 503,
            Kind::DeadlineExceeded | Kind::ConnectTimeout | Kind::FirstTokenTimeout | Kind::IdleTimeout => {
                504
            }
            Kind::Status { code: code @ (429 | 503), .. } => code,
            Kind::Status { code: 529, .. } => 503,
            Kind::Status { code: 504, .. } => 504,
            Kind::Connect
            | Kind::Tls
            | Kind::Reset
            | Kind::Refused
            | Kind::Truncated
            | Kind::Garbled
            | Kind::StreamError
            | Kind::SlowClient
            | Kind::MemoryRefused
            | Kind::Status { .. }
            | Kind::CredentialsRefused => 502,
        }
    }

    /// The stable machine-readable code, the same in every dialect (`error.code` of OpenAI's shape, the label
    /// of `error_code_*` metrics).
    pub fn code(self) -> &'static str {
        match self.kind {
            Kind::Malformed(_) => "invalid_json",
            Kind::InvalidField(..) => "invalid_value",
            Kind::BodyTooLarge { .. } => "request_too_large",
            Kind::PromptTooLarge { .. } => "prompt_too_large",
            Kind::ContextTooLarge { .. } => "context_too_large",
            Kind::MemoryAway => "memory_unavailable",
            Kind::MemoryRefused => "memory_refused",
            Kind::BodyTimeout => "request_timeout",
            Kind::BodyEncoded => "unsupported_encoding",
            Kind::KeyMissing | Kind::KeyUnknown => "invalid_api_key",
            Kind::Foreign => "foreign_origin",
            Kind::Loop => "loop_detected",
            Kind::PathUnknown => "unknown_url",
            Kind::MethodNotAllowed => "method_not_allowed",
            Kind::ModelUnknown => "model_not_found",
            Kind::BudgetExceeded | Kind::BudgetSpent { .. } => "budget_exceeded",
            Kind::WindowFull(..) => "window_exceeded",
            Kind::TooLate { .. } => "queue_too_long",
            Kind::Preempted => "preempted",
            Kind::Shed { .. } => "overloaded",
            Kind::ClientGone => "request_cancelled",
            Kind::NoPermit => "upstream_at_capacity",
            Kind::Overloaded | Kind::TooOften { .. } | Kind::RunsFull => "rate_limited",
            Kind::Draining => "draining",
            Kind::NotReady => "not_ready",
            Kind::AllTripped | Kind::Absent => "no_models_available",
            Kind::DeadlineExceeded => "deadline_exceeded",
            Kind::Internal => "internal_error",
            Kind::Connect => "upstream_unreachable",
            Kind::ConnectTimeout => "upstream_connect_timeout",
            Kind::Tls => "upstream_tls_error",
            Kind::Reset => "upstream_reset",
            Kind::Refused => "upstream_refused",
            Kind::FirstTokenTimeout => "upstream_first_token_timeout",
            Kind::IdleTimeout => "upstream_idle_timeout",
            Kind::Truncated => "upstream_stream_truncated",
            Kind::Garbled => "upstream_malformed_answer",
            Kind::StreamError => "upstream_stream_error",
            Kind::SlowClient => "client_too_slow",
            Kind::Status { code: 429, .. } => "upstream_rate_limited",
            Kind::Status { code: 503 | 529, .. } => "upstream_overloaded",
            Kind::Status { .. } => "upstream_error",
            Kind::CredentialsRefused => "upstream_credentials_refused",
        }
    }

    /// Position of the code in [`CODES`].
    pub fn code_index(self) -> usize {
        let code = self.code();
        CODES.iter().position(|known| *known == code).expect("every code is listed")
    }

    /// Seconds a well-behaved caller waits before it comes back; `Some` for every 429 and 503.
    pub fn retry_after_s(self) -> Option<u32> {
        match self.kind {
            Kind::RunsFull => Some(RETRY_AFTER_S_RUNS),
            Kind::Status { retry_after_s: Some(seconds), .. }
            | Kind::BudgetSpent { again_s: Some(seconds), .. }
            | Kind::TooLate { wait_s: seconds }
            | Kind::TooOften { again_s: seconds }
            | Kind::Shed { again_s: seconds } => Some(seconds),
            _ => matches!(self.status(), 429 | 503).then_some(RETRY_AFTER_S_DEFAULT),
        }
    }

    /// Whether it says anything about the health of the upstream (feeds the breaker). A 429 is a limit, not
    /// an illness.
    pub fn is_upstream_failure(self) -> bool {
        let is_innocent = matches!(self.kind, Kind::Status { code: 429, .. } | Kind::SlowClient | Kind::Loop);
        self.side == Side::Upstream && !is_innocent
    }
}

/// Every [`Fault::code`], so that counts by code have a fixed size.
pub const CODES: [&str; 43] = [
    "invalid_json",
    "invalid_value",
    "request_too_large",
    "prompt_too_large",
    "context_too_large",
    "memory_unavailable",
    "memory_refused",
    "request_timeout",
    "unsupported_encoding",
    "invalid_api_key",
    "foreign_origin",
    "loop_detected",
    "unknown_url",
    "method_not_allowed",
    "model_not_found",
    "budget_exceeded",
    "window_exceeded",
    "request_cancelled",
    "upstream_at_capacity",
    "queue_too_long",
    "preempted",
    "overloaded",
    "rate_limited",
    "draining",
    "not_ready",
    "no_models_available",
    "deadline_exceeded",
    "internal_error",
    "upstream_unreachable",
    "upstream_connect_timeout",
    "upstream_tls_error",
    "upstream_reset",
    "upstream_refused",
    "upstream_first_token_timeout",
    "upstream_idle_timeout",
    "upstream_stream_truncated",
    "upstream_malformed_answer",
    "upstream_stream_error",
    "client_too_slow",
    "upstream_rate_limited",
    "upstream_overloaded",
    "upstream_error",
    "upstream_credentials_refused",
];

/// Runs without a request are looked for once a minute.
const RETRY_AFTER_S_RUNS: u32 = 60;
/// Long enough that a refused burst does not come back as one, short enough not to be felt as an outage.
const RETRY_AFTER_S_DEFAULT: u32 = 1;
