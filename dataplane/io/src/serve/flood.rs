//! Counts HTTP/2 frames below the HTTP/2 library, which answers PING, SETTINGS and PRIORITY frames without
//! limit. Reads only the nine bytes of each frame's head (RFC 9113 §4.1); never changes what passes.

use proto_core::units::Moment;

/// Reads one connection's incoming bytes.
#[derive(Debug)]
pub struct Flood {
    /// Bytes of the preface, then of payloads, still to be skipped.
    skip: u32,
    head: [u8; FRAME_HEAD_BYTES],
    filled: u8,
    second: u64,
    counts: [u32; KINDS],
}

/// Too many frames of a kind within a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany(pub &'static str);

impl Flood {
    /// For a connection whose preface is still to come.
    pub fn new() -> Flood {
        Flood { skip: PREFACE_BYTES, head: [0; FRAME_HEAD_BYTES], filled: 0, second: 0, counts: [0; KINDS] }
    }

    /// Bytes arrived.
    pub fn on_bytes(&mut self, mut bytes: &[u8], now: Moment) -> Result<(), TooMany> {
        let second = now.0 / 1_000_000_000;
        if second != self.second {
            self.second = second;
            self.counts = [0; KINDS];
        }
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes.len().min(self.skip as usize);
                self.skip -= u32::try_from(skipped).unwrap_or(self.skip);
                bytes = &bytes[skipped..];
                continue;
            }
            let filled = usize::from(self.filled);
            let take = bytes.len().min(FRAME_HEAD_BYTES - filled);
            self.head[filled..filled + take].copy_from_slice(&bytes[..take]);
            self.filled += u8::try_from(take).unwrap_or(0);
            bytes = &bytes[take..];
            if usize::from(self.filled) == FRAME_HEAD_BYTES {
                self.filled = 0;
                self.on_frame()?;
            }
        }
        Ok(())
    }

    fn on_frame(&mut self) -> Result<(), TooMany> {
        let length = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]);
        self.skip = length;
        let kind = usize::from(self.head[3]);
        let Some(&(name, most)) = BUDGETS.get(kind) else { return Ok(()) };
        // Only empty DATA frames are work without use.
        if kind == 0 && length > 0 {
            return Ok(());
        }
        self.counts[kind] += 1;
        if self.counts[kind] > most { Err(TooMany(name)) } else { Ok(()) }
    }
}

impl Default for Flood {
    fn default() -> Flood {
        Flood::new()
    }
}

const PREFACE_BYTES: u32 = 24;
const FRAME_HEAD_BYTES: usize = 9;
const KINDS: usize = BUDGETS.len();

/// Frames a second by type number. Far above what clients do: a client pings every few seconds, changes
/// settings once, and opens windows about as often as it is sent data.
const BUDGETS: [(&str, u32); 10] = [
    ("empty DATA", 100),
    ("HEADERS", 20_000),
    ("PRIORITY", 200),
    ("RST_STREAM", 2_000),
    ("SETTINGS", 50),
    ("PUSH_PROMISE", 1),
    ("PING", 100),
    ("GOAWAY", 10),
    ("WINDOW_UPDATE", 40_000),
    ("CONTINUATION", 200),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 0];
        bytes.resize(9 + payload, 0xff);
        bytes
    }

    fn opened() -> Flood {
        let mut flood = Flood::new();
        flood.on_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Moment(0)).unwrap();
        flood
    }

    #[test]
    fn a_hundred_pings_a_second_pass_and_one_more_does_not() {
        let mut flood = opened();
        for _ in 0..100 {
            flood.on_bytes(&frame(6, 8), Moment(1)).unwrap();
        }
        assert_eq!(flood.on_bytes(&frame(6, 8), Moment(1)), Err(TooMany("PING")));
        assert_eq!(opened().on_bytes(&frame(6, 8), Moment(1)), Ok(()));
    }

    #[test]
    fn the_next_second_starts_again() {
        let mut flood = opened();
        for second in 0..10 {
            for _ in 0..50 {
                flood.on_bytes(&frame(4, 0), Moment(second * 1_000_000_000)).unwrap();
            }
        }
    }

    #[test]
    fn frames_are_found_wherever_reads_cut_them() {
        let stream: Vec<u8> = (0..101).flat_map(|_| [frame(0, 300), frame(6, 8)].concat()).collect();
        for cut in [1, 2, 7, 9, 10, 311, 1000] {
            let mut flood = opened();
            let outcome = stream.chunks(cut).try_for_each(|bytes| flood.on_bytes(bytes, Moment(1)));
            assert_eq!(outcome, Err(TooMany("PING")), "cut every {cut} bytes");
        }
    }

    #[test]
    fn data_with_content_is_never_a_flood() {
        let mut flood = opened();
        for _ in 0..10_000 {
            flood.on_bytes(&frame(0, 1), Moment(1)).unwrap();
        }
    }
}
