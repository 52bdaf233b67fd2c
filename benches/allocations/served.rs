//! Whole requests through a data plane: keep-alive client, tenant's key, a hundred routes, metrics on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::{KEY, MODEL, MODEL_OF_TWO, Mode};
use dataplane_io::app::{self, Handle};
use dataplane_io::config::{Config, Origin, Tls};
use dataplane_io::drain::Times;
use dataplane_io::tls::{ClientAuth, Files};
use rustls::{ClientConfig, RootCertStore};

use crate::upstream::{self, EVENTS, Upstream, find, whole_length};
use crate::{counting, idle};

/// Prints each figure; false where one is above its bound.
pub fn measure(mode: Mode, tells_where: bool) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let upstream = upstream::serve().expect("an upstream");
    let folder = tempfile::tempdir().expect("a folder");
    let (tls, believed) = certificates(folder.path());
    let data = runtime.block_on(start(&upstream, folder.path(), tls));
    let requests = if mode.is_quick { 200 } else { 2000 };
    let mut bench = Bench { address: data.http[0], requests, tells_where, is_sound: true };
    let plain = request(MODEL, "", false);
    bench.whole("a request, six headers, answer of 500 bytes", &plain, Some(WHOLE_MAX));
    let of_two = request(MODEL_OF_TWO, "", false);
    bench.whole("the same, where another candidate may follow", &of_two, None);
    let of_sdk = request(MODEL, SDK_HEADERS, false);
    bench.whole("the first with an SDK's seven headers more", &of_sdk, None);
    bench.streamed(&upstream);
    let is_sound = bench.is_sound;
    let quic = data.quic.expect("it is served");
    let doors = idle::Doors { http: data.http[0], quic, tls: believed };
    let is_light = idle::measure(&runtime, &doors, tells_where);
    runtime.block_on(data.drain(std::future::ready(())));
    is_sound & is_light
}

async fn start(upstream: &Upstream, folder: &Path, tls: Tls) -> Handle {
    let resources = folder.join("resources.yaml");
    let text = benches::resources(&format!("http://{}/v1", upstream.address));
    std::fs::write(&resources, text).expect("the folder can be written");
    let anywhere: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let config = Config {
        http: vec![anywhere],
        admin: anywhere,
        workers: 1,
        tls: Some(tls),
        drain: Times { delay: Duration::ZERO, grace: Duration::ZERO },
        ..Config::local(folder.to_owned(), Origin::File(resources))
    };
    let data = app::start(config).expect("it starts");
    let until = Instant::now() + READY_WAIT;
    while !data.is_ready() {
        assert!(Instant::now() < until, "no set is served");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    data
}

/// Of a server, in files, and a client that believes it.
fn certificates(folder: &Path) -> (Tls, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (folder.join("server.pem"), folder.join("server.key"));
    std::fs::write(&cert, made.cert.pem()).expect("the folder can be written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("the folder can be written");
    let files = Files { cert, key, client_auth: ClientAuth::Off, client_ca: None, crls: Vec::new() };
    let listen = "127.0.0.1:0".parse().expect("an address");
    let tls = Tls { listen, is_asked_for: true, files: Some(files) };
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3 is there")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (tls, client)
}

struct Bench {
    address: SocketAddr,
    requests: u64,
    tells_where: bool,
    is_sound: bool,
}

impl Bench {
    fn whole(&mut self, name: &str, request: &[u8], bound: Option<f64>) {
        let mut client = Client::connect(self.address);
        (0..WARM_UP).for_each(|_| client.whole(request));
        let every = u64::from(self.tells_where) * SAMPLE_EVERY;
        let counted = counting::on_workers(every, || (0..self.requests).for_each(|_| client.whole(request)));
        self.tell(name, counted, self.requests, bound);
    }

    /// Of the events alone: the count begins behind the first of a stream and ends before the last.
    fn streamed(&mut self, upstream: &Upstream) {
        let mut client = Client::connect(self.address);
        let request = request(MODEL, "", true);
        client.stream(&request, upstream);
        let between = (EVENTS - 2 * MARGIN) as u64;
        let every = u64::from(self.tells_where) * SAMPLE_EVERY;
        client.send(&request);
        client.read_events(1);
        let step = |client: &mut Client| {
            upstream.more.send(()).expect("the upstream lives");
            client.read_events(1);
        };
        (1..MARGIN).for_each(|_| step(&mut client));
        let counted = counting::on_workers(every, || (0..between).for_each(|_| step(&mut client)));
        (0..MARGIN).for_each(|_| step(&mut client));
        upstream.more.send(()).expect("the upstream lives");
        client.read_to(b"0\r\n\r\n");
        self.tell("an event of a stream, each a read of its own", counted, between, Some(EVENT_MAX));
    }

    fn tell(&mut self, name: &str, (counted, bytes): (u64, u64), times: u64, bound: Option<f64>) {
        let (each, bytes_each) = (counted as f64 / times as f64, bytes as f64 / times as f64);
        let bound_text = bound.map_or_else(|| "none".to_owned(), |bound| bound.to_string());
        let is_over = bound.is_some_and(|bound| each > bound + NOW_AND_THEN);
        let note = if is_over { "  MORE" } else { "" };
        println!("{name:<52} {each:>12.3} {bound_text:>8}   {bytes_each:.0} bytes{note}");
        self.is_sound &= !is_over;
        for (count, place) in counting::samples().into_iter().take(if self.tells_where { 40 } else { 0 }) {
            println!("  {:.2} × {place}", count as f64 * SAMPLE_EVERY as f64 / times as f64);
        }
    }
}

/// A caller that reuses one buffer.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(READY_WAIT)).expect("a socket");
        Client { stream, buffer: vec![0; 64 * 1024], filled: 0 }
    }

    fn send(&mut self, request: &[u8]) {
        self.filled = 0;
        self.stream.write_all(request).expect("it reads");
    }

    fn read(&mut self) {
        let read = self.stream.read(&mut self.buffer[self.filled..]).expect("an answer in time");
        assert!(read > 0, "the answer was cut: {}", String::from_utf8_lossy(&self.buffer[..self.filled]));
        self.filled += read;
    }

    fn whole(&mut self, request: &[u8]) {
        self.send(request);
        while whole_length(&self.buffer[..self.filled]).is_none() {
            self.read();
        }
        assert!(self.buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer[..300]));
    }

    fn stream(&mut self, request: &[u8], upstream: &Upstream) {
        self.send(request);
        self.read_events(1);
        for _ in 1..EVENTS {
            upstream.more.send(()).expect("the upstream lives");
            self.read_events(1);
        }
        upstream.more.send(()).expect("the upstream lives");
        self.read_to(b"0\r\n\r\n");
    }

    /// Reads so many events and forgets them.
    fn read_events(&mut self, count: usize) {
        (0..count).for_each(|_| self.read_to(b"\n\n\r\n"));
    }

    fn read_to(&mut self, end: &[u8]) {
        loop {
            if let Some(at) = find(&self.buffer[..self.filled], end) {
                self.buffer.copy_within(at + end.len()..self.filled, 0);
                self.filled -= at + end.len();
                return;
            }
            self.read();
        }
    }
}

fn request(model: &str, headers: &str, streamed: bool) -> Vec<u8> {
    let body = benches::chat_body(model, streamed);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: application/json\r\n\
         content-type: application/json\r\nauthorization: Bearer {KEY}\r\nuser-agent: bench\r\n{headers}\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// Of a request that is not streamed, with headers every library knows.
const WHOLE_MAX: f64 = 12.0;
/// An event is passed on as it came, but the HTTP library looks for the next before it is written, and needs
/// a buffer for that: the buffer and the count of who shares it.
const EVENT_MAX: f64 = 2.0;
/// What OpenAI's SDKs send along.
const SDK_HEADERS: &str = "x-stainless-lang: python\r\nx-stainless-package-version: 1.99.0\r\n\
    x-stainless-os: Linux\r\nx-stainless-arch: x64\r\nx-stainless-runtime: CPython\r\n\
    x-stainless-runtime-version: 3.12.3\r\nx-stainless-async: false\r\n";
/// Above a bound: what is done once a second, such as writing the date.
const NOW_AND_THEN: f64 = 0.02;
const WARM_UP: u64 = 300;
/// Events at both ends of a stream that are not counted.
const MARGIN: usize = 20;
/// A prime, so that it does not keep step with a request.
const SAMPLE_EVERY: u64 = 7;
const READY_WAIT: Duration = Duration::from_secs(10);
