//! Where a data plane is: `http://host:port` or `https://host:port`; `ws` and `wss` say the same.

use proto_core::model::Endpoint;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_address_is_the_same_place() {
        assert_eq!(parse("ws://a:1/b").unwrap(), parse("http://a:1/b").unwrap());
        assert_eq!(parse("wss://a").unwrap(), parse("https://a").unwrap());
        assert!(matches!(parse("ftp://a"), Err(Failure::Url(..))));
    }
}
