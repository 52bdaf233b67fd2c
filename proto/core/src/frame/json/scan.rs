//! How far blanks reach, and the plain part of a string, this several bytes at a time.

/// Where the first quote, backslash or control character stands at or behind `from`; the length where there
/// is none.
#[inline(always)]
pub(super) fn plain_end(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    // Most strings are short: two words first.
    let Some((both, after)) = rest.split_first_chunk::<16>() else { return from + short_plain(rest) };
    let (words, _) = both.as_chunks();
    let special = special_of(words[0]);
    if special != 0 {
        return from + place_of(special);
    }
    match special_of(words[1]) {
        0 => from + 16 + long_plain(after),
        special => from + 8 + place_of(special),
    }
}

fn long_plain(text: &[u8]) -> usize {
    let mut rest = text;
    while let Some((block, after)) = rest.split_first_chunk::<BLOCK>() {
        // Without an early end, so that the compiler makes vector instructions of it.
        let special = block.iter().map(|byte| u8::from(is_special(*byte)));
        if special.fold(0, |any, one| any | one) != 0 {
            break;
        }
        rest = after;
    }
    while let Some((word, after)) = rest.split_first_chunk() {
        let special = special_of(*word);
        if special != 0 {
            return text.len() - rest.len() + place_of(special);
        }
        rest = after;
    }
    text.len() - rest.len() + short_plain(rest)
}

fn short_plain(text: &[u8]) -> usize {
    let mut at = 0;
    if let Some(word) = text.first_chunk() {
        let special = special_of(*word);
        if special != 0 {
            return place_of(special);
        }
        at = 8;
    }
    while text.get(at).is_some_and(|byte| !is_special(*byte)) {
        at += 1;
    }
    at
}

/// The highest bit of each byte that is special, right up to the first of them. Those above may be wrong: a
/// subtraction borrows from there (Mycroft, 1987; Anderson, "Bit twiddling hacks").
#[inline(always)]
fn special_of(word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    let quotes = (word ^ (EACH * b'"' as u64)).wrapping_sub(EACH);
    let backslashes = (word ^ (EACH * b'\\' as u64)).wrapping_sub(EACH);
    let controls = word.wrapping_sub(EACH * 0x20);
    // Neither character has the highest bit, so what had it is not special.
    (quotes | backslashes | controls) & !word & (EACH * 0x80)
}

#[inline(always)]
fn place_of(special: u64) -> usize {
    (special.trailing_zeros() / 8) as usize
}

/// Where the first byte that is no blank stands at or behind `from`.
#[inline(always)]
pub(super) fn blanks_end(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// A one in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

/// Bytes looked at together in long strings.
const BLOCK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_special_byte_is_found_wherever_it_stands_and_whatever_follows() {
        for length in 0..100 {
            for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
                for at in 0..length {
                    for filler in [b'a', 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                        let mut text = vec![filler; length];
                        text[at] = special;
                        assert_eq!(plain_end(&text, 0), at);
                        assert_eq!(plain_end(&text, at), at);
                        assert_eq!(plain_end(&text, at + 1), length);
                    }
                }
            }
        }
    }

    #[test]
    fn bytes_above_ascii_are_plain() {
        for byte in 0x80..=0xff {
            assert_eq!(plain_end(&[byte; 50], 3), 50);
        }
    }
}
