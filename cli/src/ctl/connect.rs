//! The way to a control plane: the channel, who we are, and what to say where there is none.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use controlplane_io::app::OPERATOR_TOKEN;
use controlplane_io::data_dir::Env;
use controlplane_io::token;
use proto_core::sync::MESSAGE_BYTES_MAX;
use proto_rpc::admin::operations_client::OperationsClient;
use proto_rpc::admin::resources_client::ResourcesClient;
use tokio::time::timeout;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::Failure;
use super::args::ServerArgs;

/// A control plane that answered.
pub struct Connection {
    pub resources: ResourcesClient<Wired>,
    pub operations: OperationsClient<Wired>,
}

type Wired = InterceptedService<Channel, Bearer>;

/// Puts the token to every call; `None` where a certificate says who we are.
#[derive(Clone)]
pub struct Bearer(Option<AsciiMetadataValue>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Connection {
    pub async fn open(args: &ServerArgs) -> Result<Connection, Failure> {
        let endpoint = endpoint(args)?;
        // The control plane first: where there is none, that is the news, not a token that is missing with
        // it.
        let channel = match timeout(CONNECT_MAX, endpoint.connect()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(unreachable(&args.server, &causes(&error))),
            Err(_) => {
                return Err(unreachable(
                    &args.server,
                    &format!("no answer within {} s", CONNECT_MAX.as_secs()),
                ));
            }
        };
        let bearer = Bearer(bearer(args, &Env::of_process())?);
        let resources = ResourcesClient::with_interceptor(channel.clone(), bearer.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let operations = OperationsClient::with_interceptor(channel, bearer);
        Ok(Connection { resources, operations })
    }
}

fn endpoint(args: &ServerArgs) -> Result<Endpoint, Failure> {
    let url = &args.server;
    let bad = |why: &str| Failure::Message(format!("--server {url}: {why}"));
    let endpoint = Endpoint::from_shared(url.clone())
        .map_err(|_| bad("a URL is expected, such as http://127.0.0.1:7440"))?
        .connect_timeout(CONNECT_MAX)
        .timeout(CALL_MAX);
    match endpoint.uri().scheme_str() {
        Some("http") => {
            // A token sent in cleartext over a network is everybody's token.
            let host = endpoint.uri().host().unwrap_or_default();
            if !is_loopback(host) {
                return Err(bad("a token is not sent in cleartext to another machine; use https with --ca"));
            }
            Ok(endpoint)
        }
        Some("https") => {
            let Some(ca) = &args.ca else {
                return Err(bad("https needs --ca FILE to know the control plane by"));
            };
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
            if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
                tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
            }
            endpoint.tls_config(tls).map_err(|error| bad(&causes(&error)))
        }
        _ => Err(bad("it starts with http:// or https://")),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The token, from the first place that is named; a certificate needs none.
fn bearer(args: &ServerArgs, env: &Env) -> Result<Option<AsciiMetadataValue>, Failure> {
    if args.cert.is_some() {
        return Ok(None);
    }
    let Some(path) = token_path(args, env) else {
        return Err(Failure::Message(
            "no place to look for the operator's token: pass --token-file, or set ATP_DATA_DIR or HOME"
                .into(),
        ));
    };
    let token = token::read(&path).map_err(|error| {
        Failure::Message(format!(
            "no operator's token: {error}; pass --token-file, or --data-dir of the control plane"
        ))
    })?;
    let header = AsciiMetadataValue::try_from(format!("Bearer {token}"));
    header.map(Some).map_err(|_| Failure::Message(format!("{}: not a token", path.display())))
}

fn token_path(args: &ServerArgs, env: &Env) -> Option<PathBuf> {
    let folder = || args.data_dir.clone().or_else(|| env.data_dir());
    args.token_file.clone().or_else(|| Some(folder()?.join(OPERATOR_TOKEN)))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::Message(format!("{}: {error}", path.display())))
}

fn unreachable(url: &str, why: &str) -> Failure {
    Failure::Message(format!(
        "no control plane at {url}: start one with `atp up`, or name another with --server ({why})"
    ))
}

/// An error with what caused it: the outer one alone says "transport error".
pub fn causes(error: &dyn Error) -> String {
    let mut told = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !told.iter().any(|known| known.contains(&text)) {
            told.push(text);
        }
        next = cause.source();
    }
    told.join(": ")
}

/// For a control plane to be there: people wait for it.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// For a call to be answered: longer than the control plane itself waits for its store.
const CALL_MAX: Duration = Duration::from_secs(45);

#[cfg(test)]
mod tests {
    use super::*;

    fn args(server: &str) -> ServerArgs {
        let server = server.to_owned();
        ServerArgs { server, token_file: None, data_dir: None, ca: None, cert: None, key: None }
    }

    fn told(failure: Failure) -> String {
        match failure {
            Failure::Message(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_never_goes_to_another_machine_in_cleartext() {
        for url in ["http://127.0.0.1:7440", "http://localhost:7440", "http://[::1]:7440"] {
            assert!(endpoint(&args(url)).is_ok(), "{url}");
        }
        for url in ["http://10.0.0.1:7440", "http://localhost.example.com:7440", "http://0.0.0.0:7440"] {
            assert!(told(endpoint(&args(url)).unwrap_err()).contains("not sent in cleartext"), "{url}");
        }
    }

    #[test]
    fn a_wrong_url_is_told_with_a_right_one() {
        assert!(told(endpoint(&args("7440")).unwrap_err()).contains("http://"));
        assert!(told(endpoint(&args("ftp://localhost")).unwrap_err()).contains("it starts with http://"));
        assert!(told(endpoint(&args("https://localhost")).unwrap_err()).contains("--ca FILE"));
    }

    #[test]
    fn the_token_is_looked_for_where_the_flags_say_then_the_environment() {
        let env = Env { data_dir: None, state_home: Some("/state".into()), home: None };
        let mut args = args("http://localhost:1");
        assert_eq!(token_path(&args, &env), Some("/state/atp/operator.token".into()));
        args.data_dir = Some("/data".into());
        assert_eq!(token_path(&args, &env), Some("/data/operator.token".into()));
        args.token_file = Some("/t".into());
        assert_eq!(token_path(&args, &env), Some("/t".into()));
    }
}
