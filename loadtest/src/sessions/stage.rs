//! The processes of a measurement of sessions: the data plane, the mock, an adapter that dialed in, a bare
//! relay and what is behind it. Each on its core; all of them end with the measurement.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use super::certs::Certs;
use super::pace::Pace;
use crate::compare::stage::{Actor, Core, free_port};

/// Where everybody runs.
#[derive(Clone, Debug)]
pub(crate) struct Stage<'d> {
    pub(crate) directory: &'d Path,
    pub(crate) certs: Certs,
    pub(crate) pace: Pace,
    pub(crate) proxy_core: Core,
    pub(crate) load_core: Core,
}

/// A data plane that runs and answers.
pub(crate) struct DataPlane {
    pub(crate) http: SocketAddr,
    /// TCP and UDP.
    pub(crate) tls: SocketAddr,
    pub(crate) actor: Actor,
}

impl Stage<'_> {
    /// The data plane before `upstream`, with an adapter that may dial in beside it.
    pub(crate) async fn data_plane(
        &self,
        program: &Path,
        arguments: &[String],
        upstream: SocketAddr,
    ) -> Result<DataPlane, String> {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (http, tls, admin) = (at(free_port()?), at(free_port()?), at(free_port()?));
        let data = self.directory.join("atp-data");
        std::fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
        let (config, resources) = (self.directory.join("atp.yaml"), self.directory.join("resources.yaml"));
        write(&resources, &set(upstream))?;
        let files = &self.certs;
        let text = format!(
            "listen: {{ http: {http}, admin: {admin} }}\n\
             tls: {{ listen: \"{tls}\", cert: {}, key: {}, client_ca: {}, client_auth: required }}\n\
             workers: 1\ndata_dir: {}\nresources: {}\n",
            files.cert(super::certs::Whose::Server).display(),
            files.key(super::certs::Whose::Server).display(),
            files.ca().display(),
            data.display(),
            resources.display(),
        );
        write(&config, &text)?;
        let config = config.display().to_string();
        let arguments: Vec<String> = arguments.iter().map(|word| word.replace("{config}", &config)).collect();
        let mut actor = Actor::start("atp", program, &arguments, self.proxy_core, self.directory)?;
        actor.wait_for(tls).await?;
        Ok(DataPlane { http, tls, actor })
    }

    pub(crate) async fn mock(&self) -> Result<(SocketAddr, Actor), String> {
        let mut arguments = ["mock", "--no-record"].map(str::to_owned).to_vec();
        arguments.extend(["--tokens".into(), self.pace.tokens.to_string()]);
        arguments.extend(["--token-rate".into(), self.pace.token_rate.to_string()]);
        let mut mock = Actor::start("mock", &this()?, &arguments, self.load_core, self.directory)?;
        let said = mock.wait_for_line("mock listening on http://").await?;
        let address = said.parse().map_err(|error| format!("the mock said it listens on {said}: {error}"))?;
        Ok((address, mock))
    }

    /// One of the parts of `loadtest sessions-part`.
    pub(crate) async fn part(
        &self,
        name: &'static str,
        core: Core,
        more: &[String],
    ) -> Result<Actor, String> {
        let mut arguments = vec!["sessions-part".to_owned(), name.to_owned()];
        arguments.extend(["--certs".into(), self.certs.0.display().to_string()]);
        arguments.extend(["--tokens".into(), self.pace.tokens.to_string()]);
        arguments.extend(["--token-rate".into(), self.pace.token_rate.to_string()]);
        arguments.extend_from_slice(more);
        let mut actor = Actor::start(name, &this()?, &arguments, core, self.directory)?;
        actor.wait_for_line(READY).await?;
        Ok(actor)
    }
}

/// What a part says as soon as it is there.
pub(crate) const READY: &str = "ready";

fn this() -> Result<std::path::PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("finding this program, to start its parts: {error}"))
}

/// One adapter that is called, one that calls, a tenant by its certificate and by a key.
fn set(upstream: SocketAddr) -> String {
    let limits = "limits: { max_parallel: 1024 }";
    format!(
        "kind: Adapter\nname: mock\nspec:\n  kind: openai\n  endpoint: http://{upstream}/v1\n  {limits}\n  \
         models: [ {{ name: {MODEL}, price: {{ in: 0.15, out: 0.60 }} }} ]\n---\n\
         kind: Adapter\nname: {DIALED}\nspec:\n  kind: attached\n  {limits}\n  \
         models: [ {{ name: {DIALED_MODEL}, price: {{ in: 0.15, out: 0.60 }} }} ]\n---\n\
         kind: Tenant\nname: bench\nspec:\n  keys: [ {{ sha256: \"{}\" }} ]\n",
        hash(KEY)
    )
}

fn hash(key: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("writing {}: {error}", path.display()))
}

/// A UDP port that was free a moment ago.
pub(crate) fn free_udp_port() -> Result<u16, String> {
    let bound = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    bound.map(|address| address.port()).map_err(|error| format!("looking for a free UDP port: {error}"))
}

pub(crate) const MODEL: &str = "mock-model";
pub(crate) const DIALED: &str = "dialed";
pub(crate) const DIALED_MODEL: &str = "dialed-model";
pub(crate) const KEY: &str = "bench-key";
