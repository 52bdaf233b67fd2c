//! Text into JSON strings, bytes into a caller's buffer. Nothing a caller or an upstream wrote gets out of
//! its quotes.

use std::fmt::{self, Write};

/// Appends `text` as a JSON string, quotes included.
pub(crate) fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// Appends `text` as it stands inside the quotes of a JSON string.
fn escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(*b"\\n"),
            b'\r' => out.extend(*b"\\r"),
            b'\t' => out.extend(*b"\\t"),
            0..0x20 => out.extend([b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), HEX[usize::from(byte & 15)]]),
            _ => out.push(byte),
        }
    }
}

/// For `write!`: what is formatted is escaped.
pub(crate) struct Escaped<'o>(pub &'o mut Vec<u8>);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(text, self.0);
        Ok(())
    }
}

/// For `write!`: what is formatted stands as it is.
pub(crate) struct Plain<'o>(pub &'o mut Vec<u8>);

impl Write for Plain<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// `write!` into a buffer of ours cannot fail.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {{
        use std::fmt::Write as _;
        write!($crate::dialect::json::Plain($out), $($text)*).expect("a buffer takes what is written")
    }};
}
pub(crate) use put;

/// A name somebody else chose, in a message: at most [`SHOWN_CHARS_MAX`] characters of it.
pub(crate) struct Shown<'t>(pub &'t str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}

/// The longest name of a model; what is longer names nothing.
pub(crate) const SHOWN_CHARS_MAX: usize = 128;

pub(crate) const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_comes_back_from_its_quotes(text in ".*", controls in "[\u{0}-\u{1f}\"\\\\]{0,20}") {
            let text = text + &controls;
            let mut out = Vec::new();
            quote(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn a_name_is_shown_up_to_its_longest_and_cut_past_it() {
        let long = "é".repeat(SHOWN_CHARS_MAX);
        assert_eq!(Shown(&long).to_string(), long);
        assert_eq!(Shown(&format!("{long}x")).to_string(), format!("{long}…"));
    }
}
