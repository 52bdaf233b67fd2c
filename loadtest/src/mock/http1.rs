//! HTTP/1.1 by hand: the mock must see the head as it came and must be able to break every rule.
//!
//! What it is for: keep-alive connections that record heads byte for byte, notice a leaving client at once,
//! and send wrong framing on demand; a well-behaved server library allows none of these. It never buffers
//! more than the named bounds below.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::answer::{Asked, Ending, answer};
use super::ledger::Left;
use super::wire::{Head, Wire};
use super::{Shared, render, reset};

/// Serves one connection until it ends; `unread` is what sniffing has already taken from it.
pub(crate) async fn serve(shared: &Shared, stream: TcpStream, mut unread: BytesMut) {
    let mut out = Vec::with_capacity(OUT_BYTES_USUAL);
    loop {
        let request = match read_request(&stream, &mut unread).await {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(why) => return refuse(&stream, &mut unread, &mut out, &why).await,
        };
        if shared.config.record && !request.target().starts_with("/mock/") {
            shared.ledger.record(request.head.clone(), &request.body);
        }
        let keep_alive = request.keep_alive;
        let asked = Asked {
            method: text(&request.method),
            target: request.target(),
            script: request.script.as_deref().map(text_of),
            body: request.body.clone(),
        };
        out.clear();
        let framing = Framing::Length;
        let mut wire = Wire::Http1(Reply {
            stream: &stream,
            unread: &mut unread,
            out: &mut out,
            framing,
            keep_alive,
            slow: None,
        });
        match answer(shared, &asked, &mut wire).await {
            Ending::Kept if keep_alive => {}
            Ending::Kept | Ending::Cut => return,
            Ending::Reset => return reset(stream),
        }
    }
}

/// One request, its parts slices of what was read.
struct Request {
    head: Bytes,
    method: Bytes,
    target: Bytes,
    script: Option<Bytes>,
    keep_alive: bool,
    body: Bytes,
}

impl Request {
    fn target(&self) -> &str {
        text(&self.target)
    }
}

enum Length {
    Known(usize),
    Chunked,
}

/// Why a request was not understood; the text goes into the 400.
enum Refused {
    Text(&'static str),
    Broken,
}

impl From<io::Error> for Refused {
    fn from(_: io::Error) -> Self {
        Refused::Broken
    }
}

async fn refuse(stream: &TcpStream, unread: &mut BytesMut, out: &mut Vec<u8>, why: &Refused) {
    let Refused::Text(why) = why else { return };
    out.clear();
    let body = render::error(400, why);
    let mut reply = Reply { stream, unread, out, framing: Framing::Length, keep_alive: false, slow: None };
    reply.head(&Head::whole(400, body.len()));
    if reply.body(&body).await.is_ok() {
        // The connection closes next; a client that has already left misses nothing.
        let _ = reply.flush().await;
    }
}

/// `None` is the orderly end of the connection between requests.
async fn read_request(stream: &TcpStream, unread: &mut BytesMut) -> Result<Option<Request>, Refused> {
    let mut searched = 0;
    let head_bytes = loop {
        if let Some(end) = find_head_end(&unread[searched..]) {
            break searched + end;
        }
        if unread.len() > HEAD_BYTES_MAX {
            return Err(Refused::Text("the head is longer than 64 KiB"));
        }
        searched = unread.len().saturating_sub(3);
        if read_more(stream, unread).await? == 0 {
            return if unread.is_empty() { Ok(None) } else { Err(Refused::Broken) };
        }
    };
    let head = unread.split_to(head_bytes).freeze();
    let (mut request, length, expects) = parse_head(head)?;
    if expects && unread.is_empty() {
        write_all(stream, b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    request.body = match length {
        Length::Known(bytes) => read_known(stream, unread, bytes).await?,
        Length::Chunked => read_chunked(stream, unread).await?,
    };
    Ok(Some(request))
}

fn parse_head(head: Bytes) -> Result<(Request, Length, bool), Refused> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    if !matches!(parsed.parse(&head), Ok(httparse::Status::Complete(_))) {
        return Err(Refused::Text("the head is no HTTP/1.1 request, or has more than 128 header lines"));
    }
    let slice = |part: &[u8]| head.slice_ref(part);
    let mut request = Request {
        method: slice(parsed.method.unwrap_or_default().as_bytes()),
        target: slice(parsed.path.unwrap_or_default().as_bytes()),
        script: None,
        keep_alive: parsed.version == Some(1),
        body: Bytes::new(),
        head: head.clone(),
    };
    let (mut length, mut expects) = (Length::Known(0), false);
    for field in parsed.headers.iter() {
        match field.name.len() {
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let bytes = text_of(field.value).parse().ok().filter(|&bytes| bytes <= BODY_BYTES_MAX);
                length =
                    Length::Known(bytes.ok_or(Refused::Text("content-length is no number up to 64 MiB"))?);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => length = Length::Chunked,
            10 if field.name.eq_ignore_ascii_case("connection") => {
                let value = text_of(field.value).to_ascii_lowercase();
                request.keep_alive =
                    (request.keep_alive || value.contains("keep-alive")) && !value.contains("close");
            }
            6 if field.name.eq_ignore_ascii_case("expect") => expects = true,
            13 if field.name.eq_ignore_ascii_case("x-mock-script") => {
                request.script = Some(slice(field.value))
            }
            _ => {}
        }
    }
    Ok((request, length, expects))
}

async fn read_known(stream: &TcpStream, unread: &mut BytesMut, bytes: usize) -> Result<Bytes, Refused> {
    while unread.len() < bytes {
        unread.reserve(bytes - unread.len());
        if read_more(stream, unread).await? == 0 {
            return Err(Refused::Broken);
        }
    }
    Ok(unread.split_to(bytes).freeze())
}

async fn read_chunked(stream: &TcpStream, unread: &mut BytesMut) -> Result<Bytes, Refused> {
    let mut body = BytesMut::new();
    loop {
        let line = read_line(stream, unread).await?;
        let size = text(&line).split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(size, 16).map_err(|_| Refused::Text("a chunk's size is no hex number"))?;
        if size > BODY_BYTES_MAX - body.len() {
            return Err(Refused::Text("the body is longer than 64 MiB"));
        }
        if size == 0 {
            while !read_line(stream, unread).await?.is_empty() {}
            return Ok(body.freeze());
        }
        body.extend_from_slice(&read_known(stream, unread, size).await?);
        if !read_line(stream, unread).await?.is_empty() {
            return Err(Refused::Text("a chunk does not end where its size says"));
        }
    }
}

async fn read_line(stream: &TcpStream, unread: &mut BytesMut) -> Result<Bytes, Refused> {
    loop {
        if let Some(end) = unread.windows(2).position(|pair| pair == b"\r\n") {
            let line = unread.split_to(end).freeze();
            unread.advance(2);
            return Ok(line);
        }
        if unread.len() > LINE_BYTES_MAX {
            return Err(Refused::Text("a chunk's size line is longer than 4 KiB"));
        }
        if read_more(stream, unread).await? == 0 {
            return Err(Refused::Broken);
        }
    }
}

/// Reads what is there, waiting for at least one byte; 0 is the client's end.
pub(crate) async fn read_more(stream: &TcpStream, unread: &mut BytesMut) -> io::Result<usize> {
    unread.reserve(READ_BYTES);
    loop {
        match stream.try_read_buf(unread) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
            read => return read,
        }
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
}

/// The answering half of a connection, for one answer.
pub(crate) struct Reply<'a> {
    stream: &'a TcpStream,
    /// Filled while answering, with what a pipelining client sends ahead.
    unread: &'a mut BytesMut,
    out: &'a mut Vec<u8>,
    framing: Framing,
    keep_alive: bool,
    /// Time for each byte.
    slow: Option<Duration>,
}

impl Reply<'_> {
    pub(crate) fn head(&mut self, head: &Head<'_>) {
        put(self.out, format_args!("HTTP/1.1 {} {}\r\n", head.status, reason(head.status)));
        put(self.out, format_args!("content-type: {}\r\n", head.content_type));
        match head.length {
            Some(bytes) => put(self.out, format_args!("content-length: {bytes}\r\n")),
            None => {
                self.framing = Framing::Chunked;
                self.out.extend_from_slice(b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n");
            }
        }
        if let Some((name, value)) = head.extra {
            put(self.out, format_args!("{name}: {value}\r\n"));
        }
        if !self.keep_alive {
            self.out.extend_from_slice(b"connection: close\r\n");
        }
        self.out.extend_from_slice(b"server: mock\r\n\r\n");
    }

    pub(crate) async fn body(&mut self, bytes: &[u8]) -> Result<(), Left> {
        match self.framing {
            Framing::Length => self.out.extend_from_slice(bytes),
            Framing::Chunked if bytes.is_empty() => {}
            Framing::Chunked => {
                put(self.out, format_args!("{:x}\r\n", bytes.len()));
                self.out.extend_from_slice(bytes);
                self.out.extend_from_slice(b"\r\n");
            }
        }
        if self.out.len() >= OUT_BYTES_MAX { self.flush().await } else { Ok(()) }
    }

    pub(crate) async fn flush(&mut self) -> Result<(), Left> {
        match self.slow {
            None => {
                let written = write_all(self.stream, self.out).await;
                self.out.clear();
                written.map_err(|_| Left::Reset)
            }
            Some(each) => {
                let slowly = std::mem::take(self.out);
                for byte in slowly {
                    write_all(self.stream, &[byte]).await.map_err(|_| Left::Reset)?;
                    self.wait_until(Some(Instant::now() + each)).await?;
                }
                Ok(())
            }
        }
    }

    pub(crate) async fn finish(&mut self) -> Result<(), Left> {
        if self.framing == Framing::Chunked {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.flush().await
    }

    pub(crate) async fn garbage(&mut self) -> Result<(), Left> {
        self.out.extend_from_slice(b"\x00\xffnot a chunk\r\n\r\nHTTP/9.9 nonsense\r\n");
        self.flush().await
    }

    /// Ends at a bound, for a client that reads on for ever is a finding, not a reason to run for ever.
    pub(crate) async fn endless_head(&mut self) -> Result<Ending, Left> {
        self.out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        for line in 0..ENDLESS_LINES_MAX {
            put(self.out, format_args!("x-endless-{line}: {}\r\n", "e".repeat(64)));
            if self.out.len() >= OUT_BYTES_MAX {
                self.flush().await?;
                self.still_there()?;
                tokio::task::yield_now().await;
            }
        }
        self.flush().await.map(|()| Ending::Cut)
    }

    pub(crate) fn slow_down(&mut self, bytes_per_s: u32) {
        self.slow = Some(Duration::from_secs(1) / bytes_per_s.max(1));
    }

    pub(crate) fn still_there(&mut self) -> Result<(), Left> {
        while self.unread.len() < UNREAD_BYTES_MAX {
            self.unread.reserve(READ_BYTES);
            match self.stream.try_read_buf(self.unread) {
                Ok(0) => return Err(Left::Closed),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Left::Reset),
            }
        }
        Ok(())
    }

    /// Waits for the moment (or for ever) while watching the client.
    pub(crate) async fn wait_until(&mut self, moment: Option<Instant>) -> Result<(), Left> {
        let timer = async {
            match moment {
                Some(moment) => tokio::time::sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(timer);
        // Once a client has sent the bound ahead, its leaving shows at the next write only.
        while self.unread.len() < UNREAD_BYTES_MAX {
            tokio::select! {
                biased;
                () = &mut timer => return Ok(()),
                ready = self.stream.readable() => ready.map_err(|_| Left::Reset)?,
            }
            self.still_there()?;
        }
        timer.await;
        Ok(())
    }
}

fn find_head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|start| start + 4)
}

fn text(bytes: &Bytes) -> &str {
    text_of(bytes)
}

fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default().trim()
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    io::Write::write_fmt(out, text).expect("a Vec takes every write");
}

/// Four times what common servers allow, so that the proxy's limit is met first.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 128;
/// Above every limit a proxy would set for a prompt.
const BODY_BYTES_MAX: usize = 64 << 20;
const LINE_BYTES_MAX: usize = 4 << 10;
const READ_BYTES: usize = 16 << 10;
/// What a client may send ahead while its answer is being made.
const UNREAD_BYTES_MAX: usize = 256 << 10;
/// Gathered answers go out in pieces of this size.
const OUT_BYTES_MAX: usize = 64 << 10;
const OUT_BYTES_USUAL: usize = 4 << 10;
/// Near 80 MiB of header lines.
const ENDLESS_LINES_MAX: u32 = 1_000_000;
