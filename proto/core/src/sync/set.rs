//! A whole set as it travels: bodies in order, its generation and its hash.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{BODY_BYTES_MAX, Generation, Held, RESOURCES_MAX, SET_BYTES_MAX, SetHash, wire};

/// What the control plane offers every data plane. Within the bounds of this module, by construction.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedSet {
    generation: Generation,
    resources: Vec<wire::ResourceBody>,
    hash: SetHash,
    bytes: usize,
}

/// Why resources are too much for one set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    #[error("{count} resources are more than a set may have ({RESOURCES_MAX})")]
    Count { count: usize },
    #[error("{kind} {name} has {bytes} bytes as JSON, more than a resource may have ({BODY_BYTES_MAX})")]
    Body { kind: String, name: String, bytes: usize },
    #[error("the resources have {bytes} bytes together, more than a set may have ({SET_BYTES_MAX})")]
    Total { bytes: usize },
}

impl PublishedSet {
    /// Takes resources in the order given and hashes them.
    pub fn new(generation: Generation, resources: Vec<wire::ResourceBody>) -> Result<PublishedSet, TooLarge> {
        let bytes = check_bounds(&resources)?;
        let hash = hash(&resources);
        Ok(PublishedSet { generation, resources, hash, bytes })
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    pub fn resources(&self) -> &[wire::ResourceBody] {
        &self.resources
    }

    /// On the wire, at most.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a data plane that serves this set holds.
    pub fn held(&self) -> Held {
        Held { generation: self.generation, hash: self.hash }
    }

    /// As one message; bodies are shared, not copied.
    pub(super) fn push(&self, nonce: u64) -> wire::Push {
        wire::Push {
            nonce,
            generation: Some(self.generation.into()),
            resources: self.resources.clone(),
            hash: Bytes::copy_from_slice(&self.hash),
        }
    }
}

/// SHA-256 over kind, name and version of every resource, in the order given. Each field stands behind its
/// length as a 4-byte big-endian number, so that no two sets read alike; the version is 8 bytes, big-endian.
pub fn hash(resources: &[wire::ResourceBody]) -> SetHash {
    let mut sha = Sha256::new();
    let mut field = |bytes: &[u8]| {
        // A name has 128 bytes at most and a longer one is refused elsewhere: saturation cannot hide a
        // change.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        sha.update(length.to_be_bytes());
        sha.update(bytes);
    };
    for resource in resources {
        field(resource.kind.as_bytes());
        field(resource.name.as_bytes());
        field(&resource.version.to_be_bytes());
    }
    sha.finalize().into()
}

/// The version of a body: the first 8 bytes of its SHA-256. It depends on nothing but the content, so the
/// hash of a set covers its bodies too, and a store put back from a copy cannot give one version two
/// meanings. Data planes compare versions, they never compute them.
pub fn version_of(json: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::digest(json).into();
    u64::from_be_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}

/// The bytes of resources on the wire at most, where they fit into one set.
pub(super) fn check_bounds(resources: &[wire::ResourceBody]) -> Result<usize, TooLarge> {
    if resources.len() > RESOURCES_MAX {
        return Err(TooLarge::Count { count: resources.len() });
    }
    let mut total = 0;
    for resource in resources {
        let bytes = resource.json.len();
        if bytes > BODY_BYTES_MAX {
            let (kind, name) = (resource.kind.clone(), resource.name.clone());
            return Err(TooLarge::Body { kind, name, bytes });
        }
        total += resource.kind.len() + resource.name.len() + bytes + RESOURCE_FRAME_BYTES;
    }
    if total > SET_BYTES_MAX { Err(TooLarge::Total { bytes: total }) } else { Ok(total) }
}

/// What protobuf adds to a resource at most: tags and lengths of it and its four fields, and the version's
/// varint.
const RESOURCE_FRAME_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::kit::body;
    use super::*;

    const GENERATION: Generation = Generation { epoch: 1, number: 1 };

    #[test]
    fn the_hash_depends_on_kind_name_version_and_order() {
        let set = [body("Route", "a", 1), body("Route", "b", 1)];
        let reference = hash(&set);
        assert_eq!(hash(&set.clone()), reference);
        assert_ne!(hash(&[set[1].clone(), set[0].clone()]), reference, "order");
        assert_ne!(hash(&[body("Route", "a", 2), set[1].clone()]), reference, "version");
        assert_ne!(hash(&[body("Tenant", "a", 1), set[1].clone()]), reference, "kind");
        assert_ne!(hash(&set[..1]), reference, "one missing");
    }

    #[test]
    fn a_field_cannot_flow_into_the_next() {
        assert_ne!(hash(&[body("Route", "ab", 1)]), hash(&[body("Routea", "b", 1)]));
    }

    /// Computed with Python: `hashlib.sha256` over the fields as documented.
    #[test]
    fn the_hash_is_the_one_documented_in_the_protocol() {
        let hex: String = hash(&[body("Route", "a", 7)]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "f4e4cd23bd10e087b3a8aa1fdcfc813b02c11aecc3694c618de2f75e27aa61e1");
    }

    #[test]
    fn the_version_is_a_function_of_the_body() {
        assert_eq!(version_of(b"{}"), version_of(b"{}"));
        assert_ne!(version_of(b"{}"), version_of(b"{ }"));
    }

    #[test]
    fn as_many_resources_as_allowed_fit_and_one_more_does_not() {
        let full = vec![body("Route", "a", 1); RESOURCES_MAX];
        assert!(PublishedSet::new(GENERATION, full.clone()).is_ok());
        let over = [full, vec![body("Route", "b", 1)]].concat();
        let refused = PublishedSet::new(GENERATION, over);
        assert_eq!(refused, Err(TooLarge::Count { count: RESOURCES_MAX + 1 }));
    }

    #[test]
    fn a_body_of_the_largest_size_fits_and_one_byte_more_does_not() {
        let sized = |bytes| wire::ResourceBody { json: vec![b' '; bytes].into(), ..body("Route", "a", 1) };
        assert!(PublishedSet::new(GENERATION, vec![sized(BODY_BYTES_MAX)]).is_ok());
        let refused = PublishedSet::new(GENERATION, vec![sized(BODY_BYTES_MAX + 1)]);
        assert!(matches!(refused, Err(TooLarge::Body { bytes, .. }) if bytes == BODY_BYTES_MAX + 1));
    }

    #[test]
    fn a_set_of_the_largest_size_fits_and_one_byte_more_does_not() {
        let whole = wire::ResourceBody { json: vec![b' '; BODY_BYTES_MAX].into(), ..body("Route", "a", 1) };
        let each = BODY_BYTES_MAX + "Routea".len() + RESOURCE_FRAME_BYTES;
        let (full, rest) = (SET_BYTES_MAX / each, SET_BYTES_MAX % each);
        let last = |more| {
            let json = vec![b' '; rest - "Routea".len() - RESOURCE_FRAME_BYTES + more].into();
            [vec![whole.clone(); full], vec![wire::ResourceBody { json, ..body("Route", "a", 1) }]].concat()
        };
        assert!(PublishedSet::new(GENERATION, last(0)).is_ok());
        assert_eq!(PublishedSet::new(GENERATION, last(1)), Err(TooLarge::Total { bytes: SET_BYTES_MAX + 1 }));
    }

    #[test]
    fn the_largest_set_encodes_within_one_message() {
        use prost::Message;
        let resource = wire::ResourceBody { version: u64::MAX, ..body(&"K".repeat(16), &"n".repeat(128), 1) };
        let count = SET_BYTES_MAX / (16 + 128 + resource.json.len() + RESOURCE_FRAME_BYTES);
        let set = PublishedSet::new(GENERATION, vec![resource; count.min(RESOURCES_MAX)]).unwrap();
        let encoded = set.push(u64::MAX).encoded_len();
        assert!(encoded <= super::super::MESSAGE_BYTES_MAX);
        assert!(encoded <= set.bytes() + super::super::MESSAGE_BYTES_MAX - SET_BYTES_MAX);
    }
}
