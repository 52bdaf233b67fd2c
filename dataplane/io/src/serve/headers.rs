//! Headers on their way through: what must not pass is taken out in place, what is ours is put in. One map
//! serves a request from its caller to its adapter.

use arrayvec::ArrayVec;
use bytes::Bytes;
use dataplane_core::table::TenantId;
use http::header::{
    ACCEPT_ENCODING, ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, SERVER,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::hops::Mark;
use crate::clock;
use crate::served::Hold;
use crate::worker::Worker;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// As Anthropic's clients know it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
pub const X_ATP_ESTIMATED: HeaderName = HeaderName::from_static("x-atp-estimated");
pub const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
pub const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub const X_ATP_MODEL: HeaderName = HeaderName::from_static("x-atp-model");
pub const X_ATP_ADAPTER: HeaderName = HeaderName::from_static("x-atp-adapter");
pub const X_ATP_ROUTE: HeaderName = HeaderName::from_static("x-atp-route");
/// Beside a 508: a data plane says so, not any server.
pub const X_ATP_LOOP: HeaderName = HeaderName::from_static("x-atp-loop");
pub const X_ATP_COST: HeaderName = HeaderName::from_static("x-atp-cost-usd-micros");
pub const X_ATP_OVERHEAD: HeaderName = HeaderName::from_static("x-atp-overhead-us");
pub const X_ATP_WINDOW: HeaderName = HeaderName::from_static("x-atp-window");
pub const X_ATP_QUEUE: HeaderName = HeaderName::from_static("x-atp-queue-ms");
pub const X_ATP_SESSION: HeaderName = HeaderName::from_static("x-atp-session");
pub const X_ATP_QOS: HeaderName = HeaderName::from_static("x-atp-qos");
pub const X_ATP_BUDGET_TOKENS: HeaderName = HeaderName::from_static("x-atp-budget-tokens");
pub const X_ATP_BUDGET_USD: HeaderName = HeaderName::from_static("x-atp-budget-usd-micros");
pub const X_ATP_PARALLEL: HeaderName = HeaderName::from_static("x-atp-max-parallel");
pub const X_ATP_DEADLINE: HeaderName = HeaderName::from_static("x-atp-deadline-ms");
pub const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
const X_LIMIT_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const X_REMAINING_REQUESTS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const X_LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const X_REMAINING_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const X_RESET_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");
const OURS: [&str; 3] = ["x-atp-", "x-ratelimit-", "anthropic-ratelimit-"];
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHORIZATION: HeaderName = HeaderName::from_static("proxy-authorization");
const PROXY_AUTHENTICATE: HeaderName = HeaderName::from_static("proxy-authenticate");
const API_KEY: HeaderName = HeaderName::from_static("api-key");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// Hop by hop (RFC 9110 §7.6.1), both ways.
const HOP_BY_HOP: [HeaderName; 8] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
/// The caller's own: credentials, cookies, and what is set anew for the adapter.
const CALLERS: [HeaderName; 8] =
    [HOST, EXPECT, COOKIE, AUTHORIZATION, PROXY_AUTHORIZATION, X_API_KEY, API_KEY, X_GOOG_API_KEY];
/// The adapter's own.
const ADAPTERS: [HeaderName; 6] = [CONTENT_LENGTH, SET_COOKIE, SERVER, ALT_SVC, X_REQUEST_ID, REQUEST_ID];

/// A request's headers for an adapter, in place.
pub fn for_upstream(headers: &mut HeaderMap, request_id: &HeaderValue, mark: &Mark) {
    strip_hop_by_hop(headers);
    // `content-length` stays: it is set anew where the splice changed it.
    CALLERS.iter().for_each(|name| drop(headers.remove(name)));
    strip_ours(headers);
    // Answers are read on the way, so they must come as they are.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(X_REQUEST_ID, request_id.clone());
    mark.put(headers);
}

/// An answer's headers for the caller, in place.
pub fn for_caller(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    ADAPTERS.iter().for_each(|name| drop(headers.remove(name)));
    strip_ours(headers);
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // What `connection` names is hop by hop too.
    let named: ArrayVec<HeaderValue, 8> = headers.get_all(CONNECTION).iter().take(8).cloned().collect();
    for named in named {
        for name in named.as_bytes().split(|byte| *byte == b',') {
            if let Ok(name) = HeaderName::from_bytes(name.trim_ascii()) {
                headers.remove(name);
            }
        }
    }
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// `x-atp-*` is between the caller and this proxy. `x-ratelimit-*` and the like of an adapter are those of a
/// credential that all tenants share: what it says is heeded here and told to nobody.
fn strip_ours(headers: &mut HeaderMap) {
    loop {
        let is_ours = |name: &&HeaderName| OURS.iter().any(|prefix| name.as_str().starts_with(prefix));
        let ours = headers.keys().filter(is_ours);
        let found: ArrayVec<HeaderName, 16> = ours.take(16).cloned().collect();
        found.iter().for_each(|name| drop(headers.remove(name)));
        if found.len() < found.capacity() {
            return;
        }
    }
}

/// What is left of a tenant's parallel requests and tokens a minute, by the names that OpenAI's clients know.
pub fn put_limits(headers: &mut HeaderMap, held: &Hold, tenant: TenantId) {
    let (row, cell) = (held.table.tenant(tenant), &held.tenants[tenant.0 as usize]);
    if let Some(most) = row.window.calls {
        let left = most.saturating_sub(cell.window.level().calls);
        headers.insert(X_LIMIT_REQUESTS, number(most.into()));
        headers.insert(X_REMAINING_REQUESTS, number(left.into()));
    }
    if let Some(rate) = row.budget.as_ref().and_then(|budget| budget.tokens_per_minute) {
        let (left, even) = cell.budget.tokens.left(clock::now(), rate.0);
        headers.insert(X_LIMIT_TOKENS, number(rate.0));
        headers.insert(X_REMAINING_TOKENS, number(left));
        headers.insert(X_RESET_TOKENS, shared(format!("{}ms", even.as_millis())));
    }
}

/// The caller's `x-request-id` where it is one, else a new one.
pub fn request_id(headers: &HeaderMap, worker: &Worker) -> HeaderValue {
    let sent = headers.get(X_REQUEST_ID).filter(|id| is_plain(id.as_bytes()));
    sent.cloned().unwrap_or_else(|| {
        let mut text = [0; 32];
        let bits = u128::from(worker.random()) << 64 | u128::from(worker.random());
        for (at, digit) in text.iter_mut().enumerate() {
            *digit = HEX[(bits >> (at * 4)) as usize & 15];
        }
        shared(text)
    })
}

/// A whole number as a header's value; up to three digits without an allocation.
pub fn number(value: u64) -> HeaderValue {
    if let Ok(small @ 0..1000) = usize::try_from(value) {
        let digits = &SMALL[small * 3..small * 3 + 3];
        let from = if small < 10 { 2 } else { usize::from(small < 100) };
        let text = std::str::from_utf8(&digits[from..]).expect("digits are ASCII");
        return HeaderValue::from_static(text);
    }
    let mut digits = ArrayVec::<u8, 20>::new();
    let mut rest = value;
    loop {
        digits.insert(0, b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            return shared(digits);
        }
    }
}

/// One allocation, and none for its clones.
fn shared(text: impl AsRef<[u8]> + Send + 'static) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from_owner(text)).expect("digits are a header value")
}

/// 1 to 128 visible characters: what may go into a log and a header as it stands.
fn is_plain(text: &[u8]) -> bool {
    (1..=128).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

/// `000001002…999`.
static SMALL: [u8; 3000] = {
    let mut digits = [b'0'; 3000];
    let mut value = 0;
    while value < 1000 {
        digits[value * 3] += (value / 100) as u8;
        digits[value * 3 + 1] += (value / 10 % 10) as u8;
        digits[value * 3 + 2] += (value % 10) as u8;
        value += 1;
    }
    digits
};
const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn keys_cookies_ours_and_hop_by_hop_headers_never_go_upstream() {
        let mut headers = map(&[
            ("authorization", "Bearer secret"),
            ("x-api-key", "secret"),
            ("api-key", "secret"),
            ("cookie", "secret"),
            ("x-atp-session", "s"),
            ("x-atp-qos", "gold"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("host", "proxy"),
            ("traceparent", "00-1-2-3"),
            ("x-stainless-lang", "python"),
            ("accept-encoding", "gzip"),
        ]);
        for_upstream(&mut headers, &HeaderValue::from_static("id"), &Mark::new());
        assert!(headers.remove(http::header::VIA).is_some());
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        let wanted = [
            ("accept-encoding", "identity"),
            ("traceparent", "00-1-2-3"),
            ("x-request-id", "id"),
            ("x-stainless-lang", "python"),
        ];
        assert_eq!(left, wanted);
    }

    #[test]
    fn more_of_ours_than_fit_one_sweep_are_all_taken_out() {
        let mut headers = HeaderMap::new();
        for at in 0..60 {
            headers
                .insert(HeaderName::try_from(format!("x-atp-{at}")).unwrap(), HeaderValue::from_static("1"));
        }
        for_caller(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for value in (0..2000).chain([u64::MAX]) {
            assert_eq!(number(value), value.to_string());
        }
    }
}
