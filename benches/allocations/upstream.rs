//! The least of an upstream: HTTP/1.1 by hand on threads of its own, each answer one write. Streams move at
//! the pace of the client, so that every event is a read of its own for whoever stands between.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

/// An upstream that serves until the process ends.
pub struct Upstream {
    pub address: SocketAddr,
    /// One more event of the stream under way.
    pub more: SyncSender<()>,
}

/// `events`: how many a stream has, each sent when [`Upstream::more`] says so.
pub fn serve() -> std::io::Result<Upstream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (more, wanted) = sync_channel(1);
    let wanted = Arc::new(Mutex::new(wanted));
    std::thread::Builder::new().name("upstream".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let wanted = Arc::clone(&wanted);
            // A connection that ends, ends its thread; the bench ends with the process.
            let _ = std::thread::Builder::new()
                .name("upstream".into())
                .spawn(move || connection(stream, &wanted));
        }
    })?;
    Ok(Upstream { address, more })
}

fn connection(mut stream: TcpStream, wanted: &Mutex<Receiver<()>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let answer = whole_answer();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let Some(length) = whole_length(&buffer[..filled]) else { continue };
        assert!(length <= filled, "requests come one at a time");
        let is_streamed = find(&buffer[..filled], br#""stream":true"#).is_some();
        filled = 0;
        if is_streamed {
            stream_answer(&mut stream, wanted)?;
        } else {
            stream.write_all(&answer)?;
        }
    }
}

fn stream_answer(stream: &mut TcpStream, wanted: &Mutex<Receiver<()>>) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let event = benches::event();
    let event = [format!("{:x}\r\n", event.len()).as_bytes(), &event, b"\r\n"].concat();
    let wanted = wanted.lock().expect("a bench does not panic");
    stream.write_all(&event)?;
    for _ in 1..EVENTS {
        if wanted.recv().is_err() {
            return Ok(());
        }
        stream.write_all(&event)?;
    }
    let _ = wanted.recv();
    let last = "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
                data: [DONE]\n\n";
    stream.write_all(format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len()).as_bytes())
}

fn whole_answer() -> Vec<u8> {
    let body = benches::answer_500();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// Of a request or an answer with `content-length`, once all of it is in `bytes`.
pub fn whole_length(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("a head is ASCII").to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"))?;
    let length: usize = length.trim().parse().expect("a number");
    (bytes.len() >= head + length).then_some(head + length)
}

/// Where `wanted` first stands.
pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Of one stream.
pub const EVENTS: usize = 500;
const BUFFER_BYTES: usize = 64 * 1024;
