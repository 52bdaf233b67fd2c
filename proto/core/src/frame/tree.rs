//! The fields of a frame in the order they are written, for whoever takes them: a tree, or JSON at once. The
//! counterpart of [`super::draft`].

use std::borrow::Cow;

use super::VERSION;
use super::fields::Field;
use super::model::{Ext, Frame, Meta, Payload, Qos};
use super::node::Node;
use super::number::Number;
use super::text::{RawJson, Text};

/// Takes the entries of an object one by one.
pub(super) trait Entries<'a> {
    fn text(&mut self, field: Field, text: &'a Text);
    fn word(&mut self, field: Field, word: &'static str);
    fn number(&mut self, field: Field, number: Number);
    /// Each of them UTF-8.
    fn list(&mut self, field: Field, texts: impl Iterator<Item = &'a [u8]>);
    fn raw(&mut self, field: Field, json: &'a RawJson);
    /// A key that is no field's.
    fn unknown(&mut self, key: &'a Text, json: &'a RawJson);
    /// An object, of the entries that `fill` puts.
    fn object(&mut self, field: Field, fill: impl FnOnce(&mut Self));
}

impl Frame {
    pub(super) fn node(&self) -> Node<'_> {
        let mut out = Tree(Vec::with_capacity(18 + self.ext.iter().count()));
        self.put(&mut out);
        Node::Map(out.0)
    }

    pub(super) fn put<'a>(&'a self, out: &mut impl Entries<'a>) {
        out.number(Field::V, Number::Positive(VERSION));
        out.text(Field::SessionId, &self.session_id);
        out.text(Field::StreamId, &self.stream_id);
        out.number(Field::MsgSeq, Number::Positive(self.msg_seq));
        out.number(Field::FragSeq, Number::Positive(self.frag_seq.into()));
        out.list(Field::Flags, self.flags.names().map(str::as_bytes));
        match &self.qos {
            Qos::Gold => out.word(Field::Qos, "gold"),
            Qos::Silver => out.word(Field::Qos, "silver"),
            Qos::Bronze => out.word(Field::Qos, "bronze"),
            Qos::Other(word) => out.text(Field::Qos, word),
        }
        out.number(Field::Ttl, Number::Positive(self.ttl.into()));
        out.object(Field::Window, |out| {
            out.number(Field::MaxParallel, Number::Positive(self.window.max_parallel.into()));
            out.number(Field::MaxTokens, Number::Positive(self.window.max_tokens));
            out.number(Field::MaxUsdMicros, Number::Positive(self.window.max_usd_micros));
            put_ext(out, &self.window_ext);
        });
        out.object(Field::Meta, |out| self.meta.put(out));
        out.object(Field::Payload, |out| {
            out.text(Field::Type, &self.payload.kind);
            out.raw(Field::Content, &self.payload.content);
            self.payload.put_rest(out);
        });
        self.put_optional(out);
    }

    /// What the header and the other sections of the binary layout have no place for; nothing for most
    /// frames.
    pub(super) fn put_unplaced<'a>(&'a self, out: &mut impl Entries<'a>) {
        if self.flags.listed().is_some() {
            out.list(Field::Flags, self.flags.names().map(str::as_bytes));
        }
        if let Qos::Other(word) = &self.qos {
            out.text(Field::Qos, word);
        }
        if !self.window_ext.is_empty() {
            out.object(Field::Window, |out| put_ext(out, &self.window_ext));
        }
        if !self.payload.is_plain() {
            out.object(Field::Payload, |out| self.payload.put_rest(out));
        }
        self.put_optional(out);
    }

    fn put_optional<'a>(&'a self, out: &mut impl Entries<'a>) {
        put_text(out, Field::Sig, &self.sig);
        put_text(out, Field::Checksum, &self.checksum);
        put_text(out, Field::Nonce, &self.nonce);
        put_text(out, Field::Kid, &self.kid);
        if let Some(telemetry) = &self.telemetry {
            out.raw(Field::Telemetry, telemetry);
        }
        put_text(out, Field::Adapter, &self.adapter);
        put_ext(out, &self.ext);
    }
}

impl Meta {
    pub(super) fn put<'a>(&'a self, out: &mut impl Entries<'a>) {
        put_text(out, Field::TaskType, &self.task_type);
        put_list(out, Field::Languages, &self.languages);
        put_text(out, Field::Risk, &self.risk);
        put_list(out, Field::DataScope, &self.data_scope);
        if let Some(trace) = &self.trace {
            out.raw(Field::Trace, trace);
        }
        put_list(out, Field::ToolPermissions, &self.tool_permissions);
        put_text(out, Field::EnvironmentId, &self.environment_id);
        put_list(out, Field::SecurityGroups, &self.security_groups);
        put_ext(out, &self.ext);
    }
}

impl Payload {
    /// Whether there is nothing but type and content.
    fn is_plain(&self) -> bool {
        self.confidence.is_none()
            && self.cost_est.is_none()
            && self.checksum.is_none()
            && self.expiry_ms.is_none()
            && self.session_id.is_none()
            && self.persona_id.is_none()
            && self.clone_id.is_none()
            && self.seq.is_none()
            && self.ext.is_empty()
    }

    /// All but type and content.
    fn put_rest<'a>(&'a self, out: &mut impl Entries<'a>) {
        if let Some(confidence) = self.confidence {
            out.number(Field::Confidence, confidence);
        }
        if let Some(cost) = &self.cost_est {
            out.object(Field::CostEst, |out| {
                out.number(Field::InTokens, Number::Positive(cost.in_tokens));
                out.number(Field::OutTokens, Number::Positive(cost.out_tokens));
                out.number(Field::UsdMicros, Number::Positive(cost.usd_micros));
                put_ext(out, &self.cost_ext);
            });
        }
        put_text(out, Field::Checksum, &self.checksum);
        put_u64(out, Field::ExpiryMs, self.expiry_ms);
        put_text(out, Field::SessionId, &self.session_id);
        put_text(out, Field::PersonaId, &self.persona_id);
        put_u64(out, Field::CloneId, self.clone_id);
        put_u64(out, Field::Seq, self.seq);
        put_ext(out, &self.ext);
    }
}

fn put_text<'a>(out: &mut impl Entries<'a>, field: Field, text: &'a Option<Text>) {
    if let Some(text) = text {
        out.text(field, text);
    }
}

fn put_u64<'a>(out: &mut impl Entries<'a>, field: Field, number: Option<u64>) {
    if let Some(number) = number {
        out.number(field, Number::Positive(number));
    }
}

fn put_list<'a>(out: &mut impl Entries<'a>, field: Field, list: &'a Option<Vec<Text>>) {
    if let Some(list) = list {
        out.list(field, list.iter().map(|text| &text.as_bytes()[..]));
    }
}

fn put_ext<'a>(out: &mut impl Entries<'a>, ext: &'a Ext) {
    ext.iter().for_each(|(key, json)| out.unknown(key, json));
}

/// The entries of a map.
struct Tree<'a>(Vec<(Cow<'a, str>, Node<'a>)>);

impl<'a> Tree<'a> {
    fn push(&mut self, field: Field, node: Node<'a>) {
        self.0.push((Cow::Borrowed(field.name()), node));
    }
}

impl<'a> Entries<'a> for Tree<'a> {
    fn text(&mut self, field: Field, text: &'a Text) {
        self.push(field, Node::Text(Cow::Borrowed(text.as_str())));
    }

    fn word(&mut self, field: Field, word: &'static str) {
        self.push(field, Node::Text(Cow::Borrowed(word)));
    }

    fn number(&mut self, field: Field, number: Number) {
        self.push(field, Node::Number(number));
    }

    fn list(&mut self, field: Field, texts: impl Iterator<Item = &'a [u8]>) {
        let str = |text| std::str::from_utf8(text).expect("a Text is made from UTF-8 only");
        let texts = texts.map(|text| Node::Text(Cow::Borrowed(str(text))));
        self.push(field, Node::List(texts.collect()));
    }

    fn raw(&mut self, field: Field, json: &'a RawJson) {
        self.push(field, Node::Raw(json));
    }

    fn unknown(&mut self, key: &'a Text, json: &'a RawJson) {
        self.0.push((Cow::Borrowed(key.as_str()), Node::Raw(json)));
    }

    fn object(&mut self, field: Field, fill: impl FnOnce(&mut Self)) {
        let mut inner = Tree(Vec::new());
        fill(&mut inner);
        self.push(field, Node::Map(inner.0));
    }
}
