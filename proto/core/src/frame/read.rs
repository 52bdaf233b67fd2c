//! What the codecs of maps, JSON and CBOR, have in common: a frame is asked for field by field, whoever
//! answers.

use std::borrow::Cow;

use super::malformed::Malformed;
use super::number::Number;
use super::text::{RawJson, Text};

pub(super) trait Read<'a>: Sized {
    /// Takes a null where the next value is one.
    fn is_null(&mut self) -> Result<bool, Malformed>;

    /// `each` takes the value of its key, whole. Whether a key came before is for `each` to know.
    fn object(
        &mut self,
        each: impl FnMut(&mut Self, Cow<'a, [u8]>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed>;

    /// `each` takes one element.
    fn list(&mut self, each: impl FnMut(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed>;

    /// UTF-8.
    fn string(&mut self) -> Result<Cow<'a, [u8]>, Malformed>;

    /// A key or a string, to keep.
    fn share(&self, text: Cow<'a, [u8]>) -> Text;

    fn text(&mut self) -> Result<Text, Malformed> {
        let text = self.string()?;
        Ok(self.share(text))
    }

    fn number(&mut self) -> Result<Number, Malformed>;

    /// Whatever comes next, as JSON.
    fn raw(&mut self) -> Result<RawJson, Malformed>;

    /// An object with fields, to be read as one when it is known which.
    fn later(&mut self) -> Result<RawJson, Malformed> {
        self.raw()
    }
}
