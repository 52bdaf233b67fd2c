//! QUIC's port: HTTP/3 is served as HTTP is, each answer by itself, and nobody comes in without what is asked
//! for.

mod atp;

use std::time::SystemTime;

use http::Request;
use quinn::ConnectionError;

use crate::kit::{Atp, Authority, Caller, Folder, Pair, adapter, h3, mock, quic, tenant, until, within};

/// Settings of a TLS listener with files of `authority`; `auth`: whether clients show certificates.
fn tls(folder: &Folder, authority: &Authority, auth: &str) -> String {
    let Pair { cert, key } = authority.server();
    let (cert, key) = (folder.write("server.pem", &cert), folder.write("server.key", &key));
    let ca = folder.write("ca.pem", &authority.pem);
    format!(
        "tls: {{ listen: \"127.0.0.1:0\", cert: {}, key: {}, client_ca: {}, client_auth: {auth} }}\n",
        cert.display(),
        key.display(),
        ca.display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_over_http_is_served_over_http3() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let resources = adapter("a", &mock.url(), &["m--tokens-5"]);
    let atp = Atp::of_file_with(&folder, &resources, &tls(&folder, &authority, "optional")).await;
    let mut third = h3(atp.quic().await, authority.trusted_by(None)).await.expect("a connection");
    let streamed = third.chat("m--tokens-5", true).await.whole().await;
    assert_eq!(streamed.status, 200);
    assert!(!streamed.is_cut && streamed.text.ends_with("data: [DONE]\n\n"), "{}", streamed.text);
    assert_eq!(streamed.header("x-atp-adapter"), "a");
    assert!(streamed.header("date").ends_with(" GMT"), "{}", streamed.header("date"));
    let whole = third.chat("m--tokens-5", false).await.whole().await;
    assert_eq!(whole.header("content-length"), whole.text.len().to_string());
    assert_eq!(whole.json()["choices"][0]["message"]["role"], "assistant");
    let unknown = third.chat("nobody", true).await.whole().await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "model_not_found"));
    let listed = third.get("/v1/models").await;
    assert_eq!(listed.json()["data"][0]["id"], "m--tokens-5", "{}", listed.text);
    let head = Request::head("https://localhost/v1/models").body(()).expect("a request");
    let head = third.send(head, None).await.whole().await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), listed.text.len().to_string());
    let page = Caller::new(atp.clients).get("/metrics").await.text;
    assert!(
        page.contains("\natp_quic_retries_total 1\n"),
        "whoever comes first is asked to prove its address"
    );
    assert!(page.contains("\natp_quic_refused_total{reason=\"crowded\"} 0\n"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_as_long_as_allowed_passes_and_one_longer_does_not() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let resources = adapter("a", &mock.url(), &["m"]);
    let settings = tls(&folder, &authority, "optional") + "limits: { body_bytes: 1048576 }\n";
    let atp = Atp::of_file_with(&folder, &resources, &settings).await;
    let mut third = h3(atp.quic().await, authority.trusted_by(None)).await.expect("a connection");
    for (bytes, status) in [(1024 * 1024, 200), (1024 * 1024 + 1, 413)] {
        let frame = r#"{"model":"m","messages":[{"role":"user","content":""}]}"#;
        let body =
            frame.replace(r#""content":""#, &format!(r#""content":"{}"#, "a".repeat(bytes - frame.len())));
        assert_eq!(body.len(), bytes);
        let request = Request::post("https://localhost/v1/chat/completions").body(()).expect("a request");
        let answer = third.send(request, Some(body.into())).await.whole().await;
        assert_eq!(answer.status, status, "{bytes}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_nobody_reads_slows_no_other_of_its_connection() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let (long, short) = ("m--tokens-200000", "m--tokens-5");
    let resources = adapter("a", &mock.url(), &[long, short]);
    let atp = Atp::of_file_with(&folder, &resources, &tls(&folder, &authority, "optional")).await;
    let mut third = h3(atp.quic().await, authority.trusted_by(None)).await.expect("a connection");
    let unread: Vec<_> = [third.chat(long, true).await, third.chat(long, true).await].into();
    for _ in 0..50 {
        let answer = third.chat(short, true).await.whole().await;
        assert!(!answer.is_cut && answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
    }
    assert_eq!(mock.model(long).completed, 0, "what nobody reads is not read from upstream either");
    drop(unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_wants_no_more_cancels_upstream_before_and_after_the_first_byte() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let (slow, silent) = ("m--tokens-1000--token-rate-20", "m--hang");
    let resources = adapter("a", &mock.url(), &[slow, silent]);
    let atp = Atp::of_file_with(&folder, &resources, &tls(&folder, &authority, "optional")).await;
    let address = atp.quic().await;
    let mut third = h3(address, authority.trusted_by(None)).await.expect("a connection");
    let mut flow = third.chat(slow, true).await;
    flow.read_to("tok3").await;
    drop(flow);
    until("the upstream to know", async || mock.model(slow).cancelled == 1).await;
    let waiting = tokio::spawn(async move { third.chat(silent, true).await.status });
    until("the upstream to be asked", async || mock.model(silent).requests == 1).await;
    waiting.abort();
    until("the upstream to know", async || mock.model(silent).cancelled == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_streams_finish_and_takes_no_new_connection() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let model = "m--tokens-40--token-rate-40";
    let resources = adapter("a", &mock.url(), &[model]);
    let settings = tls(&folder, &authority, "optional") + "drain: { delay_ms: 0, grace_ms: 15000 }\n";
    let mut atp = Atp::of_file_with(&folder, &resources, &settings).await;
    let address = atp.quic().await;
    let mut third = h3(address, authority.trusted_by(None)).await.expect("a connection");
    let mut flow = third.chat(model, true).await;
    flow.read_to("tok").await;
    atp.signal("-TERM");
    until("new connections to be refused", async || h3(address, authority.trusted_by(None)).await.is_err())
        .await;
    let answer = flow.whole().await;
    assert!(!answer.is_cut && answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
    assert_eq!(atp.ended().await, Some(0));
    assert!(!atp.said().contains("did not end in time"), "{}", atp.said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_longer_than_the_grace_ends_with_an_error_and_a_reset() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let model = "m--tokens-1000--token-rate-10";
    let resources = adapter("a", &mock.url(), &[model]);
    let settings = tls(&folder, &authority, "optional") + "drain: { delay_ms: 0, grace_ms: 200 }\n";
    let mut atp = Atp::of_file_with(&folder, &resources, &settings).await;
    let mut third = h3(atp.quic().await, authority.trusted_by(None)).await.expect("a connection");
    let mut flow = third.chat(model, true).await;
    flow.read_to("tok").await;
    atp.signal("-TERM");
    let answer = flow.whole().await;
    assert!(answer.is_cut && answer.text.contains(r#""code":"draining""#), "{}", answer.text);
    assert_eq!(atp.ended().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_certificate_is_required_only_a_good_one_comes_in() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let key = "a-key-of-acme-a-key-of-acme-a-key";
    let resources = adapter("a", &mock.url(), &["m"]) + &tenant("acme", key);
    let atp = Atp::of_file_with(&folder, &resources, &tls(&folder, &authority, "required")).await;
    let address = atp.quic().await;
    let acme = "spiffe://test/tenant/acme";
    let good = authority.client(&[acme]);
    let mut third = h3(address, authority.trusted_by(Some(&good))).await.expect("a connection");
    let answer = third.chat("m", false).await.whole().await;
    assert_eq!(answer.status, 200, "who it is stands in the certificate: {}", answer.text);
    let day = std::time::Duration::from_secs(86_400);
    let refused = [
        ("none", None),
        ("expired", Some(authority.client_until(&[acme], SystemTime::now() - day))),
        ("of another authority", Some(Authority::new().client(&[acme]))),
        ("without a name", Some(authority.client(&[]))),
        ("with two names", Some(authority.client(&[acme, "spiffe://test/tenant/other"]))),
    ];
    for (what, client) in refused {
        for protocol in [&b"h3"[..], b"atp/1"] {
            let connected = quic(address, authority.trusted_by(client.as_ref()), protocol).await;
            // A client's handshake is over before its certificate is looked at.
            let error = match connected {
                Ok((_endpoint, connection)) => {
                    let sent = within("a refusal", connection.accept_uni()).await;
                    assert!(sent.is_err(), "{what}: the server sent something");
                    connection.close_reason().expect("closed")
                }
                Err(error) => error,
            };
            let is_tls = matches!(&error, ConnectionError::ConnectionClosed(close)
                if (0x100..0x200).contains(&u64::from(close.error_code)));
            assert!(is_tls, "{what}: {error:?}");
        }
    }
    let served = mock.model("m").requests;
    assert_eq!(served, 1, "nothing of them reached anybody");
    let keyed = Caller::new(atp.clients).with_key(key).chat("m").await;
    assert_eq!(keyed.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let resources = adapter("a", &mock.url(), &["m"]);
    let atp = Atp::of_file_with(&folder, &resources, &tls(&folder, &authority, "optional")).await;
    let address = atp.quic().await;
    let mut old = h3(address, authority.trusted_by(None)).await.expect("a connection");
    let next = Authority::new();
    let Pair { cert, key } = next.server();
    folder.write("server.key", &key);
    folder.write("server.pem", &cert);
    until("the new certificate", async || h3(address, next.trusted_by(None)).await.is_ok()).await;
    assert!(h3(address, authority.trusted_by(None)).await.is_err(), "only the new one is shown");
    assert_eq!(old.get("/v1/models").await.status, 200);
}
