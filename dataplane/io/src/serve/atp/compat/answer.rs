//! Answers in the shapes existing clients read.
//!
//! The older router answers with frames: ACK, one for each piece, FIN. The SDKs wait for one object, and each
//! looks for it in another place: all of them are filled.

use bytes::Bytes;
use dataplane_core::dialect::errors::frame_code;
use dataplane_core::fault::Fault;
use proto_core::frame::{Frame, Qos, Shape, Text};
use proto_core::session::Refusal;
use serde_json::{Value, json};

use crate::serve::atp::work::Done;

/// How a peer wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// In frames, as they come.
    Frames,
    /// One object at the end.
    Object,
}

impl Style {
    /// SDKs ask for a `completion`; the older router's clients send questions and results.
    pub fn of(shape: Shape, frame: &Frame) -> Style {
        let kind = frame.payload.kind.as_str();
        let is_sdk = kind.starts_with("completion") || kind.starts_with("adapter.") || kind == "heartbeat";
        if shape == Shape::Plain && !is_sdk { Style::Frames } else { Style::Object }
    }
}

/// Who asked, and what of the answer has been said.
#[derive(Debug)]
pub struct Asker {
    style: Style,
    session_id: Text,
    stream_id: Text,
    msg_seq: u64,
    qos: Qos,
    ttl: u8,
    window: Value,
    adapter: Option<Text>,
}

/// The same in words of its own, where it is one of the protocol's.
fn own(qos: &Qos) -> Qos {
    match qos {
        Qos::Other(word) => Qos::of_text(Text::from(word.as_str())),
        known => known.clone(),
    }
}

impl Asker {
    pub fn new(frame: &Frame, style: Style) -> Asker {
        let window = frame.window;
        Asker {
            style,
            // Words of their own: the frame's would keep all of the message it came in.
            session_id: Text::from(frame.session_id.as_str()),
            stream_id: Text::from(frame.stream_id.as_str()),
            msg_seq: frame.msg_seq,
            qos: own(&frame.qos),
            ttl: frame.ttl - 1,
            window: json!({
                "max_parallel": window.max_parallel,
                "max_tokens": window.max_tokens,
                "max_usd_micros": window.max_usd_micros,
            }),
            adapter: None,
        }
    }

    pub fn session_id(&self) -> &str {
        self.session_id.as_str()
    }

    pub fn stream_id(&self) -> &str {
        self.stream_id.as_str()
    }

    pub fn is_bronze(&self) -> bool {
        !matches!(self.qos, Qos::Gold | Qos::Silver)
    }

    /// It is being answered.
    pub fn began(&mut self, adapter: Text) -> Option<Bytes> {
        self.adapter = Some(adapter);
        let ack = json!({ "router": "ack" });
        (self.style == Style::Frames).then(|| self.frame(0, "ACK", "agent.result.partial", ack, None))
    }

    /// Some text, as it stands between the quotes of JSON.
    pub fn piece(&mut self, raw: &[u8]) -> Option<Bytes> {
        // These peers get the content as the text of a JSON value, and parse it themselves.
        let inner = format!(r#"{{"text":"{}"}}"#, String::from_utf8_lossy(raw));
        let wants = self.style == Style::Frames;
        wants.then(|| self.frame(1, "MORE", "agent.result.partial", json!(inner), None))
    }

    pub fn done(&self, done: &Done) -> Bytes {
        let raw = done.text.as_deref().unwrap_or_default();
        let quoted = [b"\"", raw, b"\""].concat();
        // What stands between the quotes was checked when it came.
        let text: String = serde_json::from_slice(&quoted).unwrap_or_default();
        let usage = done.usage;
        let usd = done.cost.as_usd_micros_ceil() as f64 / 1e6;
        if self.style == Style::Frames {
            let content = json!({
                "finals": [text],
                "representatives": [[0, text]],
                "groups": [[0]],
                "scores": [1.0],
            });
            let latency_ms = u64::try_from(done.latency.as_millis()).unwrap_or(u64::MAX);
            let telemetry =
                json!({ "tokens": usage.input + usage.output, "usd": usd, "latency_ms": latency_ms });
            return self.frame(2, "FIN", "agent.result.final", content, Some(telemetry));
        }
        let content = json!({
            "text": text,
            "model_used": done.model.as_str(),
            "adapter": done.adapter.as_str(),
            "tokens_in": usage.input,
            "tokens_out": usage.output,
            "cost_usd": usd,
            "quality_score": null,
            "content": {
                "text": text,
                "modelUsed": done.model.as_str(),
                "tokensIn": usage.input,
                "tokensOut": usage.output,
                "costUsd": usd,
                "qualityScore": null,
            },
        });
        self.object("completion_response", content)
    }

    pub fn failed(&self, fault: Fault, reason: &str) -> Bytes {
        if self.style == Style::Frames {
            let error = json!({
                "error": "rpc",
                "adapter": self.adapter.as_ref().map(Text::as_str),
                "code": frame_code(fault).as_str(),
                "reason": reason,
            });
            let payload = json!({ "type": "agent.result.partial", "content": { "adapter_error": error } });
            return json!({ "payload": payload }).to_string().into();
        }
        let error = json!({ "code": fault.code(), "message": reason });
        let mut object = self.head("error");
        object["error"] = error.clone();
        object["payload"] = json!({ "type": "error", "error": error, "content": { "error": error } });
        object.to_string().into()
    }

    /// There is no room for it now. `again`: it was told so before, and is not worth waiting for.
    pub fn busy(&self, again: bool) -> Bytes {
        match (self.style, again) {
            (Style::Frames, true) => {
                Bytes::from_static(br#"{"control.status":"ECN","action":"drop","reason":"pressure"}"#)
            }
            (Style::Frames, false) => {
                Bytes::from_static(br#"{"control.status":"BUSY","suggested_wait_ms":200}"#)
            }
            (Style::Object, _) => {
                let mut object = self.head("error");
                let error = json!({ "code": "backpressure", "message": "busy; try again in 200 ms" });
                object["error"] = error.clone();
                object["payload"] = json!({ "type": "error", "error": error, "content": { "error": error } });
                object.to_string().into()
            }
        }
    }

    /// A heartbeat; some clients fail without an answer to it.
    pub fn heard(&self) -> Option<Bytes> {
        let is_asking = self.style == Style::Object;
        is_asking
            .then(|| self.object("completion_response", json!({ "text": "", "content": { "text": "" } })))
    }

    /// An adapter that said what it can, where it is, or how.
    pub fn registered(&self, mut told: Value) -> Bytes {
        told["content"] = json!({});
        self.object("completion_response", told)
    }

    /// What it said is not for it to say.
    pub fn refused(&self, refusal: &Refusal) -> Bytes {
        let error = json!({ "code": refusal.code.as_str(), "message": refusal.reason.as_str() });
        let mut object = self.head("error");
        object["error"] = error.clone();
        object["payload"] = json!({ "type": "error", "error": error, "content": { "error": error } });
        object.to_string().into()
    }

    fn head(&self, kind: &str) -> Value {
        json!({
            "v": 1,
            "type": kind,
            "session_id": self.session_id.as_str(),
            "sessionId": self.session_id.as_str(),
            "stream_id": self.stream_id.as_str(),
            "streamId": self.stream_id.as_str(),
            "msg_seq": self.msg_seq,
            "msgSeq": self.msg_seq,
            "frag_seq": 0,
            "fragSeq": 0,
            "flags": ["FIN"],
            "qos": self.qos.as_str(),
            "ttl": self.ttl,
            "window": self.window,
            "meta": {},
        })
    }

    /// `content` where each of the SDKs looks for it.
    fn object(&self, kind: &str, content: Value) -> Bytes {
        let mut object = self.head(kind);
        let mut payload = content.clone();
        payload["type"] = json!(kind);
        payload["content"] = content.clone();
        object["payload"] = payload;
        object["content"] = content;
        object.to_string().into()
    }

    fn frame(&self, ahead: u64, flag: &str, kind: &str, content: Value, telemetry: Option<Value>) -> Bytes {
        let mut frame = json!({
            "v": 1,
            "session_id": self.session_id.as_str(),
            "stream_id": self.stream_id.as_str(),
            "msg_seq": self.msg_seq.saturating_add(ahead),
            "frag_seq": 0,
            "flags": [flag],
            "qos": self.qos.as_str(),
            "ttl": self.ttl,
            "window": self.window,
            "meta": {},
            "payload": { "type": kind, "content": content, "confidence": null },
        });
        if let Some(adapter) = &self.adapter {
            frame["adapter"] = json!(adapter.as_str());
        }
        if let Some(telemetry) = telemetry {
            frame["telemetry"] = telemetry;
        }
        frame.to_string().into()
    }
}
