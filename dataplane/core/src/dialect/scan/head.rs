//! The values a scan yields.

use proto_core::model::NAME_BYTES_MAX;
use proto_core::units::Picodollars;

use super::super::json::Span;

/// Which keys of a body are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/ask`
    Ask,
    /// `POST /v1/messages`
    Messages,
}

/// What a request asks for, by what stands in its body. No heap; copied freely.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    pub profile: Profile,
    /// Of the whole body.
    pub body_bytes: u64,
    /// Offset just after the `{` of the top-level object.
    pub inside: u64,
    /// The top-level object has no members.
    pub is_empty: bool,
    /// Always there but in [`Profile::Ask`].
    pub model: Option<Named>,
    /// False where absent or null.
    pub stream: bool,
    /// `stream` stands there, whatever it says.
    pub says_stream: bool,
    pub max_tokens: Option<u64>,
    pub max_completion_tokens: Option<u64>,
    /// Answers wanted.
    pub n: Option<u64>,
    /// `tools` is an array that is not empty.
    pub has_tools: bool,
    pub stream_options: StreamOptions,
    /// The value of `messages`, `prompt` or `input`, whichever the profile has; as it stands in the body.
    pub content: Option<Span>,
    /// Bytes of `system`, where that stands beside `messages`.
    pub system_bytes: u64,
    /// Elements of `messages`, or of a `prompt` or `input` that is an array.
    pub items: u64,
    /// Read only in [`Profile::Ask`].
    pub ask: Asked,
}

/// A string of the body: where it stands, and what it says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Named {
    /// Quotes included.
    pub span: Span,
    pub name: Inline<NAME_BYTES_MAX>,
}

/// `stream_options` of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOptions {
    Absent,
    Null(Span),
    /// `span` includes the braces.
    Object {
        span: Span,
        is_empty: bool,
        include_usage: Option<UsageFlag>,
    },
}

/// `stream_options.include_usage` of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageFlag {
    pub span: Span,
    /// False where null.
    pub on: bool,
}

/// What only `/v1/ask` has. Null is as good as absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// Unicode scalar values of the prompt after unescaping: 1 to [`Asked::PROMPT_CHARS_MAX`].
    pub prompt_chars: u32,
    pub quality: Quality,
    /// Exact to 10⁻¹² USD; what is finer is rounded down.
    pub max_cost: Option<Picodollars>,
    pub latency_slo_ms: Option<u32>,
    pub task_type: Inline<64>,
    /// `session_id`, else `conversation_id`, else empty.
    pub session: Inline<100>,
    /// Elements of `context_refs`.
    pub context_refs: u64,
    /// Where they stand, brackets included.
    pub context_at: Option<Span>,
}

impl Asked {
    pub const PROMPT_CHARS_MAX: u32 = 100_000;
}

impl Default for Asked {
    fn default() -> Asked {
        Asked {
            prompt_chars: 0,
            quality: Quality::default(),
            max_cost: None,
            latency_slo_ms: None,
            task_type: Inline::EMPTY,
            session: Inline::EMPTY,
            context_refs: 0,
            context_at: None,
        }
    }
}

/// `quality` of `/v1/ask`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quality {
    Fast,
    #[default]
    Balanced,
    High,
}

/// Text of at most `N` bytes, N ≤ 254, without a heap; or the mark that it was longer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Inline<const N: usize> {
    /// [`LONGER`]: it did not fit, and `bytes` say nothing.
    len: u8,
    bytes: [u8; N],
}

impl Head {
    pub(super) fn new(profile: Profile) -> Head {
        Head {
            profile,
            body_bytes: 0,
            inside: 0,
            is_empty: true,
            model: None,
            stream: false,
            says_stream: false,
            max_tokens: None,
            max_completion_tokens: None,
            n: None,
            has_tools: false,
            stream_options: StreamOptions::Absent,
            content: None,
            system_bytes: 0,
            items: 0,
            ask: Asked::default(),
        }
    }

    /// The name asked for: `Some("")` where the body has none (only `/v1/ask`), `None` where it is longer
    /// than any name there is.
    pub fn model_name(&self) -> Option<&str> {
        self.model.as_ref().map_or(Some(""), |model| model.name.as_str())
    }

    /// The most tokens each answer may have; where both keys stand, the newer one counts.
    pub fn answer_tokens_max(&self) -> Option<u64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// The caller of a stream wants to see the usage event.
    pub fn wants_usage(&self) -> bool {
        matches!(
            self.stream_options,
            StreamOptions::Object { include_usage: Some(UsageFlag { on: true, .. }), .. }
        )
    }
}

impl<const N: usize> Inline<N> {
    pub const EMPTY: Inline<N> = Inline { len: 0, bytes: [0; N] };

    /// `text` is valid UTF-8, or `None` for "longer than a lexer keeps".
    pub(super) fn of(text: Option<&[u8]>) -> Inline<N> {
        const { assert!(N < LONGER as usize) }
        let mut inline = Inline::EMPTY;
        match text {
            Some(text) if text.len() <= N => {
                inline.bytes[..text.len()].copy_from_slice(text);
                inline.len = text.len() as u8;
            }
            _ => inline.len = LONGER,
        }
        inline
    }

    /// `None`: it was longer than `N` bytes.
    pub fn as_str(&self) -> Option<&str> {
        let bytes = self.bytes.get(..usize::from(self.len)).filter(|_| self.len != LONGER)?;
        Some(std::str::from_utf8(bytes).expect("the lexer hands out UTF-8"))
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> std::fmt::Debug for Inline<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.as_str() {
            Some(text) => write!(f, "{text:?}"),
            None => write!(f, "<over {N} bytes>"),
        }
    }
}

/// In place of a length: longer than fits.
const LONGER: u8 = u8::MAX;
