//! Frames on their way into the streams of a connection: each as fast as the peer takes that one, whatever it
//! does with the others.
//!
//! ```text
//!            said, while nothing waits: written at once
//!  Opening ──────────> Open ── the peer takes no more ──> Blocked (a task writes on, and gives it back)
//!                       │ <──────────────────────────────────┘
//!                       │ the last was said, and heard, or LINGER
//!                       └──────────────────────────────────────────> Over <── reset, stopped, not taken
//! ```
//! Nearly always there is room. So whoever says it writes it, without a task or a channel for each stream;
//! only one that the peer leaves full has a task, until it is taken.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto_core::frame::{Encoding, Text};
use proto_core::session::prefixed;
use quinn::{Connection, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::reading::{Ended, Of, Reader, Reading};
use crate::serve::atp::link::Outbound;

/// The streams of one connection, as far as something is said there.
pub struct Ways {
    connection: Connection,
    encoding: Encoding,
    /// By stream of the session; its own frames go by the empty id.
    by_stream: HashMap<Text, Way>,
    /// Those that something was said on since they were written to.
    said: Vec<Text>,
    /// Said, and not written.
    held_bytes: usize,
    /// Streams of the connection that are being opened or written to, or whose end the peer does not know.
    under_way: usize,
    next: u64,
}

/// Where what is said of one stream goes.
struct Way {
    /// Tells it from another of the same stream.
    number: u64,
    /// `None`: somebody has it, and brings it back; or it is over.
    send: Option<SendStream>,
    /// Said, and not written.
    chunks: Vec<Bytes>,
    held_bytes: usize,
    /// With whoever has it.
    writing_bytes: usize,
    /// Which of the session's it is; `None` for the session's own.
    of: Option<Of>,
    /// Until the last is written.
    ended: Option<Ended>,
    is_last: bool,
    /// To be finished as soon as nothing waits.
    is_closing: bool,
    is_over: bool,
    is_noted: bool,
}

/// Which way something happened to.
#[derive(Debug, Clone)]
pub struct Which {
    stream: Text,
    number: u64,
}

/// What a task of a connection ends with.
pub enum Happened {
    /// A reader's end, which it told by itself.
    Nothing,
    /// Or the connection is gone.
    Opened(Which, Option<(SendStream, RecvStream)>),
    /// What waited was taken, or never will be.
    Written(Which, Fate),
    /// The peer knows the end, or wants no more: the second.
    Known(Which, bool),
    /// The last was said, and what is left to say of the stream was said as well.
    Lingered(Which),
}

/// What became of something that was written.
pub enum Fate {
    Taken(SendStream),
    /// The peer wants no more of it, or left it unread.
    Refused,
    /// With the connection.
    Lost,
}

/// The peer reads nothing, and goes on making us speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch;

type Tasks = JoinSet<Happened>;

impl Ways {
    pub fn new(connection: Connection, encoding: Encoding) -> Ways {
        Ways {
            connection,
            encoding,
            by_stream: HashMap::new(),
            said: Vec::new(),
            held_bytes: 0,
            under_way: 0,
            next: 0,
        }
    }

    /// What is said of a stream goes to one that is there.
    pub fn join(&mut self, tasks: &mut Tasks, send: SendStream, ended: Ended, of: Option<Of>) {
        if self.by_stream.len() >= WAYS_MAX {
            self.by_stream.retain(|_, way| !way.is_over);
        }
        let stream = of.as_ref().map(|of| of.stream.clone()).unwrap_or_default();
        let mut way = self.way(of);
        self.watch(tasks, &stream, &way, &send);
        (way.send, way.ended) = (Some(send), Some(ended));
        if let Some(mut before) = self.by_stream.remove(&stream) {
            if !before.is_over && !before.chunks.is_empty() {
                // What was said there and nobody wrote is said here; by [`Ways::write`].
                way.chunks = std::mem::take(&mut before.chunks);
                way.held_bytes = std::mem::take(&mut before.held_bytes);
                (way.is_last, way.is_noted) = (before.is_last, true);
                if !before.is_noted {
                    self.said.push(stream.clone());
                }
            }
            self.leave(before);
        }
        self.by_stream.insert(stream, way);
    }

    /// To be written by [`Ways::write`]. `of`: which stream it is of, where it is not heard of yet; one of
    /// the connection's is opened for it then.
    pub fn say(
        &mut self,
        tasks: &mut Tasks,
        outbound: Outbound,
        of: impl FnOnce(Text) -> Of,
    ) -> Result<(), TooMuch> {
        let Outbound { stream, message, is_last, held: _ } = outbound;
        let mut stream = stream.unwrap_or_default();
        match self.by_stream.get(&stream) {
            // What is left to say of one that is over.
            Some(way) if way.is_over => stream = Text::default(),
            Some(_) => {}
            None => self.open(tasks, of(stream.clone())),
        }
        let Some(way) = self.by_stream.get_mut(&stream).filter(|way| !way.is_over) else {
            return Err(TooMuch);
        };
        let bytes = message.len() + OVERHEAD_BYTES;
        if self.held_bytes + bytes > UNREAD_BYTES_MAX {
            return Err(TooMuch);
        }
        self.held_bytes += bytes;
        way.held_bytes += bytes;
        way.is_last |= is_last;
        push(&mut way.chunks, message);
        if !std::mem::replace(&mut way.is_noted, true) {
            self.said.push(stream);
        }
        Ok(())
    }

    /// Writes what was said, as far as the peer takes it.
    pub async fn write(&mut self, tasks: &mut Tasks) {
        let mut said = std::mem::take(&mut self.said);
        for stream in said.drain(..) {
            self.write_one(tasks, stream).await;
        }
        self.said = said;
    }

    async fn write_one(&mut self, tasks: &mut Tasks, stream: Text) {
        let Some(way) = self.by_stream.get_mut(&stream) else { return };
        way.is_noted = false;
        let Some(mut send) = way.send.take() else { return };
        let which = Which { stream, number: way.number };
        way.writing_bytes = std::mem::take(&mut way.held_bytes);
        let fate = match write_now(&mut send, &mut way.chunks).await {
            Poll::Ready(Ok(())) => {
                way.chunks.clear();
                Fate::Taken(send)
            }
            Poll::Ready(Err(error)) => Fate::of(&error),
            Poll::Pending => {
                let mut chunks = std::mem::take(&mut way.chunks);
                self.under_way += 1;
                tasks.spawn(async move {
                    let fate = match timeout(TAKES_WAIT, send.write_all_chunks(&mut chunks)).await {
                        Ok(Ok(())) => Fate::Taken(send),
                        Ok(Err(error)) => Fate::of(&error),
                        Err(_) => {
                            let _ = send.reset(NOT_READ);
                            Fate::Refused
                        }
                    };
                    Happened::Written(which, fate)
                });
                return;
            }
        };
        self.on_written(tasks, which, fate);
    }

    /// What became of a task.
    pub async fn on_happened(&mut self, tasks: &mut Tasks, happened: Happened) {
        match happened {
            Happened::Nothing => {}
            Happened::Opened(which, opened) => {
                self.under_way -= 1;
                self.on_opened(tasks, which, opened).await;
            }
            Happened::Written(which, fate) => {
                self.under_way -= 1;
                let stream = which.stream.clone();
                self.on_written(tasks, which, fate);
                // What was said meanwhile.
                self.write_one(tasks, stream).await;
            }
            Happened::Known(which, is_refused) => {
                self.under_way -= 1;
                if is_refused {
                    self.on_refused(tasks, &which);
                }
            }
            Happened::Lingered(which) => {
                if let Some(way) = self.find(&which) {
                    way.is_closing = true;
                    self.finish_if_done(&which);
                }
            }
        }
    }

    fn on_written(&mut self, tasks: &mut Tasks, which: Which, fate: Fate) {
        let Some(way) = self.find(&which) else {
            // Another has taken its place.
            if let Fate::Taken(mut send) = fate {
                let _ = send.finish();
            }
            return;
        };
        let freed = std::mem::take(&mut way.writing_bytes);
        match fate {
            // Refused meanwhile.
            Fate::Taken(_) if way.is_over => {}
            Fate::Taken(send) => {
                way.send = Some(send);
                if way.is_last
                    && way.chunks.is_empty()
                    && let Some(ended) = way.ended.take()
                {
                    let which = which.clone();
                    tasks.spawn(async move {
                        let _ = timeout(LINGER, ended).await;
                        Happened::Lingered(which)
                    });
                }
                self.finish_if_done(&which);
            }
            Fate::Refused => self.on_refused(tasks, &which),
            Fate::Lost => self.on_over(&which),
        }
        self.held_bytes -= freed;
    }

    fn finish_if_done(&mut self, which: &Which) {
        let Some(way) = self.find(which) else { return };
        if way.is_closing
            && way.chunks.is_empty()
            && let Some(mut send) = way.send.take()
        {
            way.is_over = true;
            // Fails where the peer wanted no more.
            let _ = send.finish();
        }
    }

    /// The peer takes nothing more: its stream of the session is over as well, unless all was said.
    fn on_refused(&mut self, tasks: &mut Tasks, which: &Which) {
        let Some(way) = self.find(which).filter(|way| !way.is_over) else { return };
        if let Some(of) = way.of.take().filter(|_| !way.is_last) {
            tasks.spawn(async move {
                of.reset().await;
                Happened::Nothing
            });
        }
        self.on_over(which);
    }

    /// What is left goes unsaid.
    fn on_over(&mut self, which: &Which) {
        let Some(way) = self.find(which) else { return };
        (way.is_over, way.send, way.chunks) = (true, None, Vec::new());
        let unsaid = std::mem::take(&mut way.held_bytes);
        self.held_bytes -= unsaid;
    }

    /// One of the connection's streams for one of the session's that the peer has opened none for.
    fn open(&mut self, tasks: &mut Tasks, of: Of) {
        let stream = of.stream.clone();
        let way = self.way(Some(of));
        let which = Which { stream: stream.clone(), number: way.number };
        let (connection, byte) = (self.connection.clone(), self.encoding.byte());
        self.under_way += 1;
        tasks.spawn(async move {
            let opening = async {
                // Waits while the peer allows no more streams.
                let (mut send, receive) = connection.open_bi().await.ok()?;
                send.write_all(&[byte]).await.ok()?;
                Some((send, receive))
            };
            Happened::Opened(which, opening.await)
        });
        self.by_stream.insert(stream, way);
    }

    async fn on_opened(&mut self, tasks: &mut Tasks, which: Which, opened: Option<(SendStream, RecvStream)>) {
        let encoding = self.encoding;
        let Some((mut send, receive)) = opened else { return self.on_over(&which) };
        let Some(way) = self.find(&which) else {
            let _ = send.finish();
            return;
        };
        let (reading, ended) = oneshot::channel();
        way.ended = Some(ended);
        let of = way.of.clone().expect("the session's own is never opened here");
        tasks.spawn(async move {
            Reader::of(receive, encoding, &of.begun).read_stream(&of).await;
            drop::<Reading>(reading);
            Happened::Nothing
        });
        self.under_way += 1;
        tasks.spawn(known(which.clone(), &send));
        if let Some(way) = self.find(&which) {
            way.send = Some(send);
        }
        self.write_one(tasks, which.stream).await;
    }

    /// Nothing more comes: until what was said is taken.
    pub async fn finish(mut self, mut tasks: Tasks) {
        let all: Vec<Which> = self
            .by_stream
            .iter_mut()
            .map(|(stream, way)| {
                way.is_closing = true;
                Which { stream: stream.clone(), number: way.number }
            })
            .collect();
        all.iter().for_each(|which| self.finish_if_done(which));
        while self.under_way > 0
            && let Some(ended) = tasks.join_next().await
        {
            if let Ok(happened) = ended {
                self.on_happened(&mut tasks, happened).await;
            }
        }
    }

    /// Hears of the end: that the peer has all of it, or wants no more.
    fn watch(&mut self, tasks: &mut Tasks, stream: &Text, way: &Way, send: &SendStream) {
        self.under_way += 1;
        tasks.spawn(known(Which { stream: stream.clone(), number: way.number }, send));
    }

    /// One that another has taken the place of.
    fn leave(&mut self, before: Way) {
        self.held_bytes -= before.held_bytes + before.writing_bytes;
        if let Some(mut send) = before.send {
            let _ = send.finish();
        }
    }

    fn way(&mut self, of: Option<Of>) -> Way {
        self.next += 1;
        Way {
            number: self.next,
            send: None,
            chunks: Vec::new(),
            held_bytes: 0,
            writing_bytes: 0,
            of,
            ended: None,
            is_last: false,
            is_closing: false,
            is_over: false,
            is_noted: false,
        }
    }

    fn find(&mut self, which: &Which) -> Option<&mut Way> {
        self.by_stream.get_mut(&which.stream).filter(|way| way.number == which.number)
    }
}

impl Fate {
    fn of(error: &WriteError) -> Fate {
        match error {
            WriteError::ConnectionLost(_) => Fate::Lost,
            _ => Fate::Refused,
        }
    }
}

fn known(which: Which, send: &SendStream) -> impl Future<Output = Happened> + Send + 'static {
    let stopped = send.stopped();
    async move {
        let is_refused = matches!(stopped.await, Ok(Some(_)));
        Happened::Known(which, is_refused)
    }
}

/// As much as there is room for; pending where something is left, and nobody is woken for it.
async fn write_now(send: &mut SendStream, chunks: &mut Vec<Bytes>) -> Poll<Result<(), WriteError>> {
    let mut done = 0;
    while done < chunks.len() {
        let written = {
            let mut writing = pin!(send.write_chunks(&mut chunks[done..]));
            poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx))).await
        };
        match written {
            Poll::Ready(Ok(written)) => done += written.chunks,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                chunks.drain(..done);
                return Poll::Pending;
            }
        }
    }
    Poll::Ready(Ok(()))
}

/// Small frames together; longer ones are not copied.
fn push(chunks: &mut Vec<Bytes>, message: Bytes) {
    let prefix = prefixed(&message);
    if message.len() >= ALONE_BYTES_MIN {
        chunks.push(Bytes::copy_from_slice(&prefix));
        return chunks.push(message);
    }
    // Nobody else has what was put together here, so that it grows where it stands.
    let last = chunks.pop_if(|last| last.len() < ALONE_BYTES_MIN).unwrap_or_default();
    let mut small = match last.try_into_mut() {
        Ok(small) => small,
        Err(shared) => {
            chunks.push(shared);
            BytesMut::new()
        }
    };
    small.reserve(prefix.len() + message.len());
    small.extend_from_slice(&prefix);
    small.extend_from_slice(&message);
    chunks.push(small.freeze());
}

/// Those that have ended among them: one that has is remembered for a while, since its last acknowledgement
/// need not open it again.
const WAYS_MAX: usize = 2048;
/// Of a connection, said and not written: a session's credit, and as much again for what frames add to it.
/// The session stops before; who comes here makes us answer and reads nothing.
const UNREAD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Of a frame that waits.
const OVERHEAD_BYTES: usize = 64;
/// Long enough not to be copied.
const ALONE_BYTES_MIN: usize = 2048;
/// For what follows the last message: acknowledgements of what the peer said last.
const LINGER: Duration = Duration::from_secs(5);
/// For what a stream was full with: as long as an answer's client has over HTTP/2.
const TAKES_WAIT: Duration = Duration::from_secs(30);
const NOT_READ: VarInt = VarInt::from_u32(7);
