//! The frame: one value whatever it was encoded in. Two frames are equal where every encoding of them says
//! the same; keys nobody here knows are kept beside those that have a meaning.

use super::fields::{self, Field};
use super::flags::Flags;
use super::malformed::{Malformed, What};
use super::number::Number;
use super::text::{RawJson, Text};
use super::{EXT_KEYS_MAX, FLAG_BYTES_MAX, FLAGS_MAX, LIST_MAX, NAME_BYTES_MAX, TYPE_BYTES_MAX};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// May be empty where the connection says which session it is.
    pub session_id: Text,
    pub stream_id: Text,
    /// Strictly increasing in a stream.
    pub msg_seq: u64,
    /// From 0 in each message.
    pub frag_seq: u32,
    pub flags: Flags,
    pub qos: Qos,
    /// Hops left; what arrives with 0 is not passed on.
    pub ttl: u8,
    pub window: Window,
    pub window_ext: Ext,
    pub meta: Meta,
    pub payload: Payload,
    /// 64 hexadecimal digits, see [`super::sign`].
    pub sig: Option<Text>,
    /// Of the whole frame, see [`super::checksum`].
    pub checksum: Option<Text>,
    /// Taken once, see [`super::nonce`].
    pub nonce: Option<Text>,
    /// Which key signed.
    pub kid: Option<Text>,
    /// What a final frame took: an object.
    pub telemetry: Option<RawJson>,
    /// The adapter a relayed frame came from.
    pub adapter: Option<Text>,
    pub ext: Ext,
}

/// Quality of service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Qos {
    Gold,
    Silver,
    #[default]
    Bronze,
    /// Some other word: kept, and served as bronze.
    Other(Text),
}

impl Qos {
    pub fn as_str(&self) -> &str {
        match self {
            Qos::Gold => "gold",
            Qos::Silver => "silver",
            Qos::Bronze => "bronze",
            Qos::Other(word) => word.as_str(),
        }
    }

    pub fn of_text(word: Text) -> Qos {
        match word.as_str() {
            "gold" => Qos::Gold,
            "silver" => Qos::Silver,
            "bronze" => Qos::Bronze,
            _ => Qos::Other(word),
        }
    }
}

/// What the sender may have under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    pub max_parallel: u32,
    pub max_tokens: u64,
    pub max_usd_micros: u64,
}

impl Window {
    /// The widest that every existing peer takes.
    pub const WIDEST: Window =
        Window { max_parallel: 1000, max_tokens: 10_000_000, max_usd_micros: 10_000_000_000 };

    /// The smaller of both, in each of the three.
    pub fn min(self, other: Window) -> Window {
        Window {
            max_parallel: self.max_parallel.min(other.max_parallel),
            max_tokens: self.max_tokens.min(other.max_tokens),
            max_usd_micros: self.max_usd_micros.min(other.max_usd_micros),
        }
    }
}

/// What the work is about, for routing and policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    pub task_type: Option<Text>,
    pub languages: Option<Vec<Text>>,
    pub risk: Option<Text>,
    pub data_scope: Option<Vec<Text>>,
    /// Any JSON but null.
    pub trace: Option<RawJson>,
    pub tool_permissions: Option<Vec<Text>>,
    pub environment_id: Option<Text>,
    pub security_groups: Option<Vec<Text>>,
    pub ext: Ext,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// `type` on the wire: what `content` is.
    pub kind: Text,
    pub content: RawJson,
    /// 0 to 1; as it was written, since signatures tell 1 from 1.0.
    pub confidence: Option<Number>,
    pub cost_est: Option<CostEst>,
    pub cost_ext: Ext,
    /// Of a fragment, see [`super::checksum`].
    pub checksum: Option<Text>,
    /// How long a provisional answer holds.
    pub expiry_ms: Option<u64>,
    /// Of the lane, where one stream carries several.
    pub session_id: Option<Text>,
    pub persona_id: Option<Text>,
    pub clone_id: Option<u64>,
    pub seq: Option<u64>,
    pub ext: Ext,
}

impl Payload {
    pub fn new(kind: Text, content: RawJson) -> Payload {
        Payload {
            kind,
            content,
            confidence: None,
            cost_est: None,
            cost_ext: Ext::default(),
            checksum: None,
            expiry_ms: None,
            session_id: None,
            persona_id: None,
            clone_id: None,
            seq: None,
            ext: Ext::default(),
        }
    }
}

/// What the work is expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CostEst {
    pub in_tokens: u64,
    pub out_tokens: u64,
    pub usd_micros: u64,
}

/// Keys without a field: unknown ones, and optional fields that were sent as null, since signatures cover
/// those too. Sorted by key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ext(Vec<(Text, RawJson)>);

impl Ext {
    /// Takes the place of an entry with the same key.
    pub fn insert(&mut self, key: Text, value: RawJson) {
        match self.place(key.as_str()) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    pub fn get(&self, key: &str) -> Option<&RawJson> {
        self.place(key).ok().map(|at| &self.0[at].1)
    }

    pub fn remove(&mut self, key: &str) -> Option<RawJson> {
        self.place(key).ok().map(|at| self.0.remove(at).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Text, &RawJson)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn place(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| own.as_str().cmp(key))
    }
}

impl Frame {
    /// Whether every encoding takes it. Decoders and encoders both ask, so what one gives the others take.
    pub fn check(&self) -> Result<(), Malformed> {
        short("session_id", &self.session_id)?;
        short("stream_id", &self.stream_id)?;
        short_if("sig", &self.sig)?;
        short_if("checksum", &self.checksum)?;
        short_if("nonce", &self.nonce)?;
        short_if("kid", &self.kid)?;
        short_if("adapter", &self.adapter)?;
        if let Qos::Other(word) = &self.qos {
            let is_plain = !matches!(Qos::of_text(word.clone()), Qos::Other(_));
            short("qos", word)?;
            refuse(is_plain, What::Contradiction, "qos")?;
        }
        check_flags(&self.flags)?;
        let is_object = |raw: &RawJson| raw.as_bytes().starts_with(b"{");
        refuse(!self.telemetry.as_ref().is_none_or(is_object), What::WrongType, "telemetry")?;
        check_ext(&self.ext, fields::FRAME, |field| match field {
            Field::Sig => self.sig.is_none(),
            Field::Checksum => self.checksum.is_none(),
            Field::Nonce => self.nonce.is_none(),
            Field::Kid => self.kid.is_none(),
            Field::Telemetry => self.telemetry.is_none(),
            Field::Adapter => self.adapter.is_none(),
            _ => false,
        })?;
        check_ext(&self.window_ext, fields::WINDOW, |_| false)?;
        self.meta.check()?;
        self.payload.check()
    }
}

impl Meta {
    fn check(&self) -> Result<(), Malformed> {
        short_if("task_type", &self.task_type)?;
        short_if("risk", &self.risk)?;
        short_if("environment_id", &self.environment_id)?;
        short_list("languages", &self.languages)?;
        short_list("data_scope", &self.data_scope)?;
        short_list("tool_permissions", &self.tool_permissions)?;
        short_list("security_groups", &self.security_groups)?;
        refuse(self.trace.as_ref().is_some_and(RawJson::is_null), What::WrongType, "trace")?;
        check_ext(&self.ext, fields::META, |field| match field {
            Field::TaskType => self.task_type.is_none(),
            Field::Languages => self.languages.is_none(),
            Field::Risk => self.risk.is_none(),
            Field::DataScope => self.data_scope.is_none(),
            Field::Trace => self.trace.is_none(),
            Field::ToolPermissions => self.tool_permissions.is_none(),
            Field::EnvironmentId => self.environment_id.is_none(),
            Field::SecurityGroups => self.security_groups.is_none(),
            _ => false,
        })
    }
}

impl Payload {
    fn check(&self) -> Result<(), Malformed> {
        refuse(self.kind.len() > TYPE_BYTES_MAX, What::TooLong, "type")?;
        short_if("payload.checksum", &self.checksum)?;
        short_if("payload.session_id", &self.session_id)?;
        short_if("persona_id", &self.persona_id)?;
        let confidence = self.confidence.map_or(0.0, Number::as_f64);
        refuse(!(0.0..=1.0).contains(&confidence), What::Range, "confidence")?;
        check_ext(&self.cost_ext, fields::COST, |_| false)?;
        refuse(self.cost_est.is_none() && !self.cost_ext.is_empty(), What::Missing, "cost_est")?;
        check_ext(&self.ext, fields::PAYLOAD, |field| match field {
            Field::Confidence => self.confidence.is_none(),
            Field::CostEst => self.cost_est.is_none(),
            Field::Checksum => self.checksum.is_none(),
            Field::ExpiryMs => self.expiry_ms.is_none(),
            Field::SessionId => self.session_id.is_none(),
            Field::PersonaId => self.persona_id.is_none(),
            Field::CloneId => self.clone_id.is_none(),
            Field::Seq => self.seq.is_none(),
            _ => false,
        })
    }
}

#[inline(always)]
fn refuse(is_wrong: bool, what: What, field: &'static str) -> Result<(), Malformed> {
    if is_wrong { Err(Malformed::field(what, field)) } else { Ok(()) }
}

#[inline(always)]
fn short(field: &'static str, name: &Text) -> Result<(), Malformed> {
    refuse(name.len() > NAME_BYTES_MAX, What::TooLong, field)
}

#[inline(always)]
fn short_if(field: &'static str, name: &Option<Text>) -> Result<(), Malformed> {
    name.as_ref().map_or(Ok(()), |name| short(field, name))
}

#[inline(always)]
fn short_list(field: &'static str, list: &Option<Vec<Text>>) -> Result<(), Malformed> {
    let Some(list) = list else { return Ok(()) };
    refuse(list.len() > LIST_MAX, What::TooLong, field)?;
    list.iter().try_for_each(|item| short(field, item))
}

fn check_flags(flags: &Flags) -> Result<(), Malformed> {
    let Some(listed) = flags.listed() else { return Ok(()) };
    let is_long = listed.len() > FLAGS_MAX || listed.iter().any(|flag| flag.len() > FLAG_BYTES_MAX);
    refuse(is_long, What::TooLong, "flags")?;
    let is_blank = listed.iter().any(|flag| flag.as_str().trim().is_empty());
    refuse(is_blank, What::Range, "flags")
}

/// No entry may be read as a field, but for the nulls of optional fields that have no value.
#[inline(always)]
fn check_ext(
    ext: &Ext,
    all: &'static [Field],
    has_no_value: impl Fn(Field) -> bool,
) -> Result<(), Malformed> {
    if ext.is_empty() { Ok(()) } else { check_entries(ext, all, has_no_value) }
}

fn check_entries(
    ext: &Ext,
    all: &'static [Field],
    has_no_value: impl Fn(Field) -> bool,
) -> Result<(), Malformed> {
    refuse(ext.0.len() > EXT_KEYS_MAX, What::TooLong, "ext")?;
    let is_taken = |(key, raw): (&Text, &RawJson)| {
        let field = fields::of_key(key.as_str().as_bytes(), all, &mut 0);
        field.is_some_and(|field| {
            let is_null = raw.is_null() && field.name() == key.as_str();
            !(is_null && has_no_value(field))
        })
    };
    refuse(ext.iter().any(is_taken), What::Contradiction, "ext")
}
