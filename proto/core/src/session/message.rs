//! What one end says at once in a stream: a frame without its numbers, whatever the size of its content.

use crate::frame::{CostEst, Ext, FlagSet, Flags, Frame, Meta, Number, Payload, Qos, RawJson, Text, Window};

/// The content shares the memory of the frame it came in; so does every clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `type` of the payload.
    pub kind: Text,
    pub content: RawJson,
    /// The last of this end in the stream (FIN).
    pub is_last: bool,
    /// `None`: the session's.
    pub qos: Option<Qos>,
    /// Hops left. Of a message that came: those left for whoever passes it on.
    pub ttl: u8,
    /// `None`: the session's.
    pub window: Option<Window>,
    pub meta: Option<Box<Meta>>,
    pub adapter: Option<Text>,
    pub telemetry: Option<RawJson>,
    pub more: Option<Box<More>>,
}

/// What few messages say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct More {
    pub confidence: Option<Number>,
    pub cost_est: Option<CostEst>,
    pub expiry_ms: Option<u64>,
    pub lane: Lane,
    /// Unknown keys of the frame, its window and its payload.
    pub ext: Ext,
    pub window_ext: Ext,
    pub payload_ext: Ext,
    pub cost_ext: Ext,
}

/// Which lane of a stream, where it carries several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lane {
    pub session_id: Option<Text>,
    pub persona_id: Option<Text>,
    pub clone_id: Option<u64>,
    pub seq: Option<u64>,
}

impl Message {
    pub fn new(kind: impl Into<Text>, content: RawJson) -> Message {
        Message {
            kind: kind.into(),
            content,
            is_last: false,
            qos: None,
            ttl: TTL,
            window: None,
            meta: None,
            adapter: None,
            telemetry: None,
            more: None,
        }
    }

    /// Its end of the stream says nothing after it.
    pub fn last(self) -> Message {
        Message { is_last: true, ..self }
    }

    /// Of a frame that is a whole message, or the first fragment of one. One hop is gone. What only vouches
    /// for the frame (signature, checksums) stays behind.
    pub fn of_frame(frame: Frame) -> Message {
        let Payload { confidence, cost_est, expiry_ms, .. } = frame.payload;
        let payload = frame.payload;
        let more = More {
            confidence,
            cost_est,
            expiry_ms,
            lane: Lane {
                session_id: payload.session_id,
                persona_id: payload.persona_id,
                clone_id: payload.clone_id,
                seq: payload.seq,
            },
            ext: frame.ext,
            window_ext: frame.window_ext,
            payload_ext: payload.ext,
            cost_ext: payload.cost_ext,
        };
        Message {
            kind: payload.kind,
            content: payload.content,
            is_last: frame.flags.has(FlagSet::FIN),
            qos: Some(frame.qos),
            ttl: frame.ttl.saturating_sub(1),
            window: Some(frame.window),
            meta: (frame.meta != Meta::default()).then(|| Box::new(frame.meta)),
            adapter: frame.adapter,
            telemetry: frame.telemetry,
            more: (more != More::default()).then(|| Box::new(more)),
        }
    }

    /// The frame that carries it whole. Copies handles, never content.
    pub fn into_frame(self, place: Place) -> Frame {
        let more = self.more.map_or_else(More::default, |more| *more);
        let mut payload = Payload::new(self.kind, self.content);
        payload.confidence = more.confidence;
        payload.cost_est = more.cost_est;
        payload.cost_ext = more.cost_ext;
        payload.expiry_ms = more.expiry_ms;
        payload.session_id = more.lane.session_id;
        payload.persona_id = more.lane.persona_id;
        payload.clone_id = more.lane.clone_id;
        payload.seq = more.lane.seq;
        payload.ext = more.payload_ext;
        Frame {
            session_id: place.session_id,
            stream_id: place.stream_id,
            msg_seq: place.msg_seq,
            frag_seq: 0,
            flags: if self.is_last { FlagSet::FIN.into() } else { Flags::default() },
            qos: self.qos.unwrap_or(place.qos),
            ttl: self.ttl,
            window: self.window.unwrap_or(place.window),
            window_ext: more.window_ext,
            meta: self.meta.map_or_else(Meta::default, |meta| *meta),
            payload,
            sig: None,
            checksum: None,
            nonce: None,
            kid: None,
            telemetry: self.telemetry,
            adapter: self.adapter,
            ext: more.ext,
        }
    }
}

/// Where in a session a message is, and what it says where it does not say itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    pub session_id: Text,
    pub stream_id: Text,
    pub msg_seq: u64,
    pub qos: Qos,
    pub window: Window,
}

/// Hops of a message that does not say: client, proxies, adapter, and back, twice.
pub const TTL: u8 = 8;
