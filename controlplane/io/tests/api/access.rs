//! Who may do what.

use std::path::Path;

use controlplane_io::{Config, Tls, start};
use proto_core::wire::atp::admin::v1 as admin;
use proto_core::wire::atp::control::v1 as control;
use proto_rpc::admin::operations_client::OperationsClient;
use proto_rpc::control::sync_client::SyncClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1 as reflection;
use tonic_reflection::pb::v1alpha as reflection_alpha;

use super::kit::{Bearer, config, control_plane};

async fn status(channel: Channel, bearer: Bearer) -> Result<(), Status> {
    let mut client = OperationsClient::with_interceptor(channel, bearer);
    client.status(admin::StatusRequest {}).await.map(|_| ())
}

async fn sync(channel: Channel, bearer: Bearer) -> Result<(), Status> {
    let mut client = SyncClient::with_interceptor(channel, bearer);
    client.sync(tokio_stream::empty::<control::SyncRequest>()).await.map(|_| ())
}

#[tokio::test]
async fn without_the_right_token_nothing_is_told_but_the_file_to_use() {
    let plane = control_plane().await;
    let channel = plane.channel().await;
    let wrong = || Bearer(Some(format!("Bearer {}", "0".repeat(64)).parse().unwrap()));
    for bearer in [Bearer(None), wrong()] {
        let refused = status(channel.clone(), bearer.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let file = plane.handle.operator_token_path.display().to_string();
        assert!(refused.message().contains(&file), "{}", refused.message());
        let refused = sync(channel.clone(), bearer).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.message().contains("dataplane.token"), "{}", refused.message());
    }
    let dataplane = Bearer::of(&plane.handle.dataplane_token_path);
    assert_eq!(status(channel.clone(), dataplane).await.unwrap_err().code(), Code::PermissionDenied);
    let operator = Bearer::of(&plane.handle.operator_token_path);
    assert!(sync(channel, operator).await.is_ok());
}

#[tokio::test]
async fn health_is_open_and_names_every_service() {
    let plane = control_plane().await;
    let mut client = HealthClient::new(plane.channel().await);
    for service in ["", "atp.admin.v1.Resources", "atp.admin.v1.Operations", "atp.control.v1.Sync"] {
        let checked =
            client.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(
            checked.status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving,
            "{service}"
        );
    }
}

#[tokio::test]
async fn reflection_is_open_in_both_versions_and_lists_every_service() {
    let plane = control_plane().await;
    let ask = reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(reflection::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = reflection::server_reflection_client::ServerReflectionClient::new(plane.channel().await);
    let told = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap();
    let told = format!("{:?}", told.into_inner().message().await.unwrap());
    let ask = reflection_alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(reflection_alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client =
        reflection_alpha::server_reflection_client::ServerReflectionClient::new(plane.channel().await);
    let told_alpha = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap();
    let told_alpha = format!("{:?}", told_alpha.into_inner().message().await.unwrap());
    for service in ["atp.admin.v1.Resources", "atp.admin.v1.Operations", "atp.control.v1.Sync"] {
        assert!(told.contains(service) && told_alpha.contains(service), "{service} in {told}");
    }
}

/// A CA and what it signed, as PEM.
struct Authority {
    ca: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        Authority { ca, issuer: rcgen::Issuer::new(params, key) }
    }

    fn sign(&self, san: rcgen::SanType) -> (String, String) {
        self.sign_as(san, None)
    }

    fn sign_as(&self, san: rcgen::SanType, serial: Option<u64>) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.serial_number = serial.map(Into::into);
        params.subject_alt_names = vec![san];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn server_files(&self, folder: &Path) -> Tls {
        let (cert, key) = self.sign(rcgen::SanType::DnsName("localhost".try_into().unwrap()));
        let file = |name: &str, content: &str| {
            let path = folder.join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        Tls { cert: file("cert.pem", &cert), key: file("key.pem", &key), client_ca: None, crls: Vec::new() }
    }

    /// The list of what it took back, by serial number.
    fn revoked(&self, serials: &[u64]) -> String {
        let now = std::time::SystemTime::now();
        let day = std::time::Duration::from_secs(86_400);
        let taken_back = |serial: &u64| rcgen::RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = rcgen::CertificateRevocationListParams {
            this_update: (now - day).into(),
            next_update: (now + day).into(),
            crl_number: (serials.len() as u64 + 1).into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(taken_back).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A channel that trusts this authority and, with a SPIFFE name, shows a certificate of it.
    async fn connect(&self, port: u16, spiffe: Option<&str>) -> Result<Channel, tonic::transport::Error> {
        let pair = spiffe.map(|spiffe| self.sign(rcgen::SanType::URI(spiffe.try_into().unwrap())));
        self.connect_with(port, pair).await
    }

    async fn connect_with(
        &self,
        port: u16,
        pair: Option<(String, String)>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.ca));
        if let Some((cert, key)) = pair {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let endpoint = Channel::from_shared(format!("https://localhost:{port}")).unwrap();
        endpoint.tls_config(tls.domain_name("localhost"))?.connect().await
    }
}

#[tokio::test]
async fn with_tls_and_no_client_ca_the_tokens_say_who_calls() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let config = Config { tls: Some(authority.server_files(folder.path())), ..config(folder.path()) };
    let handle = start(config, None).await.unwrap();
    let channel = authority.connect(handle.grpc_addr.port(), None).await.unwrap();
    assert!(status(channel.clone(), Bearer::of(&handle.operator_token_path)).await.is_ok());
    assert_eq!(status(channel, Bearer(None)).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn with_a_client_ca_the_certificate_says_who_calls_and_without_one_nobody_does() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let mut tls = authority.server_files(folder.path());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.ca).unwrap();
    tls.client_ca = Some(ca);
    let handle = start(Config { tls: Some(tls), ..config(folder.path()) }, None).await.unwrap();
    let port = handle.grpc_addr.port();
    let operator = authority.connect(port, Some("spiffe://atp.local/operator/ann")).await.unwrap();
    assert!(status(operator, Bearer(None)).await.is_ok());
    let edge = authority.connect(port, Some("spiffe://atp.local/dataplane/edge-1")).await.unwrap();
    assert!(sync(edge.clone(), Bearer(None)).await.is_ok());
    // A certificate wins over a token: what TLS verified is who calls.
    let with_token = status(edge, Bearer::of(&handle.operator_token_path)).await.unwrap_err();
    assert_eq!(with_token.code(), Code::PermissionDenied);
    let tenant = authority.connect(port, Some("spiffe://atp.local/tenant/acme")).await.unwrap();
    assert_eq!(sync(tenant.clone(), Bearer(None)).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(status(tenant, Bearer(None)).await.unwrap_err().code(), Code::PermissionDenied);
    let adapter = authority.connect(port, Some("spiffe://atp.local/adapter/gpu")).await.unwrap();
    assert_eq!(sync(adapter.clone(), Bearer(None)).await.unwrap_err().code(), Code::PermissionDenied);
    let with_token = status(adapter, Bearer::of(&handle.operator_token_path)).await.unwrap_err();
    assert_eq!(with_token.code(), Code::PermissionDenied);
    let stranger = Authority { ca: authority.ca.clone(), ..Authority::new() };
    for (authority, spiffe) in [(&authority, None), (&stranger, Some("spiffe://atp.local/operator/eve"))] {
        // The refusal reaches a TLS 1.3 client after its handshake: at connect or with the first call.
        if let Ok(channel) = authority.connect(port, spiffe).await {
            assert!(status(channel, Bearer(None)).await.is_err(), "{spiffe:?}");
        }
    }
}

#[tokio::test]
async fn certificates_that_change_are_shown_to_those_who_come_then_and_a_bad_pair_is_not() {
    let (folder, before, after) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    let tls = before.server_files(folder.path());
    let config = Config { tls: Some(tls.clone()), ..config(folder.path()) };
    let handle = start(config, None).await.unwrap();
    let port = handle.grpc_addr.port();
    let open = before.connect(port, None).await.unwrap();
    let bearer = || Bearer::of(&handle.operator_token_path);
    assert!(status(open.clone(), bearer()).await.is_ok());
    let good = std::fs::read(&tls.key).unwrap();
    std::fs::write(&tls.key, &good[..good.len() / 2]).unwrap();
    let begun = std::time::Instant::now();
    // Longer than it takes a good one to be shown.
    while begun.elapsed() < std::time::Duration::from_secs(2) {
        assert!(before.connect(port, None).await.is_ok(), "half a file is not used");
    }
    after.server_files(folder.path());
    while after.connect(port, None).await.is_err() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "the new pair is never shown");
        tokio::task::yield_now().await;
    }
    assert!(before.connect(port, None).await.is_err(), "the old one is not shown any more");
    assert!(status(open, bearer()).await.is_ok(), "who was there stays");
}

#[tokio::test]
async fn a_certificate_that_is_taken_back_loses_its_connection_and_opens_none_and_others_stay() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let mut tls = authority.server_files(folder.path());
    let (ca, list) = (folder.path().join("ca.pem"), folder.path().join("list.crl"));
    std::fs::write(&ca, &authority.ca).unwrap();
    std::fs::write(&list, authority.revoked(&[])).unwrap();
    (tls.client_ca, tls.crls) = (Some(ca), vec![list.clone()]);
    let handle = start(Config { tls: Some(tls), ..config(folder.path()) }, None).await.unwrap();
    let port = handle.grpc_addr.port();
    let edge = |name: &str, serial| {
        let name = format!("spiffe://atp.local/dataplane/{name}");
        authority.sign_as(rcgen::SanType::URI(name.as_str().try_into().unwrap()), Some(serial))
    };
    let (lost, stays) = (edge("lost", 7), edge("stays", 8));
    let open = async |pair: &(String, String)| {
        let mut client = SyncClient::new(authority.connect_with(port, Some(pair.clone())).await.unwrap());
        let (say, said) = tokio::sync::mpsc::channel::<control::SyncRequest>(1);
        let said = tokio_stream::wrappers::ReceiverStream::new(said);
        (say, client.sync(said).await.unwrap().into_inner())
    };
    let (_say, mut told) = open(&lost).await;
    let (_others_say, mut others) = open(&stays).await;
    std::fs::write(&list, authority.revoked(&[7])).unwrap();
    let within = std::time::Duration::from_secs(30);
    let ended = tokio::time::timeout(within, told.message()).await.expect("it ends in time");
    assert!(ended.is_err(), "its stream is cut: {ended:?}");
    if let Ok(channel) = authority.connect_with(port, Some(lost)).await {
        assert!(sync(channel, Bearer(None)).await.is_err(), "it opens no other");
    }
    assert!(is_open(&mut others).await, "another's stream goes on");
    let channel = authority.connect_with(port, Some(stays)).await.unwrap();
    assert!(sync(channel, Bearer(None)).await.is_ok(), "and it may open more");
    // Half of a list, or none, changes nothing.
    std::fs::write(&list, "").unwrap();
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(2) {
        let channel = authority.connect_with(port, Some(edge("third", 9))).await.unwrap();
        assert!(sync(channel, Bearer(None)).await.is_ok(), "the list before still counts");
        if let Ok(channel) = authority.connect_with(port, Some(edge("lost", 7))).await {
            assert!(sync(channel, Bearer(None)).await.is_err(), "and so does what it says");
        }
    }
}

/// Whether a stream has nothing to say and is there.
async fn is_open(stream: &mut tonic::Streaming<control::SyncResponse>) -> bool {
    tokio::select! {
        biased;
        ended = stream.message() => panic!("{ended:?}"),
        () = std::future::ready(()) => true,
    }
}
