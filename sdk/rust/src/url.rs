//! Where a data plane is: `http://host:port`.

use proto_core::model::{Endpoint, Scheme};

use crate::Failure;

/// Parses the address of a data plane.
pub fn parse(url: &str) -> Result<Endpoint, Failure> {
    let endpoint = Endpoint::parse(url).map_err(|why| Failure::Url(url.into(), why))?;
    match endpoint.scheme {
        Scheme::Http => Ok(endpoint),
        Scheme::Https => Err(Failure::Url(url.into(), "this library speaks cleartext only; use http://")),
    }
}
