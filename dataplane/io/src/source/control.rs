//! The control plane as the source: one stream, kept up by a machine that decides and this shell that acts.
//! While the control plane is away, what was served last still is; at a start, what was kept last is served
//! before it answers.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use proto_core::parse::{Document, resource_json};
use proto_core::sync::places::{Elsewhere, PLACES_MAX, Place};
use proto_core::sync::{Action, Candidate, Generation, Held, MESSAGE_BYTES_MAX, Subscriber, Ticket, hash};
use proto_core::wire::atp::control::v1::{Push, Reject, SyncRequest, SyncResponse};
use proto_rpc::control::sync_client::SyncClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Streaming};

use super::kept::Kept;
use super::{Installer, Refusal};
use crate::config::ControlTls;
use crate::{clock, explain, upstream};

/// Keeps a stream to the control plane until the process ends.
pub async fn follow(installer: Installer, way: Way) {
    let node = installer.shared.config.node.clone();
    let kept = Kept::new(&installer.shared.config.kept_dir());
    let mut follower = Follower {
        subscriber: Subscriber::new(node.clone(), env!("CARGO_PKG_VERSION").into(), None),
        installer,
        kept,
        elsewhere: Elsewhere::default(),
    };
    if let Some(held) = follower.serve_kept() {
        follower.subscriber = Subscriber::new(node, env!("CARGO_PKG_VERSION").into(), Some(held));
    }
    let mut wait = RETRY_FIRST;
    let mut was_up = true;
    loop {
        match follower.connect(&way).await {
            Ok(stream) => {
                tracing::info!(url = %way.url, "connected to the control plane");
                was_up = true;
                let begun = clock::now();
                follower.installer.set_source_ok(true);
                let ended = follower.run(stream).await;
                follower.installer.set_source_ok(false);
                follower.subscriber.on_disconnected();
                // One that ends as soon as it is opened is no sign of health.
                if clock::now() - begun > RETRY_LAST {
                    wait = RETRY_FIRST;
                }
                tracing::warn!(url = %way.url, reason = %ended, "the control plane is gone; serving on");
            }
            Err(reason) if was_up => {
                was_up = false;
                tracing::warn!(url = %way.url, %reason, "no control plane; trying on");
            }
            Err(reason) => tracing::debug!(url = %way.url, %reason, "still no control plane"),
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(RETRY_LAST);
    }
}

/// How the control plane is reached.
pub struct Way {
    pub url: String,
    pub token_file: Option<PathBuf>,
    pub tls: Option<ControlTls>,
}

impl Way {
    /// Read anew at each connection: certificates and tokens are renewed while this runs.
    async fn endpoint(&self) -> Result<Endpoint, String> {
        let url = &self.url;
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|error| format!("{url}: {error}"))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_WAIT)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WAIT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let Some(files) = &self.tls else { return Ok(endpoint) };
        let mut tls = ClientTlsConfig::new();
        match &files.ca {
            Some(ca) => tls = tls.ca_certificate(Certificate::from_pem(file(ca).await?)),
            None => tls = tls.trust_anchors(upstream::system_anchors().map_err(|error| error.to_string())?),
        }
        if let Some((cert, key)) = &files.client {
            tls = tls.identity(Identity::from_pem(file(cert).await?, file(key).await?));
        }
        endpoint.tls_config(tls).map_err(|error| format!("{url}: {}", chain(&error)))
    }
}

async fn file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    tokio::fs::read(path).await.map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

struct Follower {
    installer: Installer,
    subscriber: Subscriber,
    kept: Kept,
    /// Where adapters said to other data planes that they stand.
    elsewhere: Elsewhere,
}

struct Stream {
    outgoing: mpsc::Sender<SyncRequest>,
    incoming: Streaming<SyncResponse>,
}

impl Follower {
    fn serve_kept(&mut self) -> Option<Held> {
        self.kept.read().into_iter().find_map(|push| {
            let generation = Generation::from(push.generation?);
            let hash = hash(&push.resources);
            if hash[..] != push.hash[..] {
                tracing::warn!("a kept set does not have the hash it should and is not used");
                return None;
            }
            let held = Held { generation, hash };
            match self.install(generation, &push.resources) {
                Ok(()) => Some(held),
                Err(rejects) => {
                    for reject in rejects {
                        tracing::warn!(
                            kind = reject.kind,
                            name = reject.name,
                            reason = reject.reason,
                            "kept set"
                        );
                    }
                    None
                }
            }
        })
    }

    async fn connect(&mut self, way: &Way) -> Result<Stream, String> {
        let token = match &way.token_file {
            Some(path) => Some(bearer(path).await?),
            None => None,
        };
        let endpoint = way.endpoint().await?;
        let channel: Channel = endpoint.connect().await.map_err(|error| chain(&error))?;
        let mut client = SyncClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        self.subscriber.on_connected();
        let (outgoing, queued) = mpsc::channel(OUTGOING_MAX);
        // Hello goes first: the other end answers nothing before it.
        self.send_all(&outgoing).await?;
        let mut request = Request::new(ReceiverStream::new(queued));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", token);
        }
        let opened = tokio::time::timeout(CONNECT_WAIT, client.sync(request)).await;
        let incoming =
            opened.map_err(|_| "no answer in time")?.map_err(|status| status.message().to_owned())?;
        Ok(Stream { outgoing, incoming: incoming.into_inner() })
    }

    /// Until the stream ends; says why.
    async fn run(&mut self, mut stream: Stream) -> String {
        let mut look = tokio::time::interval(PLACES_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                message = stream.incoming.message() => message,
                _ = look.tick() => {
                    self.look_at_places();
                    match self.send_all(&stream.outgoing).await {
                        Ok(()) => continue,
                        Err(reason) => return reason,
                    }
                }
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return "it closed the stream".into(),
                Err(status) => return status.message().to_owned(),
            };
            if let Err(unexpected) = self.subscriber.on_message(message) {
                return unexpected.to_string();
            }
            if let Err(reason) = self.send_all(&stream.outgoing).await {
                return reason;
            }
        }
    }

    /// Does what the machine says until it has nothing more to say.
    async fn send_all(&mut self, outgoing: &mpsc::Sender<SyncRequest>) -> Result<(), String> {
        while let Some(action) = self.subscriber.poll_action() {
            match action {
                Action::Send(message) => {
                    outgoing.send(message).await.map_err(|_| "the stream is closed".to_owned())?;
                }
                Action::Build(candidate) => self.build(candidate).await,
                Action::Explain(question) => {
                    let json = explain::answer(&self.installer.shared, &question);
                    self.subscriber.explained(question.ticket, Bytes::from(json));
                }
                Action::Hear(list) => {
                    self.elsewhere.on_list(list, clock::now()).map_err(|unfit| unfit.to_string())?;
                    self.open_places();
                }
            }
        }
        Ok(())
    }

    /// Tells which adapters stand where, as far as they said so here.
    fn look_at_places(&mut self) {
        let Some(served) = self.installer.shared.tables.peek() else { return };
        let now = clock::now();
        let mut standing = Vec::new();
        for upstream in &served.upstreams {
            let places = upstream.dialled().into_iter().flat_map(|dialled| dialled.standing(now));
            standing.extend(places.map(|(endpoint, until)| {
                let adapter = upstream.name.as_str().to_owned();
                Place { adapter, endpoint: endpoint.url(), until }
            }));
        }
        let shared = &self.installer.shared;
        shared.registry.on_untold(standing.len().saturating_sub(PLACES_MAX));
        self.subscriber.on_standing(now, standing);
    }

    /// Requests go where other data planes were told that adapters stand: only to places that the set served
    /// here allows.
    fn open_places(&self) {
        let Some(served) = self.installer.shared.tables.peek() else { return };
        for upstream in &served.upstreams {
            if let Some(dialled) = upstream.dialled() {
                dialled.hear(|endpoint| self.elsewhere.until(upstream.name.as_str(), &endpoint.url()));
            }
        }
    }

    async fn build(&mut self, candidate: Candidate) {
        let Candidate { ticket, generation, hash, resources } = candidate;
        match self.install(generation, &resources) {
            Ok(()) => {
                // It may allow places that were told before it came.
                self.open_places();
                self.subscriber.accepted(ticket);
                self.keep(ticket, generation, hash, resources).await;
            }
            Err(rejects) => {
                let count = rejects.len();
                tracing::error!(%generation, rejects = count, "refused a set; serving the one before");
                self.subscriber.rejected(ticket, rejects);
            }
        }
    }

    fn install(
        &mut self,
        generation: Generation,
        resources: &[proto_core::wire::atp::control::v1::ResourceBody],
    ) -> Result<(), Vec<Reject>> {
        let (mut documents, mut rejects): (Vec<Document>, Vec<Reject>) = Default::default();
        for resource in resources {
            match resource_json(&resource.json) {
                Ok(document) => documents.push(document),
                Err(mistakes) => rejects.extend(mistakes.into_iter().map(|mistake| Reject {
                    kind: resource.kind.clone(),
                    name: resource.name.clone(),
                    reason: mistake.to_string(),
                })),
            }
        }
        if !rejects.is_empty() {
            self.installer.on_refused();
            return Err(rejects);
        }
        self.installer.install(generation.epoch, generation.number, &documents).map_err(|refusals| {
            let reject = |Refusal { kind, name, reason }| Reject { kind: kind.into(), name, reason };
            refusals.into_iter().map(reject).collect()
        })
    }

    /// A set that cannot be kept is served all the same; a restart without the control plane would miss it.
    async fn keep(
        &self,
        _: Ticket,
        generation: Generation,
        hash: proto_core::sync::SetHash,
        resources: Vec<proto_core::wire::atp::control::v1::ResourceBody>,
    ) {
        let kept = self.kept.clone();
        let hash = Bytes::copy_from_slice(&hash);
        let push = Push { nonce: 0, generation: Some(generation.into()), resources, hash };
        match tokio::task::spawn_blocking(move || kept.write(&push)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the set is served but could not be kept on disk"),
            Err(error) => tracing::error!(%error, "the set is served but could not be kept on disk"),
        }
    }
}

async fn bearer(path: &std::path::Path) -> Result<MetadataValue<Ascii>, String> {
    let token = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| format!("the token file {} cannot be read: {error}", path.display()))?;
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.trim_end())
        .parse()
        .map_err(|_| format!("the token file {} holds no token", path.display()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// Full jitter (Brooker 2015): many data planes do not come back at once.
fn jittered(wait: Duration) -> Duration {
    let share = crate::clock::now().0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    wait.mul_f64(share as f64 / f64::from(u32::MAX))
}

const RETRY_FIRST: Duration = Duration::from_millis(50);
/// A control plane that restarts is found again within it.
const RETRY_LAST: Duration = Duration::from_secs(5);
const CONNECT_WAIT: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(10);
/// An adapter that registers is told to the others so much later at most; what is looked at are a few words.
const PLACES_EVERY: Duration = Duration::from_millis(250);
/// A set of a few thousand resources in one flight.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Acks and answers under way; the machine keeps at most a few.
const OUTGOING_MAX: usize = 64;
