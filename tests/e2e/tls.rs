//! The listener behind TLS: who comes in and as whom, keys that change under load, certificates taken back.

mod client;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, SanType, SerialNumber};
use rustls::ClientConfig;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use self::client::Secure;
use crate::kit::{
    Atp, Authority, Folder, Page, Pair, adapter, finished, key_hash, mock, tenant, until, within,
};

/// The settings of a listener with files in `folder`; `more`: further fields.
fn listener(folder: &Folder, authority: &Authority, more: &str) -> String {
    put(folder, &authority.server());
    folder.write("ca.pem", &authority.pem);
    format!(
        "tls: {{ listen: \"127.0.0.1:0\", cert: server.pem, key: server.key, client_ca: ca.pem{more} }}\n"
    )
}

/// The server's pair; each file whole or not there, both not at once.
fn put(folder: &Folder, pair: &Pair) {
    for (name, content) in [("server.pem", &pair.cert), ("server.key", &pair.key)] {
        let aside = folder.write("aside", content);
        std::fs::rename(aside, folder.path().join(name)).expect("a rename");
    }
}

fn client(authority: &Authority, pair: Option<&Pair>) -> Arc<ClientConfig> {
    Arc::new(authority.trusted_by(pair))
}

/// A client's certificate, bent by `bend`.
fn bent(authority: &Authority, bend: impl FnOnce(&mut CertificateParams)) -> Pair {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri("spiffe://atp.local/tenant/acme")];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    bend(&mut params);
    authority.sign(params)
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().expect("ASCII"))
}

type Case = (&'static str, &'static str, Option<Pair>);

/// What is wrong, the reason it is counted under, and the certificate.
fn wrong(authority: &Authority, stranger: &Authority) -> Vec<Case> {
    let with = |names: Vec<SanType>| Some(bent(authority, |params| params.subject_alt_names = names));
    let now = SystemTime::now();
    let expired = bent(authority, |params| {
        (params.not_before, params.not_after) = ((now - 2 * DAY).into(), (now - DAY).into());
    });
    let early = bent(authority, |params| params.not_before = (now + DAY).into());
    let purpose = bent(authority, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let common_name = bent(authority, |params| {
        params.subject_alt_names = Vec::new();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "spiffe://atp.local/tenant/acme");
    });
    let two = vec![uri("spiffe://atp.local/tenant/acme"), uri("spiffe://atp.local/operator/acme")];
    vec![
        ("none", "missing", None),
        ("expired", "expired", Some(expired)),
        ("not yet valid", "not_yet_valid", Some(early)),
        ("another authority's", "unknown_issuer", Some(bent(stranger, |_| {}))),
        ("a server's", "purpose", Some(purpose)),
        ("without a name", "name", with(Vec::new())),
        ("with a common name only", "name", Some(common_name)),
        ("with two URIs", "name", with(two)),
        ("with another URI", "name", with(vec![uri("https://atp.local/tenant/acme")])),
        ("with an unknown role", "name", with(vec![uri("spiffe://atp.local/king/acme")])),
        ("with a wildcard", "name", with(vec![dns("*.example.com")])),
        ("with a zero byte in its name", "name", with(vec![dns("a.example\0.evil")])),
        ("with a thousand names", "name", with((0..1000).map(|at| dns(&format!("a{at}.example"))).collect())),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_as_it_should_be_is_refused_before_any_answer() {
    let (folder, mock, authority, stranger) =
        (Folder::new(), mock().await, Authority::new(), Authority::new());
    let settings = listener(&folder, &authority, "");
    let atp = Atp::of_file_with(&folder, &adapter("a", &mock.url(), &["m"]), &settings).await;
    let address = atp.https().await;
    for (what, reason, pair) in wrong(&authority, &stranger) {
        let key = format!("atp_tls_refused_total{{reason=\"{reason}\"}}");
        let before = Page::of(atp.admin).await.value(&key);
        // A client of TLS 1.3 is done before the server has looked: the refusal may come with the first
        // answer.
        if let Ok(mut connection) = Secure::connect(address, &client(&authority, pair.as_ref())).await {
            let answered = connection.chat("m", None).await;
            assert!(answered.is_err(), "{what}: {answered:?}");
        }
        until(what, async || Page::of(atp.admin).await.value(&key) == before + 1).await;
    }
    assert_eq!(mock.model("m").requests, 0, "nothing of it came through");
    let good = [
        bent(&authority, |_| {}),
        bent(&authority, |params| params.subject_alt_names = vec![dns("edge.example.com")]),
    ];
    for pair in &good {
        let mut connection = Secure::connect(address, &client(&authority, Some(pair))).await.expect("good");
        assert_eq!(connection.chat("m", None).await.expect("an answer").0, 200);
    }
    let page = Page::of(atp.admin).await;
    assert_eq!(page.value("atp_tls_handshakes_total{kind=\"full\"}"), 2);
    assert_eq!(page.value("atp_requests_answered_total{operation=\"chat\",status=\"2xx\"}"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_says_whose_requests_they_are() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let settings = listener(&folder, &authority, ", client_auth: optional");
    let listed = format!(
        "---\nkind: Tenant\nname: edge\nspec:\n  identities: [ \"dns:edge.example.com\" ]\n  \
         keys: [ {{ sha256: \"{}\" }} ]\n",
        key_hash("edge-key")
    );
    let resources = adapter("a", &mock.url(), &["m"]) + &tenant("acme", "acme-key") + &listed;
    let atp = Atp::of_file_with(&folder, &resources, &settings).await;
    let address = atp.https().await;
    let acme = authority.client(&["spiffe://atp.local/tenant/acme"]);
    let edge = bent(&authority, |params| params.subject_alt_names = vec![dns("edge.example.com")]);
    let operator = authority.client(&["spiffe://atp.local/operator/ann"]);
    let cases = [
        (Some(&acme), None, Ok("acme")),
        (Some(&acme), Some("acme-key"), Ok("acme")),
        (Some(&acme), Some("edge-key"), Err(401)),
        (Some(&acme), Some("nobody's"), Err(401)),
        (Some(&edge), None, Ok("edge")),
        (Some(&operator), None, Err(401)),
        (Some(&operator), Some("edge-key"), Ok("edge")),
        (None, None, Err(401)),
        (None, Some("acme-key"), Ok("acme")),
    ];
    for (at, (pair, key, expected)) in cases.into_iter().enumerate() {
        let served = |page: &Page, tenant: &str| {
            page.value(&format!("atp_tenant_requests_total{{tenant=\"{tenant}\"}}"))
        };
        let before = Page::of(atp.admin).await;
        let mut connection = Secure::connect(address, &client(&authority, pair)).await.expect("a connection");
        let (status, text) = connection.chat("m", key).await.expect("an answer");
        match expected {
            Err(refusal) => assert_eq!(status, refusal, "case {at}: {text}"),
            Ok(tenant) => {
                assert_eq!(status, 200, "case {at}: {text}");
                let after = Page::of(atp.admin).await;
                assert_eq!(served(&after, tenant), served(&before, tenant) + 1, "case {at}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_and_authorities_that_change_under_load_fail_nobody() {
    let (folder, mock, first) = (Folder::new(), mock().await, Authority::new());
    let settings = listener(&folder, &first, "");
    let atp = Atp::of_file_with(&folder, &adapter("a", &mock.url(), &["m"]), &settings).await;
    let address = atp.https().await;
    let pair = first.client(&["spiffe://atp.local/tenant/acme"]);
    let (is_done, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = Vec::new();
    for _ in 0..4 {
        let (is_done, served) = (Arc::clone(&is_done), Arc::clone(&served));
        let (fresh, kept) = (client(&first, Some(&pair)), client(&first, Some(&pair)));
        callers.push(tokio::spawn(async move {
            let mut lasting = Secure::connect(address, &kept).await.expect("a connection");
            while !is_done.load(Ordering::Relaxed) {
                // One that stays open through all changes, one that resumes its sessions.
                for connection in
                    [&mut lasting, &mut Secure::connect(address, &fresh).await.expect("another")]
                {
                    let (status, text) = connection.chat("m", None).await.expect("an answer");
                    assert_eq!(status, 200, "{text}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    let mut authorities = vec![first];
    for round in 1..=ROTATIONS {
        // A bundle that overlaps: what was trusted goes on to be.
        authorities.push(Authority::new());
        let bundle: String = authorities.iter().map(|authority| authority.pem.as_str()).collect();
        put(&folder, &authorities[0].server());
        let aside = folder.write("aside", &bundle);
        std::fs::rename(aside, folder.path().join("ca.pem")).expect("a rename");
        let newest = client_of(&authorities);
        until("the new files in use", async || {
            let is_in = Secure::connect(address, &newest).await;
            let Ok(mut connection) = is_in else { return false };
            connection.chat("m", None).await.is_ok()
        })
        .await;
        let page = Page::of(atp.admin).await;
        assert!(page.value("atp_tls_reloads_total") >= round, "{round}");
    }
    is_done.store(true, Ordering::Relaxed);
    for caller in callers {
        within("a caller", caller).await.expect("no request failed");
    }
    assert!(served.load(Ordering::Relaxed) > ROTATIONS * 20, "there was load: {served:?}");
    let page = Page::of(atp.admin).await;
    assert!(page.value("atp_tls_handshakes_total{kind=\"resumed\"}") > 0);
    assert_eq!(page.value("atp_tls_retired_total"), 0, "whoever is still trusted stays");
}

/// Trusts the first, shows a certificate of the last.
fn client_of(authorities: &[Authority]) -> Arc<ClientConfig> {
    let last = authorities.last().expect("there is one");
    client(&authorities[0], Some(&last.client(&["spiffe://atp.local/tenant/acme"])))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_do_not_fit_are_counted_and_those_before_stay_in_use() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let settings = listener(&folder, &authority, "");
    let atp = Atp::of_file_with(&folder, &adapter("a", &mock.url(), &["m"]), &settings).await;
    let address = atp.https().await;
    let config = client(&authority, Some(&authority.client(&["spiffe://atp.local/tenant/acme"])));
    let shown = async || Secure::connect(address, &config).await.expect("a connection").server.clone();
    let before = shown().await;
    let good = std::fs::read_to_string(folder.path().join("server.key")).expect("a key");
    let other = authority.server();
    for (at, (name, content)) in [
        ("server.key", other.key.as_str()),
        ("server.key", &good[..good.len() / 2]),
        ("ca.pem", "no certificate"),
    ]
    .into_iter()
    .enumerate()
    {
        let kept = std::fs::read_to_string(folder.path().join(name)).expect("a file");
        folder.write(name, content);
        let refused = at as u64 + 1;
        until("a refusal of the files", async || {
            Page::of(atp.admin).await.value("atp_tls_reloads_refused_total") == refused
        })
        .await;
        assert_eq!(shown().await, before, "{name}");
        folder.write(name, &kept);
    }
    put(&folder, &other);
    until("the new pair", async || shown().await != before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_taken_back_ends_open_connections_and_opens_no_new_ones() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let settings = listener(&folder, &authority, ", crl: [ revoked.pem ]");
    folder.write("revoked.pem", &authority.revoked(&[]));
    let slow = "m--tokens-100000--tps-50";
    let atp = Atp::of_file_with(&folder, &adapter("a", &mock.url(), &["m", slow]), &settings).await;
    let address = atp.https().await;
    let serial = |serial: u64| {
        let pair = bent(&authority, |params| params.serial_number = Some(SerialNumber::from(serial)));
        client(&authority, Some(&pair))
    };
    let (lost, kept) = (serial(7), serial(8));
    let mut idle = Secure::connect(address, &lost).await.expect("good so far");
    assert_eq!(idle.chat("m", None).await.expect("an answer").0, 200);
    let mut busy = Secure::connect(address, &lost).await.expect("good so far");
    let answer = busy.send(slow, true, None).await.expect("a head");
    let mut other = Secure::connect(address, &kept).await.expect("good");
    let begun = Instant::now();
    folder.write("revoked.pem", &authority.revoked(&[7]));
    until("a refusal", async || {
        let Ok(mut connection) = Secure::connect(address, &lost).await else { return true };
        connection.chat("m", None).await.is_err()
    })
    .await;
    assert!(begun.elapsed() < NEW_WITHIN, "new ones: {:?}", begun.elapsed());
    let closed = async {
        idle.closed().await;
        busy.closed().await;
    };
    let left = OPEN_WITHIN.saturating_sub(begun.elapsed());
    tokio::time::timeout(left, closed).await.expect("open ones are cut");
    drop(answer);
    assert_eq!(other.chat("m", None).await.expect("an answer").0, 200, "who is trusted stays");
    let page = Page::of(atp.admin).await;
    assert_eq!(page.value("atp_tls_retired_total"), 2);
    assert!(page.value("atp_tls_refused_total{reason=\"revoked\"}") >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_or_too_much_is_cut_within_the_time_of_a_handshake() {
    let (folder, mock, authority) = (Folder::new(), mock().await, Authority::new());
    let settings = listener(&folder, &authority, ", client_auth: off");
    let atp = Atp::of_file_with(&folder, &adapter("a", &mock.url(), &["m"]), &settings).await;
    let address = atp.https().await;
    let ended = async |sent: &[u8]| {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // It may be cut while this is being written.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, sent).await;
        let mut rest = Vec::new();
        let _ = within("the end of a connection", stream.read_to_end(&mut rest)).await;
        rest
    };
    // A greeting that says it is 16,000 bytes long, again and again, and is never whole.
    let mut endless = vec![0x16, 3, 1, 0x3e, 0x84, 1, 0, 0xff, 0xff];
    endless.extend(vec![0; 16_000 - 4]);
    for _ in 0..3 {
        endless.extend([0x16, 3, 1, 0x3e, 0x80]);
        endless.extend(vec![0; 16_000]);
    }
    assert!(ended(&endless).await.len() < 64);
    assert!(ended(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.len() < 64, "cleartext gets no answer");
    assert!(ended(&[]).await.is_empty());
    for (reason, count) in [("other", 2), ("slow", 1)] {
        let key = format!("atp_tls_refused_total{{reason=\"{reason}\"}}");
        until(reason, async || Page::of(atp.admin).await.value(&key) == count).await;
    }
    let mut connection = Secure::connect(address, &client(&authority, None)).await.expect("a connection");
    assert_eq!(connection.chat("m", None).await.expect("an answer").0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_serves_tls_with_certificates_of_its_own() {
    let folder = Folder::new();
    let atp = Atp::up_with(&folder, "tls: { listen: \"127.0.0.1:0\" }\n").await;
    let address = atp.https().await;
    let made = folder.data().join("tls");
    let read = |name: &str| std::fs::read_to_string(made.join(name)).expect("it was made");
    let authority = Authority::known_as(read("ca.pem"));
    let shown = Pair { cert: read("tenant.pem"), key: read("tenant.key") };
    for pair in [None, Some(&shown)] {
        let mut connection = Secure::connect(address, &client(&authority, pair)).await.expect("a connection");
        assert_eq!(connection.chat("echo", None).await.expect("an answer").0, 200);
    }
    let mut again = crate::kit::atp(&folder);
    again.args(["cert", "dev", "--out"]).arg(&made);
    let told = finished(again).await;
    assert_eq!(told.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&told.stderr).contains("--force"));
}

const DAY: Duration = Duration::from_secs(86_400);
const ROTATIONS: u64 = 5;
/// What is promised of a certificate taken back.
const NEW_WITHIN: Duration = Duration::from_secs(5);
const OPEN_WITHIN: Duration = Duration::from_secs(30);
