//! Whole frames through all codecs. Vectors that others computed are in `golden.rs`.

mod arbitrary;
mod bin;
mod cbor;
mod checks;
mod golden;
mod json;
mod property;

use bytes::Bytes;

use super::{Ext, FlagSet, Flags, Frame, Meta, Payload, Qos, RawJson, Text, Window};

fn plain() -> Frame {
    Frame {
        session_id: "s1".into(),
        stream_id: "st1".into(),
        msg_seq: 1,
        frag_seq: 0,
        flags: FlagSet::SYN.into(),
        qos: Qos::Gold,
        ttl: 8,
        window: Window { max_parallel: 4, max_tokens: 50_000, max_usd_micros: 1_000_000 },
        window_ext: Ext::default(),
        meta: Meta { task_type: Some("qa".into()), ..Meta::default() },
        payload: Payload::new("agent.result.partial".into(), raw(r#"{"text":"héllo"}"#)),
        sig: None,
        checksum: None,
        nonce: None,
        kid: None,
        telemetry: None,
        adapter: None,
        ext: Ext::default(),
    }
}

fn raw(json: &str) -> RawJson {
    RawJson::parse(json.to_owned()).unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn flags(list: &[&str]) -> Flags {
    Flags::of_list(list.iter().map(|flag| Text::from(*flag)).collect())
}
