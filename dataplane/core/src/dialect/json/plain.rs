//! Where the plain part of a string ends. This is where the time of a large body goes, so it looks at many
//! bytes at once, in safe code a compiler turns into vector instructions.

/// Bytes until the first that is not plain: a quote, a backslash, a control character, or part of a character
/// of several bytes.
#[inline]
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    // Most strings of a body are short: two words find their end before a block would pay.
    for at in [0, WORD] {
        let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else { break };
        if let Some(found) = first_special(*word) {
            return at + found;
        }
    }
    long_run(bytes)
}

fn long_run(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(block) = bytes[at..].first_chunk::<BLOCK>()
        && !has_special(block)
    {
        at += BLOCK;
    }
    while let Some(word) = bytes[at..].first_chunk() {
        match first_special(*word) {
            Some(found) => return at + found,
            None => at += WORD,
        }
    }
    at + plain_tail(&bytes[at..])
}

fn plain_tail(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| is_special(byte)).unwrap_or(bytes.len())
}

/// Written without a branch per byte, so that it becomes vector instructions.
#[inline]
fn has_special(block: &[u8; BLOCK]) -> bool {
    block.iter().fold(false, |found, &byte| found | is_special(byte))
}

#[inline]
fn is_special(byte: u8) -> bool {
    // As a signed byte, both control characters and bytes above 0x7F are below the space.
    (byte as i8) < 0x20 || byte == b'"' || byte == b'\\'
}

/// "Determine if a word has a zero byte", Bit Twiddling Hacks (S. E. Anderson): the lowest byte marked is
/// exact.
#[inline]
fn first_special(word: [u8; WORD]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; WORD]);
    const TOPS: u64 = ONES << 7;
    let word = u64::from_le_bytes(word);
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero_in(word ^ (ONES * b'"' as u64));
    let slash = zero_in(word ^ (ONES * b'\\' as u64));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let marks = (quote | slash | control | word) & TOPS;
    (marks != 0).then(|| marks.trailing_zeros() as usize / 8)
}

const WORD: usize = 8;

/// Two registers of the baseline's vectors: one test and one branch for 32 bytes.
const BLOCK: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_ends_a_run_if_and_only_if_it_is_special() {
        for length in 0..100 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'a'; length];
                    bytes[at] = byte;
                    let special = matches!(byte, 0..0x20 | 0x80.. | b'"' | b'\\');
                    assert_eq!(
                        plain_run(&bytes),
                        if special { at } else { length },
                        "{byte} at {at} of {length}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_first_of_two_special_bytes_counts() {
        for first in [0x00, 0x1F, 0x80, 0xFF, b'"', b'\\'] {
            for second in 0..=u8::MAX {
                for at in 0..40 {
                    let mut bytes = [b' '; 48];
                    (bytes[at], bytes[at + 1]) = (first, second);
                    assert_eq!(plain_run(&bytes), at, "{first} then {second}");
                }
            }
        }
    }
}
