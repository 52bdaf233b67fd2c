//! A request's body: read within its bounds, scanned as it arrives, kept in the pieces it came in.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dataplane_core::admit::pressure::Level;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::scan::{Head, Profile, Scanner};
use dataplane_core::fault::{Fault, Kind};
use dataplane_state::ledger::Debt;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use tokio::time::timeout;

use super::Peer;
use super::arriving::Arriving;

/// What a body asks for, and the body.
#[derive(Debug)]
pub struct Intake {
    pub head: Head,
    pub body: Rope,
    /// For as long as the body is held.
    pub debt: Debt,
}

/// Reads and scans a body, within its limit of bytes and, where the connection's own guard cannot tell one
/// request's body from another's, of time.
pub async fn read(
    peer: &Peer,
    headers: &HeaderMap,
    body: Arriving,
    profile: Profile,
) -> Result<Intake, Fault> {
    let limit = peer.worker.shared.config.limits.body_bytes;
    check_head(headers, limit)?;
    if !peer.is_h2 {
        let intake = scan(peer, body, profile, limit).await?;
        peer.stage.on_body();
        return Ok(intake);
    }
    match timeout(HTTP2_BODY_WAIT, scan(peer, body, profile, limit)).await {
        Ok(intake) => intake,
        Err(_) => Err(Fault::client(Kind::BodyTimeout)),
    }
}

/// Reads a body without looking into it, within the same limits.
pub async fn whole(peer: &Peer, headers: &HeaderMap, body: Arriving) -> Result<(Bytes, Debt), Fault> {
    let limit = peer.worker.shared.config.limits.body_bytes;
    check_head(headers, limit)?;
    let gathered = async {
        let (rope, debt) = gather(peer, body, limit, |_| Ok(())).await?;
        let mut whole = BytesMut::with_capacity(usize::try_from(rope.len()).unwrap_or_default());
        rope.iter().for_each(|piece| whole.extend_from_slice(piece));
        Ok((whole.freeze(), debt))
    };
    if !peer.is_h2 {
        let gathered = gathered.await?;
        peer.stage.on_body();
        return Ok(gathered);
    }
    match timeout(HTTP2_BODY_WAIT, gathered).await {
        Ok(gathered) => gathered,
        Err(_) => Err(Fault::client(Kind::BodyTimeout)),
    }
}

async fn scan(peer: &Peer, body: Arriving, profile: Profile, limit: u64) -> Result<Intake, Fault> {
    let mut scanner = Scanner::new(profile);
    let (body, debt) = gather(peer, body, limit, |piece| scanner.push(piece)).await?;
    Ok(Intake { head: scanner.finish()?, body, debt })
}

async fn gather(
    peer: &Peer,
    mut body: Arriving,
    limit: u64,
    mut look: impl FnMut(&Bytes) -> Result<(), Fault>,
) -> Result<(Rope, Debt), Fault> {
    let mut debt = Debt::none(&peer.worker.ledger);
    let mut pieces = Pieces::default();
    while let Some(piece) = body.piece().await {
        let data = piece?;
        if pieces.bytes + data.len() as u64 > limit {
            return Err(Fault::client(Kind::BodyTooLarge { limit }));
        }
        if !debt.try_grow(data.len() as u64) {
            return Err(Fault::proxy(Kind::Shed { again_s: Level::Red.retry_after_s() }));
        }
        look(&data)?;
        pieces.push(data);
    }
    Ok((pieces.finish(), debt))
}

/// What is known before a byte of the body is read.
fn check_head(headers: &HeaderMap, limit: u64) -> Result<(), Fault> {
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Fault::client(Kind::BodyEncoded));
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > limit => Err(Fault::client(Kind::BodyTooLarge { limit })),
        _ => Ok(()),
    }
}

/// Pieces as they came; small ones beyond the first few are copied together, so that a body sent byte by byte
/// takes no more memory than its bytes.
#[derive(Default)]
struct Pieces {
    rope: Rope,
    tail: BytesMut,
    bytes: u64,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len() as u64;
        if piece.len() < SMALL_BYTES && self.rope.count() >= SMALL_PIECES_MAX {
            self.tail.extend_from_slice(&piece);
            return;
        }
        self.seal();
        self.rope.push(piece);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.rope.push(self.tail.split().freeze());
        }
    }

    fn finish(mut self) -> Rope {
        self.seal();
        self.rope
    }
}

/// For one stream's body; a connection over HTTP/1.1 has the guard's deadlines.
const HTTP2_BODY_WAIT: Duration = Duration::from_secs(30);
/// Pieces below it are copied together,
const SMALL_BYTES: usize = 4096;
/// once there are as many as this.
const SMALL_PIECES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_sent_byte_by_byte_is_kept_in_few_pieces() {
        let mut pieces = Pieces::default();
        for at in 0..100_000u32 {
            pieces.push(Bytes::copy_from_slice(&[at as u8]));
        }
        pieces.push(Bytes::from(vec![7; SMALL_BYTES]));
        pieces.push(Bytes::from_static(b"end"));
        let rope = pieces.finish();
        assert_eq!(rope.len(), 100_000 + SMALL_BYTES as u64 + 3);
        assert!(rope.count() <= SMALL_PIECES_MAX + 3, "{} pieces", rope.count());
        let whole: Vec<u8> = rope.iter().flat_map(|piece| piece.to_vec()).collect();
        assert!(whole[..100_000].iter().enumerate().all(|(at, byte)| *byte == at as u8), "order is kept");
        assert!(whole.ends_with(b"end"));
    }
}
