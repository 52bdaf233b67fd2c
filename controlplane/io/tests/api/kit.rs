//! A control plane under test, its clients, and a data plane that says what the test wants.

use std::path::Path;

use controlplane_io::{Config, Handle, start, token};
use proto_core::wire::atp::admin::v1 as admin;
use proto_core::wire::atp::control::v1 as control;
use proto_rpc::admin::operations_client::OperationsClient;
use proto_rpc::admin::resources_client::ResourcesClient;
use proto_rpc::control::sync_client::SyncClient;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

pub const ECHO: &str = "kind: Adapter\nname: echo\nspec: { kind: echo, models: [ { name: echo-1 } ] }\n";
pub const ROUTE: &str =
    "kind: Route\nname: chat\nspec:\n  candidates:\n    - { adapter: echo, model: echo-1, weight: 1 }\n";

pub struct ControlPlane {
    pub handle: Handle,
    pub folder: TempDir,
}

/// Ports of the system's choice, data in `folder`.
pub fn config(folder: &Path) -> Config {
    let anywhere = "127.0.0.1:0".parse().expect("an address");
    Config { grpc: anywhere, http: anywhere, ..Config::local(folder.join("data")) }
}

pub async fn control_plane() -> ControlPlane {
    let folder = tempfile::tempdir().expect("a folder");
    let handle = start(config(folder.path()), None).await.expect("it starts");
    ControlPlane { handle, folder }
}

/// Puts a token to every call.
#[derive(Clone)]
pub struct Bearer(pub Option<AsciiMetadataValue>);

impl Bearer {
    pub fn of(path: &Path) -> Bearer {
        let token = token::read(path).expect("a token");
        Bearer(Some(format!("Bearer {token}").parse().expect("hexadecimal digits")))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

pub type Wired = InterceptedService<Channel, Bearer>;

pub async fn channel(address: impl std::fmt::Display) -> Channel {
    Channel::from_shared(format!("http://{address}")).expect("a URL").connect().await.expect("it listens")
}

impl ControlPlane {
    pub async fn channel(&self) -> Channel {
        channel(self.handle.grpc_addr).await
    }

    pub async fn resources(&self) -> ResourcesClient<Wired> {
        let bearer = Bearer::of(&self.handle.operator_token_path);
        ResourcesClient::with_interceptor(self.channel().await, bearer)
    }

    pub async fn operations(&self) -> OperationsClient<Wired> {
        let bearer = Bearer::of(&self.handle.operator_token_path);
        OperationsClient::with_interceptor(self.channel().await, bearer)
    }

    pub async fn apply(&self, texts: &[&str]) -> admin::ApplyResponse {
        let applied = self.resources().await.apply(sources(texts)).await.expect("the call is made");
        applied.into_inner()
    }

    pub async fn status(&self) -> admin::StatusResponse {
        let status = self.operations().await.status(admin::StatusRequest {}).await;
        status.expect("the call is made").into_inner()
    }

    /// Waits until the status is as wanted: answers of data planes are taken after they were sent.
    pub async fn status_when(
        &self,
        wanted: impl Fn(&admin::StatusResponse) -> bool,
    ) -> admin::StatusResponse {
        loop {
            let status = self.status().await;
            if wanted(&status) {
                return status;
            }
            tokio::task::yield_now().await;
        }
    }

    pub async fn data_plane(&self, node: &str, held: Option<&control::Push>) -> DataPlane {
        self.saying(hello(node, held)).await
    }

    /// One that takes places.
    pub async fn taking_places(&self, node: &str) -> DataPlane {
        let (node, version) = (node.into(), "9.9.9".into());
        let hello = control::Hello { node, version, takes_places: true, ..control::Hello::default() };
        self.saying(request(control::sync_request::Message::Hello(hello))).await
    }

    async fn saying(&self, hello: control::SyncRequest) -> DataPlane {
        let bearer = Bearer::of(&self.handle.dataplane_token_path);
        let mut client = SyncClient::with_interceptor(self.channel().await, bearer);
        let (say, said) = mpsc::channel(16);
        say.send(hello).await.expect("room");
        let told = client.sync(ReceiverStream::new(said)).await.expect("the stream opens").into_inner();
        DataPlane { say, told }
    }
}

pub fn sources(texts: &[&str]) -> admin::ApplyRequest {
    let source = |(at, text): (usize, &&str)| admin::Source {
        file: format!("{at}.yaml"),
        content: text.as_bytes().to_vec().into(),
    };
    admin::ApplyRequest { sources: texts.iter().enumerate().map(source).collect(), dry_run: false }
}

fn hello(node: &str, held: Option<&control::Push>) -> control::SyncRequest {
    request(control::sync_request::Message::Hello(control::Hello {
        node: node.into(),
        version: "9.9.9".into(),
        held: held.and_then(|push| push.generation),
        held_hash: held.map(|push| push.hash.clone()).unwrap_or_default(),
        takes_places: false,
    }))
}

pub fn request(message: control::sync_request::Message) -> control::SyncRequest {
    control::SyncRequest { message: Some(message) }
}

/// The other end of Sync, by hand.
pub struct DataPlane {
    pub say: mpsc::Sender<control::SyncRequest>,
    pub told: Streaming<control::SyncResponse>,
}

impl DataPlane {
    pub async fn next(&mut self) -> Result<Option<control::sync_response::Message>, Status> {
        Ok(self.told.message().await?.and_then(|response| response.message))
    }

    pub async fn push(&mut self) -> control::Push {
        match self.next().await {
            Ok(Some(control::sync_response::Message::Push(push))) => push,
            other => panic!("not a push: {other:?}"),
        }
    }

    /// The next places, as adapters and endpoints; what else is told meanwhile is not looked at.
    pub async fn places(&mut self) -> Vec<(String, String)> {
        loop {
            let message = self.next().await.expect("the stream is open").expect("a message");
            if let control::sync_response::Message::Places(list) = message {
                assert!(list.places.iter().all(|place| (1..=60_000).contains(&place.left_ms)), "{list:?}");
                return list.places.into_iter().map(|place| (place.adapter, place.endpoint)).collect();
            }
        }
    }

    pub async fn stands(&self, places: &[(&str, &str)]) {
        let place = |&(adapter, endpoint): &(&str, &str)| control::Place {
            adapter: adapter.into(),
            endpoint: endpoint.into(),
            left_ms: 60_000,
        };
        let list = control::Places { places: places.iter().map(place).collect(), is_whole: true };
        self.answer(control::sync_request::Message::Places(list)).await;
    }

    pub async fn question(&mut self) -> control::ExplainQuestion {
        match self.next().await {
            Ok(Some(control::sync_response::Message::Explain(question))) => question,
            other => panic!("not a question: {other:?}"),
        }
    }

    pub async fn answer(&self, message: control::sync_request::Message) {
        self.say.send(request(message)).await.expect("the stream is open");
    }

    pub async fn ack(&self, push: &control::Push) {
        let ack = control::Ack { nonce: push.nonce, generation: push.generation };
        self.answer(control::sync_request::Message::Ack(ack)).await;
    }

    pub async fn nack(&self, push: &control::Push, reason: &str) {
        let reject = control::Reject { kind: "Adapter".into(), name: "echo".into(), reason: reason.into() };
        let (nonce, generation) = (push.nonce, push.generation);
        let nack = control::Nack { nonce, generation, rejects: vec![reject] };
        self.answer(control::sync_request::Message::Nack(nack)).await;
    }
}
