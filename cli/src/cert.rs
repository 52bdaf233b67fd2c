//! `atp cert dev`: an authority of one's own and what it signs, for one machine or a few. What is made here
//! is for development: the authority's key lies beside the rest, and nobody takes back what it signed.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use dataplane_io::tls::{ClientAuth, Files};
use proto_core::identity::{Identity, Role};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

/// Make certificates
#[derive(Debug, Args)]
pub struct CertArgs {
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Debug, Subcommand)]
enum CertCommand {
    Dev(DevArgs),
}

/// Make an authority, a server's certificate for this machine, and one for each role a client can have
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DevArgs {
    /// Where the files go; made where it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Where they are already, leave them and be content
    #[arg(long, conflicts_with = "force")]
    keep: bool,
    /// More names of the server, beside localhost, 127.0.0.1 and ::1
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// The trust domain in clients' names
    #[arg(long, default_value = "atp.local")]
    domain: String,
    /// The operator's name
    #[arg(long, value_name = "NAME", default_value = "dev")]
    operator: String,
    /// The data plane's name
    #[arg(long, value_name = "NAME", default_value = "dev")]
    dataplane: String,
    /// The Adapter that may be answered for
    #[arg(long, value_name = "NAME", default_value = "dev")]
    adapter: String,
    /// The Tenant that is called as
    #[arg(long, value_name = "NAME", default_value = "dev")]
    tenant: String,
}

const EXAMPLES: &str = "\
Examples:
  atp cert dev --out ./certs
  atp cert dev --out ./certs --keep
  atp cert dev --out ./certs --tenant acme --adapter gpu-1 --host proxy.example.com

Then:
  curl --cacert certs/ca.pem --cert certs/tenant.pem --key certs/tenant.key https://localhost:7444/v1/models";

/// Makes what is asked for; says where it is.
pub fn run(args: &CertArgs) -> ExitCode {
    let CertCommand::Dev(args) = &args.command;
    if args.keep && args.out.join(AUTHORITY).exists() {
        println!("{} is there already; nothing is made", args.out.join(AUTHORITY).display());
        return ExitCode::SUCCESS;
    }
    match dev(args) {
        Ok(made) => {
            for (file, what) in made {
                println!("{:<20} {what}", args.out.join(file).display());
            }
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

/// The server's side of the certificates in `folder`, which are made where there are none.
pub fn of_this_machine(folder: &Path) -> Result<Files, String> {
    let path = |name: &str| folder.join(name);
    if !path(AUTHORITY).exists() {
        let own = || "dev".to_owned();
        dev(&DevArgs {
            out: folder.to_owned(),
            // Of a start that was cut off in the middle.
            force: true,
            keep: false,
            host: Vec::new(),
            domain: "atp.local".into(),
            operator: own(),
            dataplane: own(),
            adapter: own(),
            tenant: own(),
        })?;
    }
    Ok(Files {
        cert: path("server.pem"),
        key: path("server.key"),
        client_auth: ClientAuth::Optional,
        client_ca: Some(path(AUTHORITY)),
        crls: Vec::new(),
    })
}

/// Makes all of them before the first is written, and writes the authority's certificate last: where that is,
/// all are.
fn dev(args: &DevArgs) -> Result<Vec<(String, String)>, String> {
    let authority = Authority::new()?;
    let names = ["localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned);
    let mut server = CertificateParams::new(names.chain(args.host.iter().cloned()).collect::<Vec<_>>())
        .map_err(|error| format!("a server's name is wrong: {error}"))?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut files = authority.sign("server", server)?;
    let mut made = vec![(AUTHORITY.into(), "the authority: what clients and servers trust".to_owned())];
    made.push(("server.pem".into(), "localhost and this machine's addresses".into()));
    let roles = [&args.operator, &args.dataplane, &args.adapter, &args.tenant];
    for (role, name) in Role::ALL.into_iter().zip(roles) {
        let uri = format!("spiffe://{}/{}/{name}", args.domain, role.as_str());
        Identity::parse(&uri).map_err(|what| format!("{uri}: {what}"))?;
        let mut client = CertificateParams::default();
        let uri_name = uri.as_str().try_into().map_err(|error| format!("{uri}: {error}"))?;
        client.subject_alt_names = vec![SanType::URI(uri_name)];
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        files.extend(authority.sign(role.as_str(), client)?);
        made.push((format!("{}.pem", role.as_str()), uri));
    }
    files.push(("ca.key".into(), authority.key()));
    files.push((AUTHORITY.into(), authority.pem.clone()));
    write(&args.out, args.force || args.keep, &files)?;
    Ok(made)
}

/// Signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Result<Authority, String> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = called("ATP development authority");
        lasting(&mut params, AUTHORITY_LASTS);
        let pem = params.self_signed(&key).map_err(|error| format!("the authority: {error}"))?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), pem })
    }

    fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Certificate and key, as files.
    fn sign(&self, name: &str, mut params: CertificateParams) -> Result<Vec<(String, String)>, String> {
        let key = new_key()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.distinguished_name = called(&format!("ATP development {name}"));
        params.use_authority_key_identifier_extension = true;
        lasting(&mut params, LEAF_LASTS);
        let signed = params.signed_by(&key, &self.issuer).map_err(|error| format!("{name}: {error}"))?;
        Ok(vec![(format!("{name}.pem"), signed.pem()), (format!("{name}.key"), key.serialize_pem())])
    }
}

fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate().map_err(|error| format!("a key could not be made: {error}"))
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn lasting(params: &mut CertificateParams, lasts: Duration) {
    let now = SystemTime::now();
    // Of an hour ago, for clocks that are late.
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + lasts).into();
}

/// Keys for their owner alone. Nothing is written where one of the files is there and may not be replaced.
fn write(folder: &Path, force: bool, files: &[(String, String)]) -> Result<(), String> {
    match DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Err(error) => return Err(format!("{} cannot be made: {error}", folder.display())),
        Ok(()) if force => {}
        Ok(()) => {
            let there = files.iter().map(|(name, _)| folder.join(name)).find(|path| path.exists());
            if let Some(path) = there {
                return Err(format!("{} is there; --force replaces it", path.display()));
            }
        }
    }
    for (name, content) in files {
        let path = folder.join(name);
        let wrong = |error| format!("{} cannot be written: {error}", path.display());
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(wrong(error));
        }
        let mode = if name.ends_with(".key") { 0o600 } else { 0o644 };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(wrong)?;
        file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(wrong)?;
    }
    Ok(())
}

pub const AUTHORITY: &str = "ca.pem";
const AUTHORITY_LASTS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// As long as the strictest of common clients takes from an authority of one's own.
const LEAF_LASTS: Duration = Duration::from_secs(825 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn args(out: &Path, more: &[&str]) -> DevArgs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: DevArgs,
        }
        let line = ["cert", "--out", out.to_str().unwrap()].into_iter().chain(more.iter().copied());
        <Line as clap::Parser>::parse_from(line).args
    }

    #[test]
    fn each_role_has_its_name_and_keys_are_for_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("made/here");
        dev(&args(&out, &["--tenant", "acme", "--domain", "x.example"])).unwrap();
        let pem = std::fs::read_to_string(out.join("tenant.pem")).unwrap();
        let der = rcgen_der(&pem);
        assert_eq!(Identity::of_certificate(&der).unwrap().to_string(), "spiffe://x.example/tenant/acme");
        for name in ["ca", "server", "operator", "dataplane", "adapter", "tenant"] {
            let key = std::fs::metadata(out.join(format!("{name}.key"))).unwrap();
            assert_eq!(key.permissions().mode() & 0o777, 0o600, "{name}");
            assert!(out.join(format!("{name}.pem")).exists(), "{name}");
        }
    }

    #[test]
    fn what_is_there_stays_unless_it_may_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        dev(&args(folder.path(), &[])).unwrap();
        let before = std::fs::read(folder.path().join("ca.pem")).unwrap();
        let told = dev(&args(folder.path(), &[])).unwrap_err();
        assert!(told.contains("is there; --force replaces it"), "{told}");
        assert_eq!(std::fs::read(folder.path().join("ca.pem")).unwrap(), before);
        dev(&args(folder.path(), &["--force"])).unwrap();
        assert_ne!(std::fs::read(folder.path().join("ca.pem")).unwrap(), before);
    }

    #[test]
    fn a_name_that_would_name_nobody_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(dev(&args(folder.path(), &["--tenant", "a/b"])).unwrap_err().contains("spiffe://atp.local"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    fn rcgen_der(pem: &str) -> Vec<u8> {
        use rustls::pki_types::pem::PemObject;
        rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
    }
}
