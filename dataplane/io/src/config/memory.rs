//! Where the memory gateway is, if there is one.

use proto_core::model::{Discovery, Endpoint, Scheme};
use proto_core::parse::environment::{Row, Variable, flag};
use proto_core::parse::{Fields, Mistake};

/// How memory is wired in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// `None`: there is none, and what requests want of it has no effect.
    pub gateway: Option<Endpoint>,
    /// `GET /mem/put` writes.
    pub has_demonstration: bool,
}

impl Memory {
    /// `memory: { url: … }`.
    pub fn file(&mut self, fields: &Fields<'_>) {
        let memory = fields.optional("memory").and_then(|field| field.fields(&["url"]));
        let url = memory.as_ref().and_then(|memory| memory.required("url"));
        if let Some(endpoint) = url.and_then(|url| url.parsed(endpoint)) {
            self.gateway = Some(endpoint);
        }
    }

    /// Where it is; wired in without an address it is where gateways listen by default.
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.gateway.clone().or_else(|| self.has_demonstration.then(local))
    }

    /// Keys of callers and what they remember go there.
    pub fn check_cleartext(&self, allowed: bool, mistakes: &mut Vec<Mistake>) {
        let Some(gateway) = &self.gateway else { return };
        let address = gateway.host.parse::<std::net::IpAddr>();
        let is_here = &*gateway.host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        if gateway.scheme == Scheme::Http && !is_here && !allowed {
            let what = format!(
                "http://{} is not this machine, and keys would go there in cleartext; use https://, or set \
                 `listen.cleartext: allowed` (ATP_CLEARTEXT=allowed)",
                gateway.authority()
            );
            mistakes.push(Mistake { place: None, path: "memory.url".into(), what });
        }
    }
}

/// Where the gateway listens by default.
fn local() -> Endpoint {
    endpoint("http://127.0.0.1:8080").expect("it is an address")
}

fn endpoint(url: &str) -> Result<Endpoint, &'static str> {
    let endpoint = Endpoint::parse(url)?;
    match endpoint.discovery {
        Discovery::None => Ok(endpoint),
        _ => Err("starts with neither http:// nor https://, as a memory gateway's address does"),
    }
}

/// Over the file.
pub(super) const VARIABLES: &[Variable<Memory>] = &[
    Variable {
        row: Row::new("MEMORY_GATEWAY_URL", "", "the memory gateway: memory.url"),
        take: |memory, text| {
            memory.gateway = Some(endpoint(text)?);
            Ok(())
        },
    },
    Variable {
        row: Row::new("FEATURE_WIRE_MEMORY", "0", "whether GET /mem/put writes to the memory gateway"),
        take: |memory, text| flag(text).map(|is_on| memory.has_demonstration = is_on),
    },
];

#[cfg(test)]
mod tests {
    use proto_core::parse::environment::take_all;

    use super::*;

    const URL: &str = "MEMORY_GATEWAY_URL";
    const FEATURE: &str = "FEATURE_WIRE_MEMORY";

    fn read(env: &[(&str, &str)], allowed: bool) -> Result<Memory, Vec<String>> {
        let mut memory = Memory::default();
        let look =
            |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        let mut mistakes = take_all(VARIABLES, &look, &mut memory);
        memory.check_cleartext(allowed, &mut mistakes);
        let told = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>();
        if told.is_empty() { Ok(memory) } else { Err(told) }
    }

    #[test]
    fn unset_there_is_none_and_the_feature_alone_means_this_machine() {
        assert_eq!(read(&[], false), Ok(Memory::default()));
        let memory = read(&[(FEATURE, "true")], false).unwrap();
        assert_eq!((memory.endpoint(), memory.has_demonstration), (Some(local()), true));
        let memory = read(&[(URL, "http://localhost:9/x")], false).unwrap();
        assert_eq!(memory.gateway.map(|gateway| gateway.port), Some(9));
        assert!(!memory.has_demonstration, "what writes is asked for by name");
    }

    #[test]
    fn cleartext_beyond_this_machine_is_asked_for() {
        let there = [(URL, "http://memory-gateway:8080")];
        assert!(read(&there, false).unwrap_err()[0].contains("ATP_CLEARTEXT=allowed"));
        assert!(read(&there, true).is_ok());
        assert!(read(&[(URL, "https://memory-gateway")], false).is_ok());
        assert!(read(&[(URL, "memory-gateway"), (FEATURE, "maybe")], false).unwrap_err().len() == 2);
    }
}
