//! One stream of a session, for whoever uses it: messages in order, and the end of it.

use proto_core::frame::{Code, Frame};
use proto_core::session::{AgentStatus, Message, Refusal, StreamKey};
use tokio::sync::{mpsc, oneshot};

use crate::Failure;

/// What a session is told by those who use it. The channel has no bound of its own: requests wait for their
/// answer, and what is consumed was bounded by the stream's credit when it was sent.
#[derive(Debug)]
pub enum Command {
    /// Opens a stream with this message as soon as the window allows it.
    Begin {
        message: Message,
        to: oneshot::Sender<Result<Strand, Failure>>,
    },
    Send {
        stream: StreamKey,
        message: Message,
        taken: oneshot::Sender<Result<(), Failure>>,
    },
    Consumed {
        stream: StreamKey,
        msg_seq: u64,
    },
    /// Nobody wants the rest of it.
    Reset {
        stream: StreamKey,
        refusal: Refusal,
    },
    Status(Box<AgentStatus>),
    /// Any other frame, as it is.
    Tell(Box<Frame>),
    Finish,
}

/// What comes of a stream.
#[derive(Debug)]
pub enum Said {
    Message {
        msg_seq: u64,
        message: Message,
    },
    /// Something was wrong with a message of this end.
    Warned(Refusal),
    Reset(Refusal),
    /// The session is over, and the stream with it.
    Lost(Failure),
}

/// A stream. Dropped before its end, the other end is told that nobody wants it any more.
#[derive(Debug)]
pub struct Strand {
    stream: StreamKey,
    said: mpsc::UnboundedReceiver<Said>,
    commands: mpsc::UnboundedSender<Command>,
    /// Both ends are done, or one of them has reset it.
    is_over: bool,
}

impl Strand {
    pub fn new(
        stream: StreamKey,
        said: mpsc::UnboundedReceiver<Said>,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Strand {
        Strand { stream, said, commands, is_over: false }
    }

    /// The next message, which counts as consumed from here on; `None` where there is nothing more.
    pub async fn next(&mut self) -> Result<Option<Message>, Failure> {
        if self.is_over {
            return Ok(None);
        }
        match self.said.recv().await {
            Some(Said::Message { msg_seq, message }) => {
                // A session that is over needs no news.
                let _ = self.commands.send(Command::Consumed { stream: self.stream, msg_seq });
                Ok(Some(message))
            }
            Some(Said::Warned(refusal)) => Err(refusal.into()),
            Some(Said::Reset(refusal)) => {
                self.is_over = true;
                Err(refusal.into())
            }
            Some(Said::Lost(failure)) => {
                self.is_over = true;
                Err(failure)
            }
            None => {
                self.is_over = true;
                Ok(None)
            }
        }
    }

    /// A way to say something on it, from wherever.
    pub fn teller(&self) -> Teller {
        Teller { stream: self.stream, commands: self.commands.clone() }
    }

    /// Ends it at once, with an error.
    pub fn reset(mut self, refusal: Refusal) {
        self.is_over = true;
        let _ = self.commands.send(Command::Reset { stream: self.stream, refusal });
    }

    /// All was said and heard; what is left ends by itself.
    pub fn leave(mut self) {
        self.is_over = true;
    }
}

impl Drop for Strand {
    fn drop(&mut self) {
        if !self.is_over {
            let refusal = Refusal::new(Code::Preempt, "cancelled: nobody waits for it any more");
            let _ = self.commands.send(Command::Reset { stream: self.stream, refusal });
        }
    }
}

/// Says something on a stream.
#[derive(Debug, Clone)]
pub struct Teller {
    stream: StreamKey,
    commands: mpsc::UnboundedSender<Command>,
}

impl Teller {
    /// Waits until the other end has room for it.
    pub async fn send(&self, message: Message) -> Result<(), Failure> {
        let (taken, is_taken) = oneshot::channel();
        let command = Command::Send { stream: self.stream, message, taken };
        self.commands.send(command).map_err(|_| Failure::Ended)?;
        is_taken.await.unwrap_or_else(|_| Err(Failure::Broken("the stream has ended".into())))
    }
}
