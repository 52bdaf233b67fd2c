//! Cyclic redundancy checks of 32 bits, bits reversed: CRC-32 (ISO 3309, as in Ethernet) and CRC-32C
//! (Castagnoli; RFC 3720 appendix B.4). Against accidents, never against an adversary.
//!
//! The second is in every binary frame, over all of it: processors have an instruction for it, which the
//! `crc32c` crate uses where there is one. The first is in sealed values only.

/// CRC-32C of all pieces as one.
pub fn crc32c(pieces: &[&[u8]]) -> u32 {
    pieces.iter().fold(0, |crc, piece| crc32c::crc32c_append(crc, piece))
}

/// CRC-32, eight bytes a step, by the tables of Kounavis and Berry, "A systematic approach to building high
/// performance, software-based, CRC generators" (2005).
pub fn crc32(bytes: &[u8]) -> u32 {
    let (steps, rest) = bytes.as_chunks::<STEP>();
    let crc = steps.iter().fold(u32::MAX, |crc, step| {
        let mixed = (u64::from_le_bytes(*step) ^ u64::from(crc)).to_le_bytes();
        let parts = mixed.iter().zip(TABLES.iter().rev());
        parts.fold(0, |crc, (byte, table)| crc ^ table[usize::from(*byte)])
    });
    !rest.iter().fold(crc, |crc, byte| crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)])
}

static TABLES: [[u32; 256]; STEP] = tables(0xedb8_8320);

/// `polynomial` with its lowest power in the highest bit.
const fn tables(polynomial: u32) -> [[u32; 256]; STEP] {
    let mut tables = [[0; 256]; STEP];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ polynomial } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < STEP {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// Bytes looked at together; 8 KiB of tables.
const STEP: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_give_the_check_values_of_their_definitions() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        // RFC 3720 appendix B.4.
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc32c(&[&[0xff; 32]]), 0x62a8_ab43);
    }

    #[test]
    fn pieces_count_as_one_whatever_their_length() {
        let bytes: Vec<u8> = (0..10_000).map(|at: u32| (at * at) as u8).collect();
        for cut in (0..100).chain([1000, 4096, 9_999]) {
            assert_eq!(crc32c(&[&bytes[..cut], &bytes[cut..]]), crc32c(&[&bytes]));
        }
    }

    #[test]
    fn every_length_gives_what_bit_by_bit_gives() {
        let slow = |bytes: &[u8], polynomial: u32| {
            !bytes.iter().fold(u32::MAX, |crc, byte| {
                let step = |crc: u32, _| crc >> 1 ^ (polynomial & (crc & 1_u32).wrapping_neg());
                (0..8).fold(crc ^ u32::from(*byte), step)
            })
        };
        let bytes: Vec<u8> = (0..1200).map(|at: u32| (at * 7 + at / 256) as u8).collect();
        for length in (0..70).chain([255, 256, 257, 767, 768, 769, 1200]) {
            assert_eq!(crc32c(&[&bytes[..length]]), slow(&bytes[..length], 0x82f6_3b78), "{length}");
            assert_eq!(crc32(&bytes[..length]), slow(&bytes[..length], 0xedb8_8320), "{length}");
        }
    }
}
