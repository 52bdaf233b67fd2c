//! A server of Ollama's shape, one request a connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub struct Ollama {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Drop for Ollama {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Ollama {
    pub async fn start(at: &str) -> Ollama {
        let listener = TcpListener::bind(at).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&kept)));
            }
        });
        Ollama { address, asked, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far.
    pub fn count(&self) -> usize {
        self.asked.lock().expect("nobody panics with it").len()
    }

    /// The body of the last one.
    pub fn last(&self) -> String {
        self.asked.lock().expect("nobody panics with it").last().cloned().unwrap_or_default()
    }
}

async fn answer(mut stream: TcpStream, asked: Arc<Mutex<Vec<String>>>) {
    let mut read = Vec::new();
    let body = loop {
        let mut piece = [0; 4096];
        let Ok(length @ 1..) = stream.read(&mut piece).await else { return };
        read.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("POST /api/chat HTTP/1.1\r\n"), "{head}");
        let lengths = head.lines().filter_map(|line| line.split_once(':'));
        let mut lengths = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let wanted: usize = lengths.next().expect("a length").1.trim().parse().expect("a number");
        if body.len() >= wanted {
            break body.to_owned();
        }
    };
    let request: Value = serde_json::from_str(&body).expect("JSON");
    asked.lock().expect("nobody panics with it").push(body);
    let _ = stream.write_all(told(&request).as_bytes()).await;
}

fn told(request: &Value) -> String {
    let model = request["model"].as_str().expect("a model");
    let of = |kind: &str, status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    if model == "absent" {
        let error = json!({"error": "model 'absent' not found"}).to_string();
        return of("application/json", "404 Not Found", &error);
    }
    let line = |text: &str, is_done: bool| {
        let mut line = json!({
            "model": model, "message": {"role": "assistant", "content": text}, "done": is_done,
        });
        if is_done {
            (line["done_reason"], line["prompt_eval_count"]) = ("stop".into(), 26.into());
            line["eval_count"] = 2.into();
        }
        line
    };
    if request["stream"] == false {
        return of("application/json", "200 OK", &line("Hello there", true).to_string());
    }
    let lines = [line("Hello", false), line(" there", false), line("", true)];
    of("application/x-ndjson", "200 OK", &lines.map(|line| line.to_string() + "\n").concat())
}
