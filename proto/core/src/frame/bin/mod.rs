//! Frames as a header of 64 bytes and six sections nobody needs to look into to pass them on.
//!
//! ```text
//! header 64 | session_id | stream_id | type | meta | ext | content
//! ```
//!
//! [`View::read`] takes nothing from the heap and looks at the header and the ids only: the header has a
//! checksum of its own, and that over the sections is for who opens them ([`View::frame`]). `meta`, `ext` and
//! `content` are JSON; `ext` holds whatever has no other place, and is empty in most frames.

mod header;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::crc::crc32c;
use super::draft::Draft;
use super::fields::{Field, Seen};
use super::flags::{FlagSet, Flags};
use super::json::{Reader, Writer};
use super::malformed::{Malformed, What};
use super::model::{Frame, Qos};
use super::text::{RawJson, Text};

use header::Lengths;
pub use header::{HEADER_BYTES, Header, QosByte};

/// A binary frame, unopened.
#[derive(Debug, Clone)]
pub struct View {
    header: Header,
    /// Where each section ends, from the start of the message.
    ends: [u32; 6],
    whole: Bytes,
}

impl View {
    /// Checks the header, the ids and the type.
    pub fn read(message: Bytes) -> Result<View, Malformed> {
        let header = Header::read(&message)?;
        let ends = ends(&header.lengths);
        let words = &message[HEADER_BYTES..ends[2] as usize];
        if !words.is_ascii() {
            for (section, field) in ["session_id", "stream_id", "type"].into_iter().enumerate() {
                if std::str::from_utf8(&message[place(&ends, section)]).is_err() {
                    return Err(Malformed::field(What::Utf8, field));
                }
            }
        }
        Ok(View { header, ends, whole: message })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn session_id(&self) -> &str {
        std::str::from_utf8(self.section(0)).expect("checked when the view was made")
    }

    pub fn stream_id(&self) -> &str {
        std::str::from_utf8(self.section(1)).expect("checked when the view was made")
    }

    /// The payload's `type`.
    pub fn kind(&self) -> &str {
        std::str::from_utf8(self.section(2)).expect("checked when the view was made")
    }

    /// JSON, unchecked; empty: `{}`.
    pub fn meta(&self) -> &[u8] {
        self.section(3)
    }

    /// JSON, unchecked; empty: `{}`.
    pub fn ext(&self) -> &[u8] {
        self.section(4)
    }

    /// JSON, unchecked.
    pub fn content(&self) -> &[u8] {
        self.section(5)
    }

    /// All sections as they came: what follows a header.
    pub fn sections(&self) -> Bytes {
        self.whole.slice(HEADER_BYTES..)
    }

    /// Whether the sections are what their sender put there. Looks at all of them.
    pub fn is_intact(&self) -> bool {
        crc32c(&[&self.whole[HEADER_BYTES..]]) == self.header.sections_crc
    }

    /// The header for the next hop, before the same sections. A signature, if there is one, covers neither
    /// the new `ttl` nor the new flags: who changes a signed frame opens it and signs it again.
    pub fn next_hop(&self, ttl: u8, added: FlagSet) -> [u8; HEADER_BYTES] {
        Header { ttl, flags: self.header.flags.union(added), ..self.header }.bytes()
    }

    /// Opens all sections and checks everything.
    pub fn frame(&self) -> Result<Frame, Malformed> {
        if !self.is_intact() {
            return Err(Malformed::field(What::Checksum, "sections"));
        }
        let mut draft = self.opened_ext()?;
        let header = &self.header;
        let mut flags = std::mem::take(&mut draft.frame.flags);
        if !header.flags.has(flags.known()) {
            return Err(Malformed::field(What::Contradiction, "flags"));
        }
        if flags == Flags::default() {
            flags = header.flags.into();
        }
        // What was marked on the way stands in the header only.
        flags.add(header.flags);
        let qos = match (header.qos, draft.seen.has(Field::Qos)) {
            (QosByte::Gold, false) => Qos::Gold,
            (QosByte::Silver, false) => Qos::Silver,
            (QosByte::Bronze, false) => Qos::Bronze,
            (QosByte::Other, true) => std::mem::take(&mut draft.frame.qos),
            _ => return Err(Malformed::field(What::Contradiction, "qos")),
        };
        if (header.qos == QosByte::Other) != matches!(qos, Qos::Other(_)) {
            return Err(Malformed::field(What::Contradiction, "qos"));
        }
        self.opened_meta(&mut draft)?;
        let mut frame = draft.frame;
        frame.flags = flags;
        frame.qos = qos;
        frame.session_id = self.text(0);
        frame.stream_id = self.text(1);
        frame.msg_seq = header.msg_seq;
        frame.frag_seq = header.frag_seq;
        frame.ttl = header.ttl;
        frame.window = header.window;
        frame.payload.kind = self.text(2);
        frame.payload.content = RawJson::parse(self.shared(5)).map_err(|wrong| wrong.within("content"))?;
        frame.check()?;
        Ok(frame)
    }

    /// Nothing that has its place elsewhere may stand in `ext` too.
    fn opened_ext(&self) -> Result<Draft, Malformed> {
        let mut draft = Draft::new(false);
        let json = self.shared(4);
        if json.is_empty() {
            return Ok(draft);
        }
        let mut reader = Reader::new(&json)?;
        draft.read(&mut reader).map_err(|wrong| wrong.within("ext"))?;
        reader.end().map_err(|wrong| wrong.within("ext"))?;
        let is_elsewhere = draft.seen.has_any(ELSEWHERE)
            || draft.seen_in_window != Seen::default()
            || draft.seen_in_payload.has_any(ELSEWHERE_OF_PAYLOAD);
        if is_elsewhere { Err(Malformed::field(What::Contradiction, "ext")) } else { Ok(draft) }
    }

    fn opened_meta(&self, draft: &mut Draft) -> Result<(), Malformed> {
        let json = self.shared(3);
        if json.is_empty() {
            return Ok(());
        }
        let mut reader = Reader::new(&json)?;
        draft.meta(&mut reader).map_err(|wrong| wrong.within("meta"))?;
        reader.end().map_err(|wrong| wrong.within("meta"))
    }

    /// Of those that were checked when the view was made.
    fn text(&self, section: usize) -> Text {
        Text::shared(&self.whole, Cow::Borrowed(self.section(section)))
    }

    fn shared(&self, section: usize) -> Bytes {
        self.whole.slice(place(&self.ends, section))
    }

    fn section(&self, section: usize) -> &[u8] {
        &self.whole[place(&self.ends, section)]
    }
}

fn place(ends: &[u32; 6], section: usize) -> Range<usize> {
    let start = if section == 0 { HEADER_BYTES as u32 } else { ends[section - 1] };
    start as usize..ends[section] as usize
}

/// The sum fits the message, so it fits.
fn ends(lengths: &Lengths) -> [u32; 6] {
    let Lengths { session_id, stream_id, kind, meta, ext, content } = *lengths;
    let mut end = HEADER_BYTES as u32;
    [session_id.into(), stream_id.into(), kind.into(), meta, ext, content].map(|length: u32| {
        end += length;
        end
    })
}

pub fn encode(frame: &Frame) -> Result<Bytes, Malformed> {
    let content = frame.payload.content.as_bytes();
    let mut out = head(frame, content.len())?;
    out.extend_from_slice(content);
    let crc = crc32c(&[&out[HEADER_BYTES..]]);
    seal(&mut out, crc);
    Ok(Bytes::from(out))
}

/// The frame in two pieces, to be written one after the other: the content is the frame's own, not copied.
pub fn encode_parts(frame: &Frame) -> Result<[Bytes; 2], Malformed> {
    let content = frame.payload.content.as_bytes().clone();
    let mut out = head(frame, 0)?;
    let crc = crc32c(&[&out[HEADER_BYTES..], &content]);
    seal(&mut out, crc);
    Ok([Bytes::from(out), content])
}

/// All up to the content, with room for as much as follows; both checksums are missing.
fn head(frame: &Frame, room: usize) -> Result<Vec<u8>, Malformed> {
    frame.check()?;
    let content = frame.payload.content.as_bytes().len();
    super::check_size(content)?;
    let words = [frame.session_id.as_bytes(), frame.stream_id.as_bytes(), frame.payload.kind.as_bytes()];
    let bytes = HEADER_BYTES + words.iter().map(|word| word.len()).sum::<usize>();
    let mut out = Vec::with_capacity(bytes + OBJECTS_BYTES + room);
    out.extend_from_slice(&[0; HEADER_BYTES]);
    words.iter().for_each(|word| out.extend_from_slice(word));
    let meta = put_object(&mut out, |out| frame.meta.put(out));
    let ext = put_object(&mut out, |out| frame.put_unplaced(out));
    super::check_size(out.len() + content)?;
    let header = Header {
        qos: match frame.qos {
            Qos::Gold => QosByte::Gold,
            Qos::Silver => QosByte::Silver,
            Qos::Bronze => QosByte::Bronze,
            Qos::Other(_) => QosByte::Other,
        },
        flags: frame.flags.known(),
        ttl: frame.ttl,
        msg_seq: frame.msg_seq,
        frag_seq: frame.frag_seq,
        window: frame.window,
        lengths: Lengths {
            session_id: length(words[0].len()),
            stream_id: length(words[1].len()),
            kind: length(words[2].len()),
            meta: length(meta),
            ext: length(ext),
            content: length(content),
        },
        sections_crc: 0,
    };
    out[..HEADER_BYTES].copy_from_slice(&header.unsealed());
    Ok(out)
}

fn seal(out: &mut [u8], sections_crc: u32) {
    let header = out.first_chunk_mut().expect("a header was written first");
    Header::seal(header, sections_crc);
}

/// Writes an object and says how long it is; an empty one is left away.
fn put_object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Writer<'_>)) -> usize {
    let start = out.len();
    out.push(b'{');
    fill(&mut Writer::new(out));
    if out.len() == start + 1 {
        out.truncate(start);
        return 0;
    }
    out.push(b'}');
    out.len() - start
}

fn length<T: TryFrom<usize>>(bytes: usize) -> T {
    T::try_from(bytes).ok().expect("limits of names and frames are below those of their lengths")
}

/// What the header and other sections say.
const ELSEWHERE: Seen = Seen::of(&[
    Field::V,
    Field::SessionId,
    Field::StreamId,
    Field::MsgSeq,
    Field::FragSeq,
    Field::Ttl,
    Field::Meta,
]);
const ELSEWHERE_OF_PAYLOAD: Seen = Seen::of(&[Field::Type, Field::Content]);

/// Room for `meta` and `ext`, which are short where they are there at all; longer ones make the frame's
/// memory grow while it is written.
const OBJECTS_BYTES: usize = 128;
