//! A frame while it is being read, in whatever order its fields come. The counterpart of [`super::tree`].
//!
//! Clients write frames in three shapes, and all of them become the same frame. Names may be in camel case
//! (TypeScript). A frame without `v` and with `type` beside `payload` has its content where the payload is,
//! and leaves out what is zero or empty (Go).

use std::borrow::Cow;

use super::VERSION;
use super::fields::{self, Field, Seen};
use super::flags::{Flags, FlagsDraft};
use super::json::Reader;
use super::malformed::{Malformed, What};
use super::model::{CostEst, Ext, Frame, Meta, Payload, Qos, Window};
use super::number::Number;
use super::read::Read;
use super::text::{RawJson, Text};
use super::{FLAGS_MAX, LIST_MAX};

/// How a peer writes, so that it can be answered in kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Shape {
    /// As it is documented.
    #[default]
    Plain,
    /// Names in camel case.
    Camel,
    /// Content in place of the payload.
    Flat,
}

pub(super) struct Draft {
    /// Blank where nothing has come.
    pub frame: Frame,
    pub seen: Seen,
    pub seen_in_window: Seen,
    pub seen_in_payload: Seen,
    /// Whether other shapes than the plain one may come: in JSON only.
    has_shapes: bool,
    is_camel: bool,
    /// The payload, where the shape was not known yet when it came.
    waiting: Option<RawJson>,
}

impl Draft {
    pub fn new(has_shapes: bool) -> Draft {
        Draft {
            frame: blank(),
            seen: Seen::default(),
            seen_in_window: Seen::default(),
            seen_in_payload: Seen::default(),
            has_shapes,
            is_camel: false,
            waiting: None,
        }
    }

    /// One object with a frame's fields.
    pub fn read<'a, R: Read<'a>>(&mut self, reader: &mut R) -> Result<(), Malformed> {
        let mut guess = 0;
        reader.object(|reader, key| match self.field_of(&key, fields::FRAME, &mut guess) {
            None => keep(&mut self.frame.ext, reader, key),
            Some(field) => {
                first(&mut self.seen, field)?;
                self.field(reader, field).map_err(|wrong| wrong.within(field.name()))
            }
        })
    }

    fn field<'a, R: Read<'a>>(&mut self, reader: &mut R, field: Field) -> Result<(), Malformed> {
        let frame = &mut self.frame;
        match field {
            Field::V => {
                let is_known = integer::<u64, R>(reader)? == VERSION;
                return if is_known { Ok(()) } else { Err(Malformed::field(What::Version, "v")) };
            }
            Field::SessionId => frame.session_id = reader.text()?,
            Field::StreamId => frame.stream_id = reader.text()?,
            Field::MsgSeq => frame.msg_seq = integer(reader)?,
            Field::FragSeq => frame.frag_seq = integer(reader)?,
            Field::Flags => frame.flags = flags(reader)?,
            Field::Qos => frame.qos = qos(reader)?,
            Field::Ttl => frame.ttl = integer(reader)?,
            Field::Window => return self.window(reader),
            Field::Meta => return self.meta(reader),
            Field::Payload => return self.payload(reader),
            optional => {
                if reader.is_null()? {
                    frame.ext.insert(Text::of_static(optional.name()), RawJson::NULL);
                    return Ok(());
                }
                match optional {
                    Field::Sig => frame.sig = Some(reader.text()?),
                    Field::Checksum => frame.checksum = Some(reader.text()?),
                    Field::Nonce => frame.nonce = Some(reader.text()?),
                    Field::Kid => frame.kid = Some(reader.text()?),
                    Field::Adapter => frame.adapter = Some(reader.text()?),
                    _ => frame.telemetry = Some(reader.raw()?),
                }
            }
        }
        Ok(())
    }

    fn window<'a, R: Read<'a>>(&mut self, reader: &mut R) -> Result<(), Malformed> {
        let mut guess = 0;
        reader.object(|reader, key| {
            let Some(field) = self.field_of(&key, fields::WINDOW, &mut guess) else {
                return keep(&mut self.frame.window_ext, reader, key);
            };
            first(&mut self.seen_in_window, field)?;
            let window = &mut self.frame.window;
            match field {
                Field::MaxParallel => integer(reader).map(|number| window.max_parallel = number),
                Field::MaxTokens => integer(reader).map(|number| window.max_tokens = number),
                _ => integer(reader).map(|number| window.max_usd_micros = number),
            }
            .map_err(|wrong| wrong.within(field.name()))
        })
    }

    pub fn meta<'a, R: Read<'a>>(&mut self, reader: &mut R) -> Result<(), Malformed> {
        let (mut guess, mut seen) = (0, Seen::default());
        reader.object(|reader, key| {
            let Some(field) = self.field_of(&key, fields::META, &mut guess) else {
                return keep(&mut self.frame.meta.ext, reader, key);
            };
            first(&mut seen, field)?;
            let meta = &mut self.frame.meta;
            if reader.is_null()? {
                meta.ext.insert(Text::of_static(field.name()), RawJson::NULL);
                return Ok(());
            }
            match field {
                Field::TaskType => reader.text().map(|text| meta.task_type = Some(text)),
                Field::Risk => reader.text().map(|text| meta.risk = Some(text)),
                Field::EnvironmentId => reader.text().map(|text| meta.environment_id = Some(text)),
                Field::Languages => texts(reader).map(|list| meta.languages = Some(list)),
                Field::DataScope => texts(reader).map(|list| meta.data_scope = Some(list)),
                Field::ToolPermissions => texts(reader).map(|list| meta.tool_permissions = Some(list)),
                Field::SecurityGroups => texts(reader).map(|list| meta.security_groups = Some(list)),
                _ => reader.raw().map(|trace| meta.trace = Some(trace)),
            }
            .map_err(|wrong| wrong.within(field.name()))
        })
    }

    /// Where `v` has not come yet, the payload may still be a content: it is only checked, and read later.
    fn payload<'a, R: Read<'a>>(&mut self, reader: &mut R) -> Result<(), Malformed> {
        if self.has_shapes && !self.seen.has(Field::V) {
            self.waiting = Some(reader.later()?);
            return Ok(());
        }
        self.payload_fields(reader)
    }

    fn payload_fields<'a, R: Read<'a>>(&mut self, reader: &mut R) -> Result<(), Malformed> {
        let mut guess = 0;
        reader.object(|reader, key| match self.field_of(&key, fields::PAYLOAD, &mut guess) {
            None => keep(&mut self.frame.payload.ext, reader, key),
            Some(field) => {
                first(&mut self.seen_in_payload, field)?;
                self.payload_field(reader, field).map_err(|wrong| wrong.within(field.name()))
            }
        })
    }

    fn payload_field<'a, R: Read<'a>>(&mut self, reader: &mut R, field: Field) -> Result<(), Malformed> {
        let payload = &mut self.frame.payload;
        match field {
            Field::Type => payload.kind = reader.text()?,
            Field::Content => payload.content = reader.raw()?,
            optional => {
                if reader.is_null()? {
                    payload.ext.insert(Text::of_static(optional.name()), RawJson::NULL);
                    return Ok(());
                }
                match optional {
                    Field::Confidence => payload.confidence = Some(reader.number()?),
                    Field::CostEst => return self.cost(reader),
                    Field::Checksum => payload.checksum = Some(reader.text()?),
                    Field::ExpiryMs => payload.expiry_ms = Some(integer(reader)?),
                    Field::SessionId => payload.session_id = Some(reader.text()?),
                    Field::PersonaId => payload.persona_id = Some(reader.text()?),
                    Field::CloneId => payload.clone_id = Some(integer(reader)?),
                    _ => payload.seq = Some(integer(reader)?),
                }
            }
        }
        Ok(())
    }

    fn cost<'a, R: Read<'a>>(&mut self, reader: &mut R) -> Result<(), Malformed> {
        let (mut guess, mut seen, mut cost) = (0, Seen::default(), CostEst::default());
        reader.object(|reader, key| {
            let Some(field) = self.field_of(&key, fields::COST, &mut guess) else {
                return keep(&mut self.frame.payload.cost_ext, reader, key);
            };
            first(&mut seen, field)?;
            match field {
                Field::InTokens => integer(reader).map(|number| cost.in_tokens = number),
                Field::OutTokens => integer(reader).map(|number| cost.out_tokens = number),
                _ => integer(reader).map(|number| cost.usd_micros = number),
            }
            .map_err(|wrong| wrong.within(field.name()))
        })?;
        needed(seen, fields::COST)?;
        self.frame.payload.cost_est = Some(cost);
        Ok(())
    }

    #[inline(always)]
    fn field_of(&mut self, key: &[u8], all: &'static [Field], guess: &mut usize) -> Option<Field> {
        let field = fields::of_key(key, all, guess)?;
        self.is_camel |= field.name().len() != key.len();
        Some(field)
    }

    /// What is in `frame` is one, if all that it needs has come.
    pub fn finish(&mut self) -> Result<Shape, Malformed> {
        let has_version = self.seen.has(Field::V);
        let is_flat = self.has_shapes && !has_version && self.frame.ext.get("type").is_some();
        let shape = match (is_flat, self.is_camel) {
            (true, _) => Shape::Flat,
            (false, true) if self.has_shapes => Shape::Camel,
            _ => Shape::Plain,
        };
        if shape == Shape::Plain {
            needed(self.seen, &[Field::V])?;
        }
        self.open_waiting(shape)?;
        if shape == Shape::Flat {
            // What such a frame leaves out is zero or empty, and its session its connection's.
            needed(self.seen, &[Field::Payload])?;
            if !self.seen.has(Field::Ttl) {
                self.frame.ttl = TTL_FLAT;
            }
        } else {
            needed(self.seen, NEEDED)?;
            needed(self.seen_in_window, fields::WINDOW)?;
            needed(self.seen_in_payload, &[Field::Type])?;
        }
        self.frame.check()?;
        Ok(shape)
    }

    fn open_waiting(&mut self, shape: Shape) -> Result<(), Malformed> {
        let Some(waiting) = self.waiting.take() else { return Ok(()) };
        if shape != Shape::Flat {
            let mut reader = Reader::checked(waiting.as_bytes());
            return self.payload_fields(&mut reader).map_err(|wrong| wrong.within("payload"));
        }
        let kind = self.frame.ext.remove("type").unwrap_or(RawJson::NULL);
        let kind = Reader::checked(kind.as_bytes()).text().map_err(|wrong| wrong.within("type"))?;
        let content = RawJson::parse(waiting.as_bytes().clone()).map_err(|wrong| wrong.within("payload"))?;
        self.frame.payload = Payload::new(kind, content);
        Ok(())
    }
}

fn blank() -> Frame {
    Frame {
        session_id: Text::default(),
        stream_id: Text::default(),
        msg_seq: 0,
        frag_seq: 0,
        flags: Flags::default(),
        qos: Qos::default(),
        ttl: 0,
        window: Window::default(),
        window_ext: Ext::default(),
        meta: Meta::default(),
        payload: Payload::new(Text::default(), RawJson::NULL),
        sig: None,
        checksum: None,
        nonce: None,
        kid: None,
        telemetry: None,
        adapter: None,
        ext: Ext::default(),
    }
}

fn needed(seen: Seen, fields: &'static [Field]) -> Result<(), Malformed> {
    match fields.iter().find(|field| !seen.has(**field)) {
        Some(missing) => Err(Malformed::field(What::Missing, missing.name())),
        None => Ok(()),
    }
}

/// The same field in both spellings is twice too, so is a null beside a value.
#[inline(always)]
fn first(seen: &mut Seen, field: Field) -> Result<(), Malformed> {
    if seen.add(field) { Ok(()) } else { Err(Malformed::field(What::Duplicate, field.name())) }
}

fn keep<'a, R: Read<'a>>(ext: &mut Ext, reader: &mut R, key: Cow<'a, [u8]>) -> Result<(), Malformed> {
    let key = reader.share(key);
    if ext.get(key.as_str()).is_some() {
        return Err(Malformed::field(What::Duplicate, "ext"));
    }
    let value = reader.raw()?;
    ext.insert(key, value);
    Ok(())
}

fn flags<'a, R: Read<'a>>(reader: &mut R) -> Result<Flags, Malformed> {
    let mut flags = FlagsDraft::default();
    reader.list(|reader| {
        let flag = reader.string()?;
        flags.push(flag, |flag| reader.share(flag));
        if flags.len() > FLAGS_MAX { Err(Malformed::field(What::TooLong, "flags")) } else { Ok(()) }
    })?;
    Ok(flags.finish())
}

fn qos<'a, R: Read<'a>>(reader: &mut R) -> Result<Qos, Malformed> {
    let word = reader.string()?;
    Ok(match &*word {
        b"gold" => Qos::Gold,
        b"silver" => Qos::Silver,
        b"bronze" => Qos::Bronze,
        _ => Qos::Other(reader.share(word)),
    })
}

fn texts<'a, R: Read<'a>>(reader: &mut R) -> Result<Vec<Text>, Malformed> {
    let mut texts = Vec::new();
    reader.list(|reader| {
        texts.push(reader.text()?);
        if texts.len() > LIST_MAX { Err(Malformed::field(What::TooLong, "")) } else { Ok(()) }
    })?;
    Ok(texts)
}

fn integer<'a, T: TryFrom<u64>, R: Read<'a>>(reader: &mut R) -> Result<T, Malformed> {
    let what = match reader.number()? {
        Number::Positive(number) => {
            return T::try_from(number).map_err(|_| Malformed::field(What::Range, ""));
        }
        Number::Negative(_) => What::Range,
        Number::Float(_) => What::WrongType,
    };
    Err(Malformed::field(what, ""))
}

/// What a frame that is not flat has.
const NEEDED: &[Field] = &[
    Field::SessionId,
    Field::StreamId,
    Field::MsgSeq,
    Field::Qos,
    Field::Ttl,
    Field::Window,
    Field::Meta,
    Field::Payload,
];

/// Hops of a flat frame that does not say, which its clients leave to the other side: what they ask with.
const TTL_FLAT: u8 = 8;
