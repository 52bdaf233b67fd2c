//! What a gRPC adapter is asked beside the prompts it answers: what the first of them will take, and how it
//! feels. Never waited for: an adapter that does not answer, or does not know the calls, costs nobody
//! anything.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::dialect::grpc::{self, Estimate, Status};
use dataplane_core::dialect::rope::Rope;
use http::{HeaderMap, StatusCode};
use tokio::time::timeout;

use super::Call;
use super::Unusable;
use super::body::Piece;
use super::grpc::headers;
use super::retold::status_of;
use super::server::{Server, Target};
use crate::clock;
use crate::worker::Worker;

#[derive(Debug)]
pub struct Beside {
    estimate: Target,
    health: Target,
    /// Estimates that may still be asked for.
    estimates_left: AtomicU32,
    /// When health was asked for last, nanoseconds of [`clock::now`]. Zero: never.
    health_at: AtomicU64,
    /// As it was told last, as bits of floating point; all of them set: never.
    p95_ms: AtomicU64,
    error_rate: AtomicU64,
}

impl Beside {
    pub fn of(server: &Server) -> Result<Beside, Unusable> {
        Ok(Beside {
            estimate: server.target(grpc::ESTIMATE)?,
            health: server.target(grpc::HEALTH)?,
            estimates_left: AtomicU32::new(ESTIMATES_MAX),
            health_at: AtomicU64::new(0),
            p95_ms: AtomicU64::new(u64::MAX),
            error_rate: AtomicU64::new(u64::MAX),
        })
    }

    /// `call` goes to the adapter with `prompt`: what is not known yet is asked for, each by a task of its
    /// own.
    pub fn ask(self: &Arc<Beside>, server: &Arc<Server>, worker: &Arc<Worker>, call: &Call, prompt: &str) {
        let is_known = call.model == 0 || worker.shared.learned.knows_input(call.model);
        // Order: relaxed throughout. Counts and times of what is asked; nothing is read because of them.
        let left = |left: u32| left.checked_sub(1);
        if !is_known && self.estimates_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok() {
            let frame = grpc::estimate(&format!("{:016x}", worker.random()), prompt.to_owned());
            let (model, bytes) = (call.model, call.prompt_bytes);
            let (beside, server, worker) = (Arc::clone(self), Arc::clone(server), Arc::clone(worker));
            tokio::spawn(async move {
                let told = unary(&server, &worker, &beside.estimate, frame).await;
                if let Some(told) = told.as_deref().and_then(Estimate::read) {
                    worker.shared.learned.on_estimate(model, bytes, told.input, told.variance);
                }
            });
        }
        let now = clock::now().0.max(1);
        // Order: relaxed, see above.
        let last = self.health_at.load(Ordering::Relaxed);
        let is_due = last == 0 || now.saturating_sub(last) >= HEALTH_NS;
        let taken = self.health_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && taken.is_ok() {
            let (beside, server, worker) = (Arc::clone(self), Arc::clone(server), Arc::clone(worker));
            tokio::spawn(async move {
                let told = unary(&server, &worker, &beside.health, grpc::health()).await;
                let told = told.as_deref().and_then(grpc::health_of);
                let (p95_ms, error_rate) =
                    told.map_or((u64::MAX, u64::MAX), |(p95_ms, rate)| (p95_ms.to_bits(), rate.to_bits()));
                // Order: relaxed, numbers for people.
                beside.p95_ms.store(p95_ms, Ordering::Relaxed);
                beside.error_rate.store(error_rate, Ordering::Relaxed);
            });
        }
    }

    /// As it was told last; `None`: never, or the last question had no answer.
    pub fn health(&self) -> Option<(f64, f64)> {
        // Order: relaxed, numbers for people.
        let (p95_ms, rate) = (self.p95_ms.load(Ordering::Relaxed), self.error_rate.load(Ordering::Relaxed));
        (p95_ms != u64::MAX && rate != u64::MAX).then(|| (f64::from_bits(p95_ms), f64::from_bits(rate)))
    }
}

/// The body of a whole answer that ended well.
async fn unary(server: &Server, worker: &Arc<Worker>, target: &Target, frame: Vec<u8>) -> Option<Vec<u8>> {
    let asking = async {
        let headers = headers(&HeaderMap::new(), WAIT);
        let body = Rope::from(Bytes::from(frame));
        let mut answer = server.send(worker, target, headers, body).await.ok()?;
        let mut status = status_of(&answer.headers);
        if answer.status != StatusCode::OK || status.is_some_and(|status| status != Status::OK) {
            return None;
        }
        let mut whole = Vec::new();
        while let Some(piece) = poll_fn(|cx| answer.body.poll_piece(cx)).await {
            match piece.ok()? {
                Piece::Data(data) if whole.len() + data.len() <= ANSWER_BYTES_MAX => {
                    whole.extend_from_slice(&data)
                }
                Piece::Data(_) => return None,
                Piece::Trailers(trailers) => status = status_of(&trailers),
            }
        }
        (status == Some(Status::OK)).then_some(whole)
    };
    timeout(WAIT, asking).await.ok().flatten()
}

/// Of one adapter, until it is declared anew: the first requests come at once, and one answer is enough.
const ESTIMATES_MAX: u32 = 4;
/// Between two questions after its health: 10 s.
const HEALTH_NS: u64 = 10_000_000_000;
/// For either answer.
const WAIT: Duration = Duration::from_secs(2);
/// Of either answer: some numbers, and what was assumed.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
