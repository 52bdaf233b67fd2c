//! Models whose every word a test decides: an adapter in this process that dialled in, and whose calls wait
//! for their cues.

use std::collections::BTreeMap;

use sdk_rust::{Adapter, Code, Failure, Options, Refusal, Reply, StatusTeller, Usage};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::kit::{Atp, Caller, Folder, Page, until, within};

/// An adapter that is attached. Dropped, it leaves.
pub struct Stage {
    calls: mpsc::Receiver<Call>,
    pub status: StatusTeller,
    end: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), Failure>>,
}

/// A call that is under way.
pub struct Call {
    pub model: String,
    pub body: Value,
    reply: Reply,
    end: oneshot::Sender<Result<Usage, Refusal>>,
    gone: oneshot::Receiver<()>,
}

impl Stage {
    /// Dials `url` as `name` and waits until the data plane counts it.
    pub async fn join(atp: &Atp, name: &str, url: &str, options: Options) -> Stage {
        let before = attached(atp).await;
        let stage = Stage::dial(name, url, options);
        until("the adapter to be attached", async || attached(atp).await > before).await;
        stage
    }

    pub fn dial(name: &str, url: &str, options: Options) -> Stage {
        let (to, calls) = mpsc::channel(CALLS_MAX);
        let adapter = Adapter::new(name, move |request: sdk_rust::Request, reply| {
            let to = to.clone();
            async move {
                let (end, ended) = oneshot::channel();
                // Ends with this future, which is dropped where nobody waits for the answer.
                let (here, gone) = oneshot::channel();
                let model = request.body["model"].as_str().unwrap_or_default().to_owned();
                let call = Call { model, body: request.body, reply, end, gone };
                let over = || Refusal::new(Code::Adapter, "the test is over");
                to.send(call).await.map_err(|_| over())?;
                let outcome = ended.await.unwrap_or_else(|_| Err(over()));
                drop(here);
                outcome
            }
        });
        let status = adapter.status();
        let (end, ended) = oneshot::channel();
        let url = url.to_owned();
        let serving =
            tokio::spawn(async move { adapter.serve(&url, &options, async { drop(ended.await) }).await });
        Stage { calls, status, end, serving }
    }

    /// Its next call.
    pub async fn call(&mut self) -> Call {
        within("a call", self.calls.recv()).await.expect("it serves")
    }

    /// The next so many, by their model.
    pub async fn cast(&mut self, count: usize) -> BTreeMap<String, Call> {
        let mut cast = BTreeMap::new();
        while cast.len() < count {
            let call = self.call().await;
            cast.insert(call.model.clone(), call);
        }
        cast
    }

    /// No call has come that was not taken.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// Says that it drains, lets what is under way end, and leaves.
    pub fn leave(self) -> JoinHandle<Result<(), Failure>> {
        // One that failed has left already.
        let _ = self.end.send(());
        self.serving
    }

    /// How serving ended by itself.
    pub async fn refused(self) -> Failure {
        let Stage { serving, end: _end, .. } = self;
        within("a refusal", serving).await.expect("no panic").expect_err("it is refused")
    }
}

impl Call {
    pub async fn say(&self, text: &str) {
        within("room for a piece", self.reply.text(text)).await.expect("somebody waits for it");
    }

    pub fn end(self, tokens_in: u64, tokens_out: u64) {
        assert!(self.end.send(Ok(Usage { tokens_in, tokens_out })).is_ok(), "somebody waits for it");
    }

    pub fn fail(self, refusal: Refusal) {
        assert!(self.end.send(Err(refusal)).is_ok(), "somebody waits for it");
    }

    /// All of an answer: a token for each word.
    pub async fn answer(self, text: &str) {
        self.say(text).await;
        self.end(10, text.split(' ').count() as u64);
    }

    /// Until the adapter was told that nobody wants the rest.
    pub async fn gone(self) {
        let Call { gone, end: _end, model, .. } = self;
        let over = within(&format!("{model} to be told that nobody waits"), gone).await;
        assert!(over.is_err(), "the handler was dropped");
    }
}

/// Connections of adapters, as the data plane counts them.
pub async fn attached(atp: &Atp) -> u64 {
    Page::of(atp.admin).await.value("atp_adapters_attached")
}

/// An Adapter that dials in; each model 1 USD a million tokens in and 2 out.
pub fn declared(name: &str, models: &[&str]) -> String {
    let price = "{ in: 1.0, out: 2.0 }";
    let models = models
        .iter()
        .map(|model| format!("    - {{ name: {model}, quality: 0.8, safety_grade: A, price: {price} }}\n"));
    format!(
        "---\nkind: Adapter\nname: {name}\nspec:\n  kind: attached\n  models:\n{}",
        models.collect::<String>()
    )
}

/// Both planes on this machine, where whoever is on it may attach; `model` is the last of `resources` that
/// must be known.
pub async fn up(folder: &Folder, resources: &str, model: &str) -> Atp {
    let atp = Atp::up(folder).await;
    atp.apply(folder, resources).await;
    let caller = Caller::new(atp.clients);
    let known = format!("\"{model}\"");
    until("the resources to be served", async || caller.get("/v1/models").await.text.contains(&known)).await;
    atp
}

/// More than any test has waiting.
const CALLS_MAX: usize = 256;
