//! As much of DER (X.690) and of certificates (RFC 5280) as leads to the alternative names of a subject. The
//! certificate was verified, so this only finds its way; what it does not expect, it gives up on.

/// Context tags of names (RFC 5280 section 4.2.1.6).
pub const DNS: u8 = 0x82;
pub const URI: u8 = 0x86;

/// The names of a certificate; an inner `None` where there is no such extension, an outer one where the bytes
/// are not as they should be.
pub fn alternative_names(certificate: &[u8]) -> Option<Option<Elements<'_>>> {
    let mut outer = Elements(certificate);
    let mut certificate = Elements(outer.only(SEQUENCE)?);
    let mut body = Elements(certificate.tagged(SEQUENCE)?);
    let extensions = loop {
        match body.next() {
            Some(Some((EXTENSIONS, value))) => break Elements(value).only(SEQUENCE)?,
            Some(Some(_)) => {}
            Some(None) => return None,
            None => return Some(None),
        }
    };
    let mut found = None;
    for extension in Elements(extensions) {
        let (SEQUENCE, extension) = extension? else { return None };
        let mut extension = Elements(extension);
        if extension.tagged(OID)? != ALTERNATIVE_NAMES {
            continue;
        }
        let value = match extension.next()?? {
            (BOOLEAN, _) => extension.only(OCTETS)?,
            (OCTETS, value) if extension.0.is_empty() => value,
            _ => return None,
        };
        // Two of one kind are not allowed (RFC 5280 section 4.2), and would be two answers to one question.
        if found.replace(Elements(Elements(value).only(SEQUENCE)?)).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Elements one after another; `None` for the first that is none, and nothing after it.
#[derive(Debug, Clone, Default)]
pub struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The next element, of this tag.
    fn tagged(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next()?.filter(|(tag, _)| *tag == wanted).map(|(_, value)| value)
    }

    /// The one element there is.
    fn only(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.tagged(wanted).filter(|_| self.0.is_empty())
    }

    fn element(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            // Of four bytes at most: nothing in a certificate is longer.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
                let length = bytes.iter().fold(0, |length: usize, byte| (length << 8) | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        // A tag of more than one byte is in no certificate.
        (tag & 0x1f != 0x1f).then_some((tag, value))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Option<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let element = self.element();
        if element.is_none() {
            self.0 = &[];
        }
        Some(element)
    }
}

const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// `[3]` of a certificate's body.
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
