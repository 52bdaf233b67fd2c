//! Names of fields, object by object, and which key means which of them.

macro_rules! fields {
    ($($field:ident $name:literal $camel:literal,)*) => {
        /// A field of any of a frame's own objects.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Field { $($field,)* }

        impl Field {
            /// As it is documented.
            #[inline(always)]
            pub fn name(self) -> &'static str {
                const NAMES: &[&str] = &[$($name,)*];
                NAMES[self as usize]
            }

            /// As a key of JSON, colon included.
            #[inline(always)]
            pub fn key(self) -> &'static str {
                const KEYS: &[&str] = &[$(concat!("\"", $name, "\":"),)*];
                KEYS[self as usize]
            }

            /// In camel case.
            pub fn camel(self) -> &'static str {
                match self { $(Field::$field => $camel,)* }
            }
        }
    };
}

fields! {
    V "v" "v",
    SessionId "session_id" "sessionId",
    StreamId "stream_id" "streamId",
    MsgSeq "msg_seq" "msgSeq",
    FragSeq "frag_seq" "fragSeq",
    Flags "flags" "flags",
    Qos "qos" "qos",
    Ttl "ttl" "ttl",
    Window "window" "window",
    Meta "meta" "meta",
    Payload "payload" "payload",
    Sig "sig" "sig",
    Checksum "checksum" "checksum",
    Nonce "nonce" "nonce",
    Kid "kid" "kid",
    Telemetry "telemetry" "telemetry",
    Adapter "adapter" "adapter",
    MaxParallel "max_parallel" "maxParallel",
    MaxTokens "max_tokens" "maxTokens",
    MaxUsdMicros "max_usd_micros" "maxUsdMicros",
    TaskType "task_type" "taskType",
    Languages "languages" "languages",
    Risk "risk" "risk",
    DataScope "data_scope" "dataScope",
    Trace "trace" "trace",
    ToolPermissions "tool_permissions" "toolPermissions",
    EnvironmentId "environment_id" "environmentId",
    SecurityGroups "security_groups" "securityGroups",
    Type "type" "type",
    Content "content" "content",
    Confidence "confidence" "confidence",
    CostEst "cost_est" "costEst",
    ExpiryMs "expiry_ms" "expiryMs",
    PersonaId "persona_id" "personaId",
    CloneId "clone_id" "cloneId",
    Seq "seq" "seq",
    InTokens "in_tokens" "inTokens",
    OutTokens "out_tokens" "outTokens",
    UsdMicros "usd_micros" "usdMicros",
}

/// Which fields of an object have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen(u64);

impl Seen {
    pub const fn of(fields: &[Field]) -> Seen {
        let (mut seen, mut at) = (0, 0);
        while at < fields.len() {
            seen |= 1 << fields[at] as u64;
            at += 1;
        }
        Seen(seen)
    }

    /// Whether it is the first time.
    pub fn add(&mut self, field: Field) -> bool {
        let before = self.0;
        self.0 |= 1 << field as u64;
        before != self.0
    }

    pub fn has(self, field: Field) -> bool {
        self.0 & 1 << field as u64 != 0
    }

    pub fn has_any(self, of: Seen) -> bool {
        self.0 & of.0 != 0
    }
}

/// The field a key names, in the documented spelling or in camel case. `guess` is where in `all` it is looked
/// for first: peers write fields in the same order every time, mostly the documented one.
#[inline(always)]
pub fn of_key(key: &[u8], all: &'static [Field], guess: &mut usize) -> Option<Field> {
    let at = match all.get(*guess) {
        Some(field) if field.name().as_bytes() == key => *guess,
        _ => place_of(key, all)?,
    };
    *guess = at + 1;
    Some(all[at])
}

fn place_of(key: &[u8], all: &'static [Field]) -> Option<usize> {
    let by = |name: fn(Field) -> &'static str| all.iter().position(|field| name(*field).as_bytes() == key);
    by(Field::name).or_else(|| by(Field::camel))
}

pub const FRAME: &[Field] = &[
    Field::V,
    Field::SessionId,
    Field::StreamId,
    Field::MsgSeq,
    Field::FragSeq,
    Field::Flags,
    Field::Qos,
    Field::Ttl,
    Field::Window,
    Field::Meta,
    Field::Payload,
    Field::Sig,
    Field::Checksum,
    Field::Nonce,
    Field::Kid,
    Field::Telemetry,
    Field::Adapter,
];

pub const WINDOW: &[Field] = &[Field::MaxParallel, Field::MaxTokens, Field::MaxUsdMicros];

pub const META: &[Field] = &[
    Field::TaskType,
    Field::Languages,
    Field::Risk,
    Field::DataScope,
    Field::Trace,
    Field::ToolPermissions,
    Field::EnvironmentId,
    Field::SecurityGroups,
];

pub const PAYLOAD: &[Field] = &[
    Field::Type,
    Field::Content,
    Field::Confidence,
    Field::CostEst,
    Field::Checksum,
    Field::ExpiryMs,
    Field::SessionId,
    Field::PersonaId,
    Field::CloneId,
    Field::Seq,
];

pub const COST: &[Field] = &[Field::InTokens, Field::OutTokens, Field::UsdMicros];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_both_names_wherever_it_is_looked_for_first() {
        for all in [FRAME, WINDOW, META, PAYLOAD, COST] {
            for first in 0..=all.len() {
                for (at, field) in all.iter().enumerate() {
                    for name in [field.name(), field.camel()] {
                        let mut guess = first;
                        assert_eq!(of_key(name.as_bytes(), all, &mut guess), Some(*field));
                        assert_eq!(guess, at + 1);
                    }
                }
            }
            assert_eq!(of_key(b"Session_id", all, &mut 0), None);
            assert_eq!(of_key(b"", all, &mut 0), None);
        }
    }

    #[test]
    fn camel_case_is_the_name_with_capitals_in_place_of_underscores() {
        for field in [FRAME, WINDOW, META, PAYLOAD, COST].concat() {
            let mut words = field.name().split('_');
            let first = words.next().unwrap().to_owned();
            let camel = words.fold(first, |camel, word| camel + &word[..1].to_uppercase() + &word[1..]);
            assert_eq!(field.camel(), camel);
        }
    }
}
