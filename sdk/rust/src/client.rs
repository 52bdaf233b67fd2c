//! A program's session with a data plane: many requests at once over one connection.

use std::sync::Arc;

use bytes::Bytes;
use proto_core::frame::{Meta, RawJson, Text, Window};
use proto_core::session::{Message, Opening, Settings};
use serde::Serialize;
use serde_json::Value;

use crate::answer::Answer;
use crate::session::link::Dial;
use crate::session::{Session, chance};
use crate::transport::Target;
use crate::{Ask, Dispatch, Failure, Options, Via};

/// A session. Clones share it; it ends in order when the last of them, and the last answer, is dropped.
#[derive(Debug, Clone)]
pub struct Client {
    session: Session,
    options: Arc<Options>,
}

impl Client {
    /// Opens a session with the data plane at `url` and waits until it is granted.
    ///
    /// # Errors
    /// Where nobody answers, or whoever answers refuses.
    pub async fn connect(url: &str, options: Options) -> Result<Client, Failure> {
        let dial = Target::new(url, &options)?.dial();
        Client::over(dial, options, Meta::default()).await
    }

    /// As [`Client::connect`], over connections that `dial` makes.
    pub(crate) async fn over(dial: Dial, options: Options, meta: Meta) -> Result<Client, Failure> {
        let session = open(dial, &options, meta, None).await?;
        Ok(Client { session, options: Arc::new(options) })
    }

    /// Asks a prompt.
    ///
    /// # Errors
    /// Where the session is over, or has no room in time. Refusals come from the answer.
    pub async fn ask(&self, ask: impl Into<Ask>) -> Result<Answer, Failure> {
        self.begin("completion", &ask.into()).await
    }

    /// Asks in OpenAI's words: the body of a chat completion. Every key passes through.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn complete(&self, body: &Value) -> Result<Answer, Failure> {
        self.begin("completion", body).await
    }

    /// Asks several at once.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn dispatch(&self, dispatch: &Dispatch) -> Result<Answer, Failure> {
        self.begin("agent.dispatch", dispatch).await
    }

    /// Asks for what gave its place to another ([`Failure::Refused`] has the token), in this session and
    /// once: the same request, answered from its beginning, and not cut for another again.
    ///
    /// # Errors
    /// As [`Client::ask`]; where the token is spent or too old, `EBAD_INPUT`.
    pub async fn resume(&self, token: &str) -> Result<Answer, Failure> {
        self.begin("completion", &serde_json::json!({ "resume_token": token })).await
    }

    async fn begin(&self, kind: &'static str, content: &impl Serialize) -> Result<Answer, Failure> {
        let content = json(content)?;
        let mut message = Message::new(kind, content).last();
        if let Some(task) = &self.options.task_type {
            let meta = Meta { task_type: Some(task.as_str().into()), ..Meta::default() };
            message.meta = Some(Box::new(meta));
        }
        let strand = self.session.begin(message, self.options.patience).await?;
        Ok(Answer::new(strand, self.options.silence, self.session.clone()))
    }

    /// What may be under way at once; requests beyond it wait.
    pub fn window(&self) -> Window {
        self.session.window()
    }

    /// Waits until the window is another than `known`.
    ///
    /// # Errors
    /// Where the session ends first.
    pub async fn window_changed(&self, known: Window) -> Result<Window, Failure> {
        self.session.window_changed(known).await
    }

    /// How often a lost connection was made good.
    pub fn resumes(&self) -> u64 {
        self.session.resumes()
    }

    /// Whether there is a connection right now; without one the session waits for the next.
    pub fn is_connected(&self) -> bool {
        self.session.is_connected()
    }

    /// The run's name.
    pub fn session_id(&self) -> &str {
        self.session.id()
    }

    /// Takes nothing new, lets answers under way end, and ends the session.
    ///
    /// # Errors
    /// Where it ended in another way.
    pub async fn finish(self) -> Result<(), Failure> {
        self.session.finish().await
    }
}

/// Opens a session as `options` say.
pub(crate) async fn open(
    dial: Dial,
    options: &Options,
    meta: Meta,
    offered: Option<tokio::sync::mpsc::UnboundedSender<crate::session::strand::Strand>>,
) -> Result<Session, Failure> {
    let id = options.session_id.clone().unwrap_or_else(chance::name);
    let settings =
        Settings { encoding: options.encoding, wants_resume: options.resumes, ..Settings::default() };
    let mut meta = Meta { task_type: options.task_type.as_deref().map(Text::from), ..meta };
    // The others have a header for it.
    if let (Via::Quic, Some(key)) = (options.via, &options.key) {
        meta.ext.insert(Text::of_static("key"), RawJson::of_text(key));
    }
    let opening = Opening { qos: options.qos.clone(), window: options.window, meta };
    Session::open(id.into(), settings, opening, dial, offered).await
}

/// As the content of a message.
pub(crate) fn json(content: &impl Serialize) -> Result<RawJson, Failure> {
    let bytes = serde_json::to_vec(content).map_err(|error| Failure::Unsendable(error.to_string()))?;
    RawJson::parse(Bytes::from(bytes)).map_err(|malformed| Failure::Unsendable(malformed.to_string()))
}
