//! Streams of changes: a caller stays, and is told when the list of tools is not what it was. The list is
//! looked at once a second for as long as somebody listens; nobody is told of a change that came and went in
//! between.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::dialect::mcp::answer::{self, KEEP_ALIVE};
use dataplane_core::dialect::mcp::rpc::Id;
use dataplane_core::fault::{Fault, Kind};
use http::{HeaderMap, Response};
use tokio::time::interval;

use super::http::events;
use super::listeners::{Place, Whose};
use super::{Live, listing};
use crate::callers::network;
use crate::drain::Phase;
use crate::serve::Peer;
use crate::serve::answer::AnswerBody;
use crate::serve::atp::credentials;
use crate::serve::http::{held, known};
use crate::serve::pump::{self, Pump};

/// Answers with a stream. `stream`: the request it answers; `None`: the stream of a session.
pub fn serve(
    peer: &Arc<Peer>,
    headers: &HeaderMap,
    stream: Option<Id<'_>>,
    tools: bool,
) -> Result<Response<AnswerBody>, Fault> {
    let (worker, held) = (&peer.worker, held(peer)?);
    let tenant = held.table.tenant(known(&held.table, headers, peer)?);
    let is_anybody = tenant.name.as_str() == PUBLIC;
    let whose = Whose { tenant: tenant.hash, address: is_anybody.then(|| network(peer.address)) };
    let place = worker.listeners.join(whose).ok_or(Fault::client(Kind::Overloaded))?;
    let (pump, pumped) = pump::channel(worker, &peer.stage);
    let listener = Listener {
        _live: Live::new(worker),
        _place: place,
        peer: Arc::clone(peer),
        headers: credentials(headers),
        stream: stream.map(|id| id.as_json().into()),
        tools,
    };
    tokio::spawn(listener.run(pump));
    Ok(events(AnswerBody::pumped(pumped)))
}

struct Listener {
    _live: Live,
    _place: Place,
    peer: Arc<Peer>,
    headers: HeaderMap,
    stream: Option<Box<str>>,
    tools: bool,
}

impl Listener {
    async fn run(self, pump: Pump) {
        let id = self.stream.as_deref().map(Id::again);
        if let Some(id) = id {
            let begun = event(|out| answer::listening(id, self.tools, out));
            if pump.send(begun).await.is_err() {
                return;
            }
        }
        let mut phases = self.peer.worker.shared.phases();
        let mut looks = interval(LOOK_EVERY);
        let (mut known, mut quiet) = (None, 0);
        loop {
            tokio::select! {
                biased;
                () = pump.gone() => return,
                // A sender that is gone means the process is ending: the same.
                _ = phases.wait_for(|phase| *phase >= Phase::Draining) => break,
                _ = looks.tick() => {}
            }
            // Its key may be nobody's meanwhile.
            let Some(now) = self.mark() else { break };
            let said = match known.replace(now) {
                Some(before) if before != now && self.tools => event(|out| answer::tools_changed(id, out)),
                _ if quiet >= QUIET_LOOKS => Bytes::from_static(KEEP_ALIVE),
                _ => {
                    quiet += 1;
                    continue;
                }
            };
            quiet = 0;
            if pump.send(said).await.is_err() {
                return;
            }
        }
        if let Some(id) = id {
            // A caller that is gone needs no last word.
            let _ = pump.send(event(|out| answer::listened(id, out))).await;
        }
        pump.finish(None).await;
    }

    fn mark(&self) -> Option<u64> {
        let held = held(&self.peer).ok()?;
        known(&held.table, &self.headers, &self.peer).ok()?;
        Some(listing::mark(&self.peer.worker.shared, &held))
    }
}

fn event(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::new();
    answer::event(&mut out, write);
    out.into()
}

/// A change is told within this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks without a word, after which a stream says that it lives.
const QUIET_LOOKS: u32 = 15;
/// Who is served without a key: as many as there are addresses.
const PUBLIC: &str = "public";
