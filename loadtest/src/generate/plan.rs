//! What a run shall do, checked before anything is sent.
//!
//! What it is for: a run whose every bound is known. It never resolves to a machine other than this one
//! unless told that a remote one is meant.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Uri};

use super::schedule::Arrivals;

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    pub ask: Vec<Bytes>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub stream: bool,
    pub load: Load,
    /// Length of the measured phase; `None` leaves it to `requests`.
    pub duration: Option<Duration>,
    /// Requests of the measured phase; `None` leaves it to `duration`.
    pub requests: Option<u64>,
    /// Load of the same kind before the measured phase; 0 is none.
    pub warmup: Duration,
    /// Deadline of each request, from its sending.
    pub timeout: Duration,
    /// Requests in flight at most in open loop; further arrivals fail as dropped.
    pub in_flight_max: usize,
    pub seed: u64,
    /// Processes whose CPU time is measured.
    pub pids: Vec<u32>,
}

/// How requests are started.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// By a schedule, whether or not earlier ones have ended.
    Open { rate: f64, arrivals: Arrivals },
    /// So many at a time, the next when one has ended.
    Closed { connections: usize },
}

/// Where requests go.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// Value of the header `host`.
    pub authority: HeaderValue,
    pub path: Uri,
}

impl Target {
    /// Reads a URL like `http://127.0.0.1:7443` and a path. Other machines need `allow_remote`.
    pub fn new(url: &str, path: &str, allow_remote: bool) -> Result<Target, String> {
        let named = |why: &str| format!("--url {url}: {why}; give http://ADDRESS:PORT");
        let authority = url.strip_prefix("http://").ok_or_else(|| named("only http:// is spoken"))?;
        let authority = authority.trim_end_matches('/');
        if authority.contains('/') {
            return Err(named("a path belongs into --path"));
        }
        let port = if authority.rsplit(']').next().unwrap_or_default().contains(':') { "" } else { ":80" };
        let found: Vec<SocketAddr> =
            format!("{authority}{port}").to_socket_addrs().map_err(|e| named(&e.to_string()))?.collect();
        let address = *found.first().ok_or_else(|| named("the name has no address"))?;
        if !allow_remote && !found.iter().all(|address| address.ip().is_loopback()) {
            return Err(format!(
                "--url {url}: {address} is not this machine; use --allow-remote if it is yours to load"
            ));
        }
        let path = path
            .parse::<Uri>()
            .ok()
            .filter(|path| path.path().starts_with('/') && path.authority().is_none());
        Ok(Target {
            address,
            authority: HeaderValue::from_str(authority).map_err(|e| named(&e.to_string()))?,
            path: path.ok_or("--path: not a path; it starts with / and holds no spaces")?,
        })
    }
}

/// What the body of a request asks for.
#[derive(Clone, Debug)]
pub struct AskFor<'a> {
    pub path: &'a str,
    pub model: &'a str,
    pub stream: bool,
    /// `max_tokens`; 0 leaves it out.
    pub tokens: u32,
    /// Bytes of the prompt's text.
    pub prompt_bytes: usize,
}

impl AskFor<'_> {
    /// The body in the form that the path's endpoint expects.
    pub fn body(&self) -> Bytes {
        let prompt: String =
            "All work and no play makes a load. ".chars().cycle().take(self.prompt_bytes).collect();
        let mut body = serde_json::json!({ "model": self.model });
        match self.path.rsplit('/').next() {
            Some("embeddings") => body["input"] = prompt.into(),
            Some("completions") if !self.path.contains("chat/") => body["prompt"] = prompt.into(),
            _ => body["messages"] = serde_json::json!([{ "role": "user", "content": prompt }]),
        }
        if self.stream {
            body["stream"] = true.into();
        }
        if self.tokens > 0 {
            body["max_tokens"] = self.tokens.into();
        }
        body.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_a_target_unless_a_remote_one_is_meant() {
        for url in ["http://127.0.0.1:7443", "http://[::1]:7443/", "http://127.9.9.9"] {
            assert!(Target::new(url, "/v1", false).is_ok(), "{url}");
        }
        let refused = Target::new("http://192.0.2.1:80", "/v1", false).unwrap_err();
        assert!(refused.contains("192.0.2.1:80") && refused.contains("--allow-remote"));
        assert!(Target::new("http://192.0.2.1:80", "/v1", true).is_ok());
    }

    #[test]
    fn a_target_that_cannot_be_is_refused_with_the_flag_named() {
        for (url, path) in
            [("https://127.0.0.1", "/"), ("http://127.0.0.1/v1", "/"), ("http://127.0.0.1:x", "/")]
        {
            assert!(Target::new(url, path, false).unwrap_err().starts_with("--url"), "{url}");
        }
        assert!(Target::new("http://127.0.0.1", "v1", false).unwrap_err().starts_with("--path"));
    }

    #[test]
    fn a_body_has_the_form_of_its_endpoint_and_the_size_asked_for() {
        let ask =
            AskFor { path: "/v1/chat/completions", model: "m", stream: true, tokens: 9, prompt_bytes: 100 };
        let body: serde_json::Value = serde_json::from_slice(&ask.body()).unwrap();
        assert_eq!(body["messages"][0]["content"].as_str().unwrap().len(), 100);
        assert_eq!((&body["stream"], &body["max_tokens"]), (&true.into(), &9.into()));
        let body = |path| AskFor { path, stream: false, tokens: 0, ..ask.clone() }.body();
        assert!(body("/v1/completions").starts_with(br#"{"model":"m","prompt":"#));
        assert!(body("/v1/embeddings").starts_with(br#"{"input":"#));
    }
}
