//! The session under everything else here: one task that owns the machine, and strands to it. Whatever joins
//! a [`link::Link`] carries it, so that all of this is tested without a socket.

pub mod chance;
pub mod clock;
mod keeper;
pub mod link;
pub mod strand;
#[cfg(test)]
mod tests;

use std::time::Duration;

use proto_core::frame::{Frame, Text, Window};
use proto_core::session::{AgentStatus, Message, Opening, Session as Machine, Settings};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use self::keeper::{Held, Keeper, View};
use self::link::Dial;
use self::strand::{Command, Strand};
use crate::Failure;

/// A session, and how it is used. Clones are the same session; it finishes when the last one, and the last
/// strand, is dropped.
#[derive(Debug, Clone)]
pub struct Session {
    id: Text,
    commands: mpsc::UnboundedSender<Command>,
    view: watch::Receiver<View>,
}

impl Session {
    /// Dials and waits until it is granted. Streams that the other end opens go to `offered`.
    pub async fn open(
        id: Text,
        settings: Settings,
        opening: Opening,
        dial: Dial,
        offered: Option<mpsc::UnboundedSender<Strand>>,
    ) -> Result<Session, Failure> {
        let patience = settings.opening;
        let link = dial().await?;
        let machine = Machine::dial(settings, id.clone(), opening, clock::now());
        let Held { commands, view } = Keeper::start(machine, link, dial, offered);
        let mut session = Session { id, commands, view };
        let granted = session.view.wait_for(|view| view.window.is_some() || view.ended.is_some());
        // The machine has this deadline too; this one also holds where it errs.
        let granted = timeout(patience + GRACE, granted).await;
        match granted.map(|view| view.map(|view| view.ended.clone())) {
            Err(_) => Err(Failure::Timeout(patience.as_secs())),
            Ok(Err(_)) => Err(Failure::Ended),
            Ok(Ok(Some(failure))) => Err(failure),
            Ok(Ok(None)) => Ok(session),
        }
    }

    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// A stream that begins with this message, once the window has a place for it.
    pub async fn begin(&self, message: Message, patience: Duration) -> Result<Strand, Failure> {
        let (to, begun) = oneshot::channel();
        self.command(Command::Begin { message, to })?;
        match timeout(patience, begun).await {
            Ok(begun) => begun.unwrap_or(Err(Failure::Ended)),
            Err(_) => Err(Failure::Crowded(patience.as_secs())),
        }
    }

    pub fn tell_status(&self, status: AgentStatus) -> Result<(), Failure> {
        self.command(Command::Status(Box::new(status)))
    }

    pub fn tell(&self, frame: Frame) -> Result<(), Failure> {
        self.command(Command::Tell(Box::new(frame)))
    }

    /// Takes nothing new, lets what is under way end, and ends the session.
    pub async fn finish(&self) -> Result<(), Failure> {
        let _ = self.commands.send(Command::Finish);
        match self.ended().await {
            Failure::Ended => Ok(()),
            failure => Err(failure),
        }
    }

    /// Why it is over, once it is.
    pub async fn ended(&self) -> Failure {
        let mut view = self.view.clone();
        let ended = view.wait_for(|view| view.ended.is_some()).await;
        ended.ok().and_then(|view| view.ended.clone()).unwrap_or(Failure::Ended)
    }

    pub fn window(&self) -> Window {
        self.view.borrow().window.unwrap_or_default()
    }

    /// Waits for the window to become another than `known`.
    pub async fn window_changed(&self, known: Window) -> Result<Window, Failure> {
        let mut view = self.view.clone();
        let is_other =
            |view: &View| view.ended.is_some() || view.window.is_some_and(|window| window != known);
        let view = view.wait_for(is_other).await.map_err(|_| Failure::Ended)?;
        view.ended.clone().map_or_else(|| Ok(view.window.unwrap_or_default()), Err)
    }

    pub fn resumes(&self) -> u64 {
        self.view.borrow().resumes
    }

    pub fn is_connected(&self) -> bool {
        self.view.borrow().is_connected
    }

    fn command(&self, command: Command) -> Result<(), Failure> {
        let why = |_| self.view.borrow().ended.clone().unwrap_or(Failure::Ended);
        self.commands.send(command).map_err(why)
    }
}

/// A queue whose bound is another: the credit of a stream, or that each entry's sender waits for its answer.
pub fn queue<T>() -> (mpsc::UnboundedSender<T>, mpsc::UnboundedReceiver<T>) {
    #[expect(clippy::disallowed_methods, reason = "each use says what bounds it")]
    mpsc::unbounded_channel()
}

/// Beside the machine's own deadline.
const GRACE: Duration = Duration::from_secs(1);
