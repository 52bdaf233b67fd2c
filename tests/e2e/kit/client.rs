//! Callers, one connection each, that see what a client sees: heads, pieces as they come, and whether an
//! answer ended or was cut.

use std::net::SocketAddr;

use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::within;

/// Makes requests to one address, each on a connection of its own.
#[derive(Clone)]
pub struct Caller {
    address: SocketAddr,
    host: &'static str,
    headers: Vec<(&'static str, String)>,
}

/// A whole answer, or what came of it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// It broke off.
    pub is_cut: bool,
}

/// An answer under way. Dropping it closes the connection.
pub struct Flow {
    pub status: u16,
    pub headers: HeaderMap,
    body: Incoming,
    connection: Connection,
}

/// Ends with its request.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Caller {
    pub fn new(address: SocketAddr) -> Caller {
        Caller { address, host: "localhost", headers: Vec::new() }
    }

    /// The same with a tenant's key.
    pub fn with_key(&self, key: &str) -> Caller {
        self.with("authorization", &format!("Bearer {key}"))
    }

    /// The same by another name of the server.
    pub fn at_host(&self, host: &'static str) -> Caller {
        Caller { host, ..self.clone() }
    }

    pub fn with(&self, name: &'static str, value: &str) -> Caller {
        let mut caller = self.clone();
        caller.headers.push((name, value.to_owned()));
        caller
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Bytes::new()).await.whole().await
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Method::POST, path, body.into()).await.whole().await
    }

    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Method::PUT, path, body.into()).await.whole().await
    }

    /// A chat that is not streamed.
    pub async fn chat(&self, model: &str) -> Answer {
        self.post(CHAT, chat(model, false)).await
    }

    /// A chat that is; its head has come.
    pub async fn stream(&self, model: &str) -> Flow {
        self.send(Method::POST, CHAT, chat(model, true).into()).await
    }

    /// A chat of these very words; its head has come.
    pub async fn chat_flow(&self, body: String) -> Flow {
        self.send(Method::POST, CHAT, body.into()).await
    }

    /// A request with this body; the head of its answer has come.
    pub async fn flow(&self, path: &str, body: String) -> Flow {
        self.send(Method::POST, path, body.into()).await
    }

    /// `/v1/ask` with these fields beside the prompt.
    pub async fn ask(&self, more: &Value) -> Answer {
        self.ask_flow(more).await.whole().await
    }

    pub async fn ask_flow(&self, more: &Value) -> Flow {
        let mut body = json!({"prompt": "say hi"});
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        self.send(Method::POST, "/v1/ask", body.to_string().into()).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Flow {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
        let request = self.request(method, path, body);
        let response = within("the head of an answer", sender.send_request(request)).await;
        Flow::of(response.expect("an answer"), connection)
    }

    pub fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(path).header("host", self.host);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request.body(Full::new(body)).expect("a request")
    }
}

impl Flow {
    fn of(response: http::Response<Incoming>, connection: Connection) -> Flow {
        let (head, body) = response.into_parts();
        Flow { status: head.status.as_u16(), headers: head.headers, body, connection }
    }

    /// The next piece; `None` at the end, an error where the answer was cut.
    pub async fn piece(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match within("a piece of an answer", self.body.frame()).await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => return Some(Ok(data)),
                    Err(_) => continue,
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Reads until `text` has come; what came until then.
    pub async fn read_to(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            match self.piece().await {
                Some(Ok(piece)) => read.push_str(&String::from_utf8_lossy(&piece)),
                Some(Err(error)) => panic!("cut before `{text}`: {error}; {read}"),
                None => panic!("ended before `{text}`: {read}"),
            }
        }
        read
    }

    /// All of it.
    pub async fn whole(mut self) -> Answer {
        let (mut text, mut is_cut) = (Vec::new(), false);
        while let Some(piece) = self.piece().await {
            match piece {
                Ok(piece) => text.extend_from_slice(&piece),
                Err(_) => {
                    is_cut = true;
                    break;
                }
            }
        }
        let Flow { status, headers, connection, .. } = self;
        drop(connection);
        Answer { status, headers, text: String::from_utf8_lossy(&text).into_owned(), is_cut }
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {}", self.text))
    }

    /// `error.code` of OpenAI's shape.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible text"))
    }
}

/// One object a line.
pub fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// One HTTP/2 connection with prior knowledge, for many requests.
pub struct Second {
    sender: http2::SendRequest<Full<Bytes>>,
    address: SocketAddr,
    _connection: Connection,
}

pub async fn h2(address: SocketAddr) -> Second {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(H2_WINDOW_BYTES).initial_connection_window_size(H2_CONNECTION_BYTES);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.expect("a connection");
    let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
    Second { sender, address, _connection: connection }
}

impl Second {
    /// A chat; the head of its answer has come.
    pub async fn chat(&mut self, model: &str, streamed: bool) -> Flow {
        let uri = format!("http://{}{CHAT}", self.address);
        let request = Request::post(uri).body(Full::new(chat(model, streamed).into())).expect("a request");
        let response = within("the head of an answer", self.sender.send_request(request)).await;
        Flow::of(response.expect("an answer"), Connection(tokio::spawn(async {})))
    }
}

/// The body of a chat.
pub fn chat(model: &str, streamed: bool) -> String {
    json!({
        "model": model,
        "messages": [{"role": "user", "content": "say hi"}],
        "stream": streamed,
    })
    .to_string()
}

pub const CHAT: &str = "/v1/chat/completions";
/// Small, so that a stream nobody reads shows soon.
const H2_WINDOW_BYTES: u32 = 64 * 1024;
const H2_CONNECTION_BYTES: u32 = 4 * 1024 * 1024;
