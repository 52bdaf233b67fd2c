//! How fast the gateway is, over its socket: puts and gets one after the other on one connection, and
//! searches over 100,000 objects of words as frequent as those of a language (Zipf).
//!
//! ```sh
//! cargo run --release -p memory-io --example measure -- [OBJECTS] [FOLDER]
//! ```

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use memory_io::Config;
use memory_io::config::Tenants;
use memory_io::index::FOLDER;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let objects = arguments.next().map_or(Ok(OBJECTS), |text| text.parse())?;
    let folder = arguments.next().map_or_else(|| std::env::temp_dir().join("atp-measure"), PathBuf::from);
    let _ = std::fs::remove_dir_all(&folder);
    let (address, stop, serving) = start(&folder).await?;
    let began = Instant::now();
    fill(address, objects).await?;
    println!("{objects} objects of {WORDS_EACH} words put in {:.1} s", began.elapsed().as_secs_f64());
    print("one page of a file and its fdatasync", syncs(&folder)?);
    let mut caller = Caller::new(address).await?;
    let mut random = Random(7);
    let mut puts = Vec::new();
    let mut gets = Vec::new();
    for at in 0..CALLS {
        let path = format!("/v1/memory/measure/{at}");
        puts.push(caller.timed(Method::PUT, &path, &object(&mut random)).await?);
        gets.push(caller.timed(Method::GET, &path, &Value::Null).await?);
    }
    print("put", puts);
    print("get", gets);
    for words in 1..=3 {
        let mut searches = Vec::new();
        for _ in 0..CALLS {
            let question = json!({"q": text(&mut random, words)});
            searches.push(caller.timed(Method::POST, "/v1/memory/search", &question).await?);
        }
        print(&format!("search, {words} words"), searches);
    }
    for (what, q, cursor) in QUESTIONS {
        let mut searches = Vec::new();
        for _ in 0..CALLS {
            let question = json!({"q": q, "cursor": cursor});
            searches.push(caller.timed(Method::POST, "/v1/memory/search", &question).await?);
        }
        print(&format!("search, {what}"), searches);
    }
    let mut fresh = Vec::new();
    for at in 0..CALLS / 10 {
        caller.timed(Method::PUT, &format!("/v1/memory/fresh/{at}"), &object(&mut random)).await?;
        let question = json!({"q": text(&mut random, 3)});
        fresh.push(caller.timed(Method::POST, "/v1/memory/search", &question).await?);
    }
    print("search, 3 words, right after a put", fresh);
    drop((stop, caller));
    serving.await??;
    opened(&folder, "with its index").await?;
    std::fs::remove_dir_all(folder.join(FOLDER))?;
    opened(&folder, "with an index that has to be made").await?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

type Serving = JoinHandle<Result<(), String>>;

async fn start(folder: &Path) -> Result<(SocketAddr, oneshot::Sender<()>, Serving), Failure> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config::read(listen, folder.to_owned(), Tenants::Undeclared, &|_| None);
    let bound = memory_io::bind(config.map_err(|mistakes| mistakes.join("\n"))?).await?;
    let address = bound.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(bound.serve(async { drop(stopped.await) }));
    Ok((address, stop, serving))
}

/// From a start to the first answer of a search.
async fn opened(folder: &Path, what: &str) -> Result<(), Failure> {
    let began = Instant::now();
    let (address, stop, serving) = start(folder).await?;
    let mut caller = Caller::new(address).await?;
    while caller.timed(Method::POST, "/v1/memory/search", &json!({"q": "w0"})).await.is_err() {}
    println!("started {what}: {:.2} s to the first search", began.elapsed().as_secs_f64());
    drop((stop, caller));
    serving.await??;
    Ok(())
}

/// What the disk itself takes for one write that is to stay: no put can be faster.
fn syncs(folder: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = File::create(folder.join("syncs"))?;
    file.write_all(&[1; 64 * PAGE])?;
    file.sync_all()?;
    let mut times = Vec::new();
    for at in 0..CALLS / 10 {
        let began = Instant::now();
        file.write_all_at(&[2; PAGE], (at % 64 * PAGE) as u64)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Many at once, as the store commits them together.
async fn fill(address: SocketAddr, objects: usize) -> Result<(), Failure> {
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            tokio::spawn(async move {
                let mut caller = Caller::new(address).await?;
                let mut random = Random(writer as u64 + 100);
                for at in (writer..objects).step_by(WRITERS) {
                    let path = format!("/v1/memory/notes/{at}");
                    caller.timed(Method::PUT, &path, &object(&mut random)).await?;
                }
                Ok::<(), Failure>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

struct Caller(SendRequest<Full<Bytes>>);

impl Caller {
    async fn new(address: SocketAddr) -> Result<Caller, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Caller(sender))
    }

    /// From the request to the last byte of its answer.
    async fn timed(&mut self, method: Method, path: &str, body: &Value) -> Result<Duration, Failure> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.body(Full::new(body))?;
        // Its task may not have seen yet that the answer before is over.
        self.0.ready().await?;
        let began = Instant::now();
        let answer = self.0.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        let took = began.elapsed();
        if !status.is_success() {
            return Err(format!("{path}: {status} {}", String::from_utf8_lossy(&body)).into());
        }
        Ok(took)
    }
}

fn object(random: &mut Random) -> Value {
    json!({"object": {"text": text(random, WORDS_EACH)}, "ttl_seconds": 0})
}

fn text(random: &mut Random, words: usize) -> String {
    let words: Vec<String> = (0..words).map(|_| format!("w{}", random.word())).collect();
    words.join(" ")
}

/// SplitMix64 (Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// By its rank: as likely as one over it.
    fn word(&mut self) -> u64 {
        ((VOCABULARY as f64).powf(self.next()) - 1.0) as u64
    }
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1000].as_secs_f64() * 1000.0;
    println!("{what}: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms", at(500), at(990), at(1000));
}

const PAGE: usize = 4096;
/// Of the words below, the commonest is `w0`.
const QUESTIONS: [(&str, &str, Option<&str>); 4] = [
    ("the commonest word", "w0", None),
    ("the 3 commonest words", "w0 w1 w2", None),
    ("a rare word", "w40000", None),
    ("the commonest word, the 51st page", "w0", Some("500")),
];
const OBJECTS: usize = 100_000;
const CALLS: usize = 2000;
const WORDS_EACH: usize = 20;
/// Different words; the commonest is in most objects.
const VOCABULARY: u64 = 50_000;
const WRITERS: usize = 64;
