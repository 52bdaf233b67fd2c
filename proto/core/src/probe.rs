//! Asking a server whether it is well, as one request and one word of its answer: what images without a shell
//! check themselves with.

/// A page that says by its status whether a server is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Host and port, as a socket is told them.
    pub address: String,
    path: String,
}

impl Probe {
    /// `http://HOST[:PORT][/PATH]`. Nothing behind TLS: a probe has no roots to judge certificates by, and
    /// asks its own machine.
    pub fn parse(url: &str) -> Result<Probe, &'static str> {
        const WRITTEN: &str = "a probe's address is written http://127.0.0.1:7443/readyz";
        let rest = url.strip_prefix("http://").ok_or(WRITTEN)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || authority.contains('@') || !is_plain(rest) || url.len() > URL_BYTES_MAX {
            return Err(WRITTEN);
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && !port.contains(']') && !port.is_empty());
        let address = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Probe { address, path: path.to_owned() })
    }

    /// What is written: one request whose answer ends with its connection.
    pub fn request(&self) -> String {
        let Probe { address, path } = self;
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")
    }

    /// What an answer says; its first line is enough.
    pub fn judge(&self, answer: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(answer);
        let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        match status.and_then(|status| status.parse::<u16>().ok()) {
            Some(200..=299) => Ok(()),
            Some(status) => {
                let said = text.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
                Err(format!("{}{} answers {status}: {said}", self.address, self.path))
            }
            None => Err(format!("{} does not speak HTTP/1.1", self.address)),
        }
    }
}

/// Of an address.
pub const URL_BYTES_MAX: usize = 1024;
/// Of an answer that is read: its first line, its headers and the reason in its body.
pub const ANSWER_BYTES_MAX: u64 = 4096;
/// Of the whole, in milliseconds: less than orchestrators give a check.
pub const PROBE_MS: u64 = 3000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        for (url, address, path) in [
            ("http://127.0.0.1:7443/readyz", "127.0.0.1:7443", "/readyz"),
            ("http://[::1]:7441/healthz/live", "[::1]:7441", "/healthz/live"),
            ("http://memory/healthz?deep=1", "memory:80", "/healthz?deep=1"),
            ("http://[::1]", "[::1]:80", "/"),
        ] {
            let probe = Probe::parse(url).unwrap();
            assert_eq!((&*probe.address, &*probe.path), (address, path), "{url}");
            assert!(probe.request().starts_with(&format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n")));
        }
        let long = |bytes: usize| format!("http://a/{}", "x".repeat(bytes - "http://a/".len()));
        assert!(Probe::parse(&long(URL_BYTES_MAX)).is_ok());
        let wrong = ["https://a/", "a:1/", "http://", "http://a b/", "http://a/\r\nx: y", "http://k@a/"];
        for url in wrong.map(str::to_owned).into_iter().chain([long(URL_BYTES_MAX + 1)]) {
            assert!(Probe::parse(&url).is_err(), "{url}");
        }
    }

    #[test]
    fn only_a_status_of_success_is_well() {
        let probe = Probe::parse("http://a:1/readyz").unwrap();
        assert_eq!(probe.judge(b"HTTP/1.1 200 OK\r\n\r\n{}"), Ok(()));
        assert_eq!(probe.judge(b"HTTP/1.0 204 No Content\r\n"), Ok(()));
        let told = probe.judge(b"HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nno set yet\n").unwrap_err();
        assert_eq!(told, "a:1/readyz answers 503: no set yet");
        for silent in [&b""[..], b"HTTP/1.1 2", b"\x16\x03\x01", b"HTTP/1.1 abc\r\n"] {
            assert!(probe.judge(silent).unwrap_err().contains("does not speak"), "{silent:?}");
        }
    }
}
