//! What a persona adds to a request: a system message before the caller's own, and its sampling in place of
//! the caller's. Values that it does not touch stay byte for byte.

use std::fmt;

use bytes::Bytes;
use proto_core::model::Persona;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json::{put, quote};
use crate::fault::{Fault, Kind};

/// One persona, or several that stand over each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// A message as JSON.
    system: Bytes,
    /// Names and values, as JSON.
    sampling: Box<[(&'static str, Box<str>)]>,
    max_tokens: Option<u64>,
}

impl Role {
    /// `personas`: the outermost first. It speaks first, and where two say the same thing it is right.
    pub fn of(personas: &[&Persona]) -> Option<Role> {
        if personas.is_empty() {
            return None;
        }
        let text = personas.iter().map(|persona| &*persona.system).collect::<Vec<_>>().join("\n\n");
        let mut system = br#"{"role":"system","content":"#.to_vec();
        quote(&text, &mut system);
        system.push(b'}');
        let temperature = personas.iter().find_map(|persona| persona.temperature_permille);
        let top_p = personas.iter().find_map(|persona| persona.top_p_permille);
        let sampling = [("temperature", temperature), ("top_p", top_p)];
        let sampling = sampling.into_iter().filter_map(|(name, permille)| Some((name, decimal(permille?))));
        Some(Role {
            system: system.into(),
            sampling: sampling.collect(),
            max_tokens: personas.iter().filter_map(|persona| persona.max_tokens).min().map(u64::from),
        })
    }

    /// `body`, a chat request, as the model in this role shall see it.
    ///
    /// # Errors
    /// `InvalidField`: it has no list of messages, so there is nothing to play before.
    pub fn apply(&self, body: &[u8]) -> Result<Vec<u8>, Fault> {
        const WHAT: &str = "a list of messages: a persona only chats";
        let nothing = Fault::client(Kind::InvalidField("messages", WHAT));
        let Fields(fields) = serde_json::from_slice(body).map_err(|_| nothing)?;
        let mut told = Vec::with_capacity(body.len() + self.system.len() + 128);
        let mut has_messages = false;
        let mut most = self.max_tokens;
        for (name, value) in &fields {
            match name.as_str() {
                "messages" => {
                    let rest = value.get().strip_prefix('[').ok_or(nothing)?;
                    has_messages = true;
                    key(name, &mut told);
                    told.push(b'[');
                    told.extend_from_slice(&self.system);
                    if !rest.trim_start().starts_with(']') {
                        told.push(b',');
                    }
                    told.extend_from_slice(rest.as_bytes());
                }
                "max_tokens" | "max_completion_tokens" => {
                    // What is no number is the upstream's to refuse.
                    let own = value.get().parse::<u64>().ok();
                    key(name, &mut told);
                    match (own, self.max_tokens) {
                        (Some(own), Some(most)) if own > most => put!(&mut told, "{most}"),
                        (None, Some(most)) if value.get() == "null" => put!(&mut told, "{most}"),
                        _ => told.extend_from_slice(value.get().as_bytes()),
                    }
                    most = None;
                }
                name if self.sampling.iter().any(|(own, _)| *own == name) => {}
                _ => {
                    key(name, &mut told);
                    told.extend_from_slice(value.get().as_bytes());
                }
            }
        }
        if !has_messages {
            return Err(nothing);
        }
        for (name, value) in &self.sampling {
            key(name, &mut told);
            told.extend_from_slice(value.as_bytes());
        }
        if let Some(most) = most {
            key("max_tokens", &mut told);
            put!(&mut told, "{most}");
        }
        told.push(b'}');
        Ok(told)
    }
}

/// What stands before a value: the object's start or a comma, and its name.
fn key(name: &str, told: &mut Vec<u8>) {
    told.push(if told.is_empty() { b'{' } else { b',' });
    quote(name, told);
    told.push(b':');
}

fn decimal(permille: u16) -> Box<str> {
    format!("{}.{:03}", permille / 1000, permille % 1000).into()
}

/// An object's members in their order, the values unread.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields<'de>, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn persona(system: &str, temperature: Option<u16>, max_tokens: Option<u32>) -> Persona {
        let (temperature_permille, top_p_permille) = (temperature, None);
        Persona { over: None, system: system.into(), temperature_permille, top_p_permille, max_tokens }
    }

    fn applied(role: &Role, body: &str) -> String {
        String::from_utf8(role.apply(body.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_role_speaks_first_and_leaves_the_rest_as_it_is() {
        let role = Role::of(&[&persona("Say \"no\".", None, None)]).unwrap();
        let body = r#"{ "model":"m", "messages" : [ {"role":"user","content":"h\u00e9"} ],"x":[1.0, 2] }"#;
        let told = r#"{"model":"m","messages":[{"role":"system","content":"Say \"no\"."}, "#.to_owned()
            + r#"{"role":"user","content":"h\u00e9"} ],"x":[1.0, 2]}"#;
        assert_eq!(applied(&role, body), told);
        let alone = r#"{"messages":[{"role":"system","content":"Say \"no\"."}]}"#;
        assert_eq!(applied(&role, r#"{"messages":[]}"#), alone);
    }

    #[test]
    fn its_sampling_stands_in_place_of_the_callers_and_the_lower_limit_counts() {
        let role = Role::of(&[&persona("s", Some(250), Some(100))]).unwrap();
        let of = |fields: &str| {
            let told = applied(&role, &format!(r#"{{"messages":[]{fields}}}"#));
            told.split_once("\"}]").unwrap().1.to_owned()
        };
        assert_eq!(of(""), r#","temperature":0.250,"max_tokens":100}"#);
        assert_eq!(of(r#","temperature":2,"max_tokens":101"#), r#","max_tokens":100,"temperature":0.250}"#);
        let fewer = r#","max_completion_tokens":99"#;
        assert_eq!(of(fewer), format!(r#"{fewer},"temperature":0.250}}"#));
        assert_eq!(of(r#","max_tokens":null"#), r#","max_tokens":100,"temperature":0.250}"#);
        assert_eq!(of(r#","max_tokens":"x""#), r#","max_tokens":"x","temperature":0.250}"#);
    }

    #[test]
    fn of_two_the_outer_one_speaks_first_and_is_right() {
        let (outer, inner) = (persona("a", Some(1000), Some(9)), persona("b", Some(0), Some(5)));
        let role = Role::of(&[&outer, &inner]).unwrap();
        let told =
            r#"{"messages":[{"role":"system","content":"a\n\nb"}],"temperature":1.000,"max_tokens":5}"#;
        assert_eq!(applied(&role, r#"{"messages":[]}"#), told);
        assert_eq!(Role::of(&[]), None);
    }

    #[test]
    fn where_nobody_chats_there_is_no_role() {
        let role = Role::of(&[&persona("s", None, None)]).unwrap();
        for body in [r#"{"prompt":"x"}"#, r#"{"messages":"x"}"#, "[]", ""] {
            let Err(Fault { kind: Kind::InvalidField("messages", _), .. }) = role.apply(body.as_bytes())
            else {
                panic!("{body}");
            };
        }
    }
}
