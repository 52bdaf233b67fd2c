//! Finds the events in a streamed body, however it is cut into reads.
//!
//! What it is for: counting chunks and tokens and telling a whole stream from a broken one. It looks at
//! prefixes and a few needles only; it never parses JSON, for at a benchmark's rate that would measure the
//! generator.

/// A scanner for one body.
#[derive(Default)]
pub(crate) struct Events {
    /// The start of a line whose end has not come yet; at most `LINE_BYTES_MAX`.
    partial: Vec<u8>,
    /// `data:` lines other than `[DONE]` and errors.
    pub(crate) chunks: u64,
    /// Chunks that carry text or arguments.
    pub(crate) tokens: u64,
    /// `[DONE]`, or Anthropic's `event: message_stop`.
    pub(crate) done: bool,
    /// An error event, or a line beyond the bound.
    pub(crate) error: bool,
}

impl Events {
    /// Takes the next bytes; returns how many chunks they completed.
    pub(crate) fn on_bytes(&mut self, mut bytes: &[u8]) -> u64 {
        let before = self.chunks;
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            if self.partial.is_empty() {
                self.on_line(&bytes[..end]);
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(&bytes[..end]);
                self.on_line(&line);
                line.clear();
                self.partial = line;
            }
            bytes = &bytes[end + 1..];
        }
        if self.partial.len() + bytes.len() > LINE_BYTES_MAX {
            self.error = true;
            self.partial.clear();
        } else {
            self.partial.extend_from_slice(bytes);
        }
        self.chunks - before
    }

    fn on_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(data) = field(line, b"data:") {
            if data == b"[DONE]" {
                self.done = true;
            } else if data.starts_with(b"{\"error\"") {
                self.error = true;
            } else {
                self.chunks += 1;
                self.tokens += u64::from(says_something(data));
            }
        } else if let Some(name) = field(line, b"event:") {
            self.done |= name == b"message_stop";
            self.error |= name == b"error";
        }
    }
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// Whether a text field of the dialects holds at least one character.
fn says_something(data: &[u8]) -> bool {
    NEEDLES.iter().any(|needle| {
        let found = memchr::memmem::find(data, needle);
        found.and_then(|start| data.get(start + needle.len())).is_some_and(|&next| next != b'"')
    })
}

const NEEDLES: [&[u8]; 3] = [b"\"content\":\"", b"\"text\":\"", b"\"arguments\":\""];
/// One event of a model is a few hundred bytes; a line this long is a server gone wrong.
const LINE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        ": a comment\n",
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"tok1\"}}]}\r\n\r\n",
        "data:{\"choices\":[{\"text\":\"tok2\"}]}\n\n",
        "event: ping\ndata: {}\n\n",
        "data: [DONE]\n\n",
    );

    fn counted(events: &Events) -> (u64, u64, bool, bool) {
        (events.chunks, events.tokens, events.done, events.error)
    }

    #[test]
    fn a_stream_is_read_the_same_however_it_is_cut() {
        for cut in 0..STREAM.len() {
            let mut events = Events::default();
            let completed =
                events.on_bytes(&STREAM.as_bytes()[..cut]) + events.on_bytes(&STREAM.as_bytes()[cut..]);
            assert_eq!(counted(&events), (4, 2, true, false), "cut at {cut}");
            assert_eq!(completed, 4);
        }
        let mut events = Events::default();
        for byte in STREAM.bytes() {
            events.on_bytes(&[byte]);
        }
        assert_eq!(counted(&events), (4, 2, true, false));
    }

    #[test]
    fn an_error_is_seen_as_data_or_as_an_events_name() {
        for text in ["data: {\"error\":{\"message\":\"m\"}}\n", "event: error\ndata: {\"type\":\"error\"}\n"]
        {
            let mut events = Events::default();
            events.on_bytes(text.as_bytes());
            assert!(events.error && !events.done);
        }
    }

    #[test]
    fn anthropics_stream_ends_with_its_own_event() {
        let mut events = Events::default();
        events.on_bytes(
            b"event: content_block_delta\ndata: {\"delta\":{\"text\":\"hi\"}}\n\nevent: message_stop\n",
        );
        assert_eq!(counted(&events), (1, 1, true, false));
    }

    #[test]
    fn a_line_at_the_bound_is_read_and_one_past_it_is_an_error() {
        let mut events = Events::default();
        events.on_bytes(&vec![b'x'; LINE_BYTES_MAX]);
        assert!(!events.error);
        events.on_bytes(b"x");
        assert!(events.error);
    }
}
