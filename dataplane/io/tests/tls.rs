//! Adapters behind TLS: HTTP/2 where it is negotiated, a CA and a client certificate where they are named,
//! and a refusal that says so where they do not fit.

#![allow(clippy::unwrap_used, reason = "a test: what fails here fails it")]

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dataplane_io::app::{self, Handle};
use dataplane_io::config::{Config, Origin};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A certificate authority with a server's and a client's certificate, as files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn write(&self, folder: &Path, name: &str, usage: ExtendedKeyUsagePurpose) {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn write_ca(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(name), self.issuer.pem()).unwrap();
    }
}

/// A model server that speaks HTTP/2 only, and wants a client certificate of `ca.pem`. Says which of its
/// connections, from 1, it answers on, and tells how many are open.
async fn model_server(folder: &Path) -> (SocketAddr, Arc<AtomicUsize>) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let chain = vec![CertificateDer::from_pem_file(folder.join("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let mut config =
        ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    tokio::spawn(async move {
        let mut last = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            last += 1;
            let (number, counted) = (last, Arc::clone(&counted));
            // Order: relaxed, a count.
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, number));
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                // Order: relaxed, a count.
                counted.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    (address, open)
}

const USAGE: &str = r#""usage":{"prompt_tokens":1,"completion_tokens":1}"#;

async fn answer(
    request: Request<hyper::body::Incoming>,
    connection: usize,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let version = format!("{:?}", request.version());
    let body = format!(
        r#"{{"version":"{version}","path":"{}","connection":{connection},{USAGE}}}"#,
        request.uri().path()
    );
    let mut response = Response::new(Full::new(Bytes::from(body)));
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    Ok(response)
}

fn serve(folder: &Path, resources: &str) -> Handle {
    let file = folder.join("resources.yaml");
    std::fs::File::create(&file).unwrap().write_all(resources.as_bytes()).unwrap();
    let mut config = Config::local(folder.join("data"), Origin::File(file));
    config.http = vec!["127.0.0.1:0".parse().unwrap()];
    config.admin = "127.0.0.1:0".parse().unwrap();
    config.workers = 1;
    config.drain.delay = Duration::ZERO;
    config.drain.grace = Duration::ZERO;
    app::start(config).unwrap()
}

async fn ready(handle: &Handle) {
    let begun = Instant::now();
    while !handle.is_ready() {
        assert!(begun.elapsed() < Duration::from_secs(10), "never ready");
        tokio::task::yield_now().await;
    }
}

async fn ask(address: SocketAddr, model: &str) -> (u16, String) {
    let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
    let request = Request::post("/v1/chat/completions").header("host", "localhost");
    send(address, request.body(Full::new(Bytes::from(body))).unwrap()).await
}

async fn metrics(address: SocketAddr) -> String {
    let request = Request::get("/metrics").header("host", "localhost").body(Full::default());
    send(address, request.unwrap()).await.1
}

/// Until so many changes of adapters' files are in use.
async fn taken(handle: &Handle, times: usize) {
    let begun = Instant::now();
    let line = format!("\natp_adapter_files_taken_total {times}\n");
    while !metrics(handle.http[0]).await.contains(&line) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the new one is never taken");
    }
}

async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> (u16, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn adapter(name: &str, address: SocketAddr, tls: &str) -> String {
    let port = address.port();
    format!(
        "kind: Adapter\nname: {name}\nspec:\n  kind: openai\n  endpoint: https://localhost:{port}/base\n  \
         tls: {tls}\n  \
         models: [ {{ name: {name}-model }} ]\n---\n"
    )
}

#[tokio::test]
async fn an_adapter_behind_mutual_tls_is_spoken_to_in_http2_and_a_wrong_ca_is_a_502_that_says_tls() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (Authority::new(), Authority::new());
    right.write_ca(folder.path(), "ca.pem");
    wrong.write_ca(folder.path(), "other.pem");
    right.write(folder.path(), "server", ExtendedKeyUsagePurpose::ServerAuth);
    right.write(folder.path(), "client", ExtendedKeyUsagePurpose::ClientAuth);
    let (address, _) = model_server(folder.path()).await;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (ca, other, cert, key) = (at("ca.pem"), at("other.pem"), at("client.pem"), at("client.key"));
    let resources = [
        adapter("good", address, &format!("{{ ca: {ca}, cert: {cert}, key: {key} }}")),
        adapter("stranger", address, &format!("{{ ca: {other}, cert: {cert}, key: {key} }}")),
        adapter("nameless", address, &format!("{{ ca: {ca} }}")),
    ];
    let handle = serve(folder.path(), &resources.concat());
    ready(&handle).await;
    for _ in 0..3 {
        let (status, body) = ask(handle.http[0], "good-model").await;
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("HTTP/2.0") && body.contains("/base/chat/completions"), "{body}");
    }
    let (status, body) = ask(handle.http[0], "stranger-model").await;
    assert_eq!(status, 502, "{body}");
    assert!(body.contains("upstream_tls_error"), "{body}");
    let (status, body) = ask(handle.http[0], "nameless-model").await;
    assert_eq!(status, 502, "without its certificate nobody is served: {body}");
    handle.drain(std::future::pending()).await;
}

#[tokio::test]
async fn a_client_certificate_that_changes_on_disk_is_shown_from_then_on() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (Authority::new(), Authority::new());
    right.write_ca(folder.path(), "ca.pem");
    right.write(folder.path(), "server", ExtendedKeyUsagePurpose::ServerAuth);
    wrong.write(folder.path(), "client", ExtendedKeyUsagePurpose::ClientAuth);
    let (address, _) = model_server(folder.path()).await;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let files = format!("{{ ca: {}, cert: {}, key: {} }}", at("ca.pem"), at("client.pem"), at("client.key"));
    let handle = serve(folder.path(), &adapter("changing", address, &files));
    ready(&handle).await;
    let (status, body) = ask(handle.http[0], "changing-model").await;
    assert_eq!(status, 502, "another authority's: {body}");
    right.write(folder.path(), "client", ExtendedKeyUsagePurpose::ClientAuth);
    taken(&handle, 1).await;
    let (status, body) = ask(handle.http[0], "changing-model").await;
    assert_eq!(status, 200, "the new one is shown: {body}");
    handle.drain(std::future::pending()).await;
}

#[tokio::test]
async fn connections_made_with_a_certificate_that_changed_since_take_nothing_more_and_close() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let right = Authority::new();
    right.write_ca(folder.path(), "ca.pem");
    right.write(folder.path(), "server", ExtendedKeyUsagePurpose::ServerAuth);
    right.write(folder.path(), "client", ExtendedKeyUsagePurpose::ClientAuth);
    let (address, open) = model_server(folder.path()).await;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let files = format!("{{ ca: {}, cert: {}, key: {} }}", at("ca.pem"), at("client.pem"), at("client.key"));
    let handle = serve(folder.path(), &adapter("changing", address, &files));
    ready(&handle).await;
    for _ in 0..2 {
        let (_, body) = ask(handle.http[0], "changing-model").await;
        assert!(body.contains(r#""connection":1,"#), "one connection is used again: {body}");
    }
    right.write(folder.path(), "client", ExtendedKeyUsagePurpose::ClientAuth);
    taken(&handle, 1).await;
    let begun = Instant::now();
    // Order: relaxed, a count.
    while open.load(Ordering::Relaxed) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the old connection stays open");
        tokio::task::yield_now().await;
    }
    let (_, body) = ask(handle.http[0], "changing-model").await;
    assert!(body.contains(r#""connection":2,"#), "the old certificate was shown: {body}");
    handle.drain(std::future::pending()).await;
}
