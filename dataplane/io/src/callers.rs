//! How often one caller may ask: by its key, or the name in its certificate, where a tenant has it; else by
//! its address. A key that nobody has says nothing of who asks: else whoever makes up keys would ask without
//! end.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use dataplane_core::admit::often::Rate;
use dataplane_core::fault::{Fault, Kind};
use dataplane_state::often::Often;
use proto_core::units::Moment;

/// The accounts of all callers.
#[derive(Debug)]
pub struct Callers {
    often: Often,
    /// Its secret is of this process: nobody can choose with whom to share an account.
    hasher: RandomState,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Asker<'a> {
    /// The hash of a key that a tenant has.
    Key(&'a [u8; 32]),
    /// The name in a verified certificate.
    Named(&'a str),
    /// Somebody there.
    At(IpAddr),
}

impl Callers {
    pub fn new(rate: Rate) -> Callers {
        Callers { often: Often::new(rate), hasher: RandomState::new() }
    }

    /// Counts a request, or says when the next one passes.
    pub fn on_request(&self, asker: Asker<'_>, now: Moment) -> Result<(), Fault> {
        self.often.take(self.hasher.hash_one(asker.as_one()), now).map_err(|wait| {
            let again_s = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
            Fault::client(Kind::TooOften { again_s })
        })
    }
}

impl Asker<'_> {
    fn as_one(self) -> Self {
        match self {
            Asker::At(address) => Asker::At(network(address)),
            other => other,
        }
    }
}

/// What one caller without a name has: whoever has an address of IPv6 has 2^64 of them.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => IpAddr::V6((address.to_bits() & NETWORK).into()),
        },
        address => address,
    }
}

/// The half that says which network.
const NETWORK: u128 = u128::MAX << 64;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1 << 40);

    fn at(address: &str) -> Asker<'static> {
        Asker::At(address.parse().unwrap())
    }

    #[test]
    fn the_burst_passes_and_one_more_is_told_when() {
        let callers = Callers::new(Rate::new(1, 3));
        let told: Vec<_> = (0..4).map(|_| callers.on_request(at("10.0.0.1"), NOW)).collect();
        assert_eq!(told[..3], [Ok(()), Ok(()), Ok(())]);
        let fault = told[3].unwrap_err();
        assert_eq!((fault.status(), fault.code(), fault.retry_after_s()), (429, "rate_limited", Some(1)));
    }

    #[test]
    fn keys_names_and_addresses_are_apart_and_a_network_of_ipv6_is_one_caller() {
        let callers = Callers::new(Rate::new(1, 1));
        let (key, other) = ([1; 32], [2; 32]);
        let apart = [Asker::Key(&key), Asker::Key(&other), Asker::Named("a"), Asker::Named("b")];
        let addresses = [at("10.0.0.1"), at("10.0.0.2"), at("2001:db8::1"), at("2001:db8:0:1::1")];
        for asker in apart.into_iter().chain(addresses) {
            assert_eq!(callers.on_request(asker, NOW), Ok(()), "{asker:?}");
        }
        for again in [Asker::Key(&key), at("2001:db8::2"), at("::ffff:10.0.0.1")] {
            assert!(callers.on_request(again, NOW).is_err(), "{again:?}");
        }
    }
}
