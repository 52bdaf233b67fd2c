//! Escapes of a JSON string, and a whole string's text.

/// Appends the text of a JSON string to `out`. `raw`: what stands between its quotes, already found valid by
/// a `Lexer`; of anything else it makes something, without panic.
pub fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((&kind, after)) = rest.split_first() else { return };
        rest = after;
        if kind != b'u' {
            out.push(simple_escape(kind).unwrap_or(kind));
            continue;
        }
        let mut character = hex_unit(rest).map(u32::from);
        rest = rest.get(4..).unwrap_or_default();
        if let (Some(high @ 0xD800..0xDC00), Some(low)) =
            (character, rest.strip_prefix(b"\\u").and_then(hex_unit))
        {
            character = Some(0x10000 + ((high - 0xD800) << 10) + (u32::from(low) & 0x3FF));
            rest = &rest[6..];
        }
        let character = character.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.extend_from_slice(rest);
}

fn hex_unit(bytes: &[u8]) -> Option<u16> {
    bytes.get(..4)?.iter().try_fold(0, |unit: u16, &byte| Some(unit << 4 | hex_value(byte)?))
}

#[inline]
pub(super) fn hex_value(byte: u8) -> Option<u16> {
    char::from(byte).to_digit(16).map(|digit| digit as u16)
}

#[inline]
pub(super) fn simple_escape(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' | b'/' => byte,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        _ => return None,
    })
}
