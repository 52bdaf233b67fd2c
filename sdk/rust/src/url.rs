//! Where a data plane is: `http://host:port` or `https://host:port`; `ws` and `wss` say the same.

use proto_core::model::{Endpoint, Scheme};

use crate::Failure;

/// Parses the address of a data plane.
pub fn parse(url: &str) -> Result<Endpoint, Failure> {
    let spelled = match url.split_once("://") {
        Some(("ws", rest)) => format!("http://{rest}"),
        Some(("wss", rest)) => format!("https://{rest}"),
        _ => url.to_owned(),
    };
    Endpoint::parse(&spelled).map_err(|why| Failure::Url(url.into(), why))
}

/// The same, for what travels in cleartext only.
pub fn parse_cleartext(url: &str) -> Result<Endpoint, Failure> {
    let endpoint = parse(url)?;
    match endpoint.scheme {
        Scheme::Http => Ok(endpoint),
        Scheme::Https => {
            Err(Failure::Url(url.into(), "over plain HTTP this library speaks cleartext only; use http://"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_address_is_the_same_place() {
        assert_eq!(parse("ws://a:1/b").unwrap(), parse("http://a:1/b").unwrap());
        assert_eq!(parse("wss://a").unwrap(), parse("https://a").unwrap());
        assert!(matches!(parse("ftp://a"), Err(Failure::Url(..))));
        assert!(matches!(parse_cleartext("https://a"), Err(Failure::Url(..))));
    }
}
