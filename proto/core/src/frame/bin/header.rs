//! The 64 bytes every binary frame begins with. Numbers are big-endian.

use super::super::crc::crc32c;
use super::super::flags::FlagSet;
use super::super::malformed::{Malformed, What};
use super::super::model::Window;
use super::super::{FRAME_BYTES_MAX, NAME_BYTES_MAX};

/// What has a fixed place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub qos: QosByte,
    pub flags: FlagSet,
    pub ttl: u8,
    pub msg_seq: u64,
    pub frag_seq: u32,
    pub window: Window,
    pub(super) lengths: Lengths,
    /// CRC-32C over all sections.
    pub(super) sections_crc: u32,
}

/// Quality of service as a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QosByte {
    Bronze,
    Silver,
    Gold,
    /// The word is in `ext`; served as bronze.
    Other,
}

/// Bytes of each section, in the order they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lengths {
    pub session_id: u16,
    pub stream_id: u16,
    pub kind: u8,
    pub meta: u32,
    pub ext: u32,
    pub content: u32,
}

impl Lengths {
    pub fn total(self) -> u64 {
        u64::from(self.session_id)
            + u64::from(self.stream_id)
            + u64::from(self.kind)
            + u64::from(self.meta)
            + u64::from(self.ext)
            + u64::from(self.content)
    }
}

impl Header {
    /// The header at the start of `message`, whose length must be what the header says.
    pub(super) fn read(message: &[u8]) -> Result<Header, Malformed> {
        if message.len() > FRAME_BYTES_MAX {
            return Err(Malformed::field(What::FrameBytes, ""));
        }
        let bytes: &[u8; HEADER_BYTES] =
            message.first_chunk().ok_or(Malformed::at(What::Truncated, message.len()))?;
        if bytes[..2] != MAGIC {
            return Err(Malformed::at(What::Syntax, 0));
        }
        if bytes[VERSION_AT] != LAYOUT_VERSION {
            return Err(Malformed::at(What::Version, VERSION_AT));
        }
        if crc32c(&[&bytes[..CRC_AT]]) != u32_at(bytes, CRC_AT) {
            return Err(Malformed::at(What::Checksum, CRC_AT));
        }
        let header = Header {
            qos: QosByte::of(bytes[3]).ok_or(Malformed::field(What::Range, "qos"))?,
            flags: FlagSet::of_bits(u16_at(bytes, 4)).ok_or(Malformed::field(What::Range, "flags"))?,
            ttl: bytes[6],
            msg_seq: u64_at(bytes, 8),
            frag_seq: u32_at(bytes, 16),
            window: Window {
                max_parallel: u32_at(bytes, 20),
                max_tokens: u64_at(bytes, 24),
                max_usd_micros: u64_at(bytes, 32),
            },
            lengths: Lengths {
                session_id: u16_at(bytes, 40),
                stream_id: u16_at(bytes, 42),
                kind: bytes[7],
                meta: u32_at(bytes, 44),
                ext: u32_at(bytes, 48),
                content: u32_at(bytes, 52),
            },
            sections_crc: u32_at(bytes, SECTIONS_CRC_AT),
        };
        let ids = [header.lengths.session_id, header.lengths.stream_id];
        if ids.iter().any(|length| usize::from(*length) > NAME_BYTES_MAX) {
            return Err(Malformed::field(What::TooLong, "session_id, stream_id"));
        }
        let named = header.lengths.total() + HEADER_BYTES as u64;
        match named.cmp(&(message.len() as u64)) {
            std::cmp::Ordering::Greater => Err(Malformed::at(What::Truncated, message.len())),
            std::cmp::Ordering::Less => Err(Malformed::at(What::Trailing, message.len())),
            std::cmp::Ordering::Equal => Ok(header),
        }
    }

    pub(super) fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = self.unsealed();
        Header::seal(&mut out, self.sections_crc);
        out
    }

    /// Without its checksums.
    pub(super) fn unsealed(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(VERSION_AT, &[LAYOUT_VERSION, self.qos.byte()]);
        put(4, &self.flags.bits().to_be_bytes());
        put(6, &[self.ttl, self.lengths.kind]);
        put(8, &self.msg_seq.to_be_bytes());
        put(16, &self.frag_seq.to_be_bytes());
        put(20, &self.window.max_parallel.to_be_bytes());
        put(24, &self.window.max_tokens.to_be_bytes());
        put(32, &self.window.max_usd_micros.to_be_bytes());
        put(40, &self.lengths.session_id.to_be_bytes());
        put(42, &self.lengths.stream_id.to_be_bytes());
        put(44, &self.lengths.meta.to_be_bytes());
        put(48, &self.lengths.ext.to_be_bytes());
        put(52, &self.lengths.content.to_be_bytes());
        out
    }

    /// Writes both checksums into a header that has everything else.
    pub(super) fn seal(header: &mut [u8; HEADER_BYTES], sections_crc: u32) {
        header[SECTIONS_CRC_AT..CRC_AT].copy_from_slice(&sections_crc.to_be_bytes());
        let crc = crc32c(&[&header[..CRC_AT]]);
        header[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
    }
}

impl QosByte {
    fn of(byte: u8) -> Option<QosByte> {
        [QosByte::Bronze, QosByte::Silver, QosByte::Gold, QosByte::Other]
            .into_iter()
            .find(|qos| qos.byte() == byte)
    }

    fn byte(self) -> u8 {
        match self {
            QosByte::Bronze => 0,
            QosByte::Silver => 1,
            QosByte::Gold => 2,
            QosByte::Other => 255,
        }
    }
}

fn part<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("every field is within the header")
}

fn u16_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u16 {
    u16::from_be_bytes(part(bytes, at))
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_be_bytes(part(bytes, at))
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from_be_bytes(part(bytes, at))
}

/// One cache line.
pub const HEADER_BYTES: usize = 64;

/// No JSON text, CBOR map or UTF-8 begins with the first of them.
const MAGIC: [u8; 2] = [0xff, 0xa7];

const VERSION_AT: usize = 2;

/// Of this layout; another layout has another number here and is free behind it.
const LAYOUT_VERSION: u8 = 1;

/// Behind all it covers.
const SECTIONS_CRC_AT: usize = 56;
const CRC_AT: usize = HEADER_BYTES - 4;
