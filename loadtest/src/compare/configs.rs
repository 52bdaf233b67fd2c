//! The configurations both proxies are measured with.
//!
//! What it is for: the same upstream behind both, and for atp the tables a real installation has: a hundred
//! routes, a tenant with a key, limits and prices. Pure: text in, text out.

use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Ports of one comparison, all on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) upstream: u16,
    pub(crate) proxy: u16,
    /// Only atp has one.
    pub(crate) admin: u16,
}

pub(crate) fn nginx(directory: &Path, ports: Ports) -> String {
    include_str!("../../rivals/nginx.conf")
        .replace("@DIRECTORY@", &directory.display().to_string())
        .replace("@UPSTREAM@", &ports.upstream.to_string())
        .replace("@PORT@", &ports.proxy.to_string())
}

pub(crate) fn atp(directory: &Path, resources: &Path, ports: Ports) -> String {
    let (directory, resources) = (directory.display(), resources.display());
    format!(
        "listen: {{ http: 127.0.0.1:{}, admin: 127.0.0.1:{} }}\n\
         workers: 1\n\
         data_dir: {directory}\n\
         resources: {resources}\n",
        ports.proxy, ports.admin
    )
}

pub(crate) fn resources(upstream: u16, key: &str) -> String {
    let digest: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut documents = vec![
        format!(
            "kind: Adapter\nname: mock\nspec:\n  kind: openai\n  endpoint: http://127.0.0.1:{upstream}/v1\n  \
             limits: {{ max_parallel: 1024 }}\n  \
             models: [ {{ name: mock-model, price: {{ in: 0.15, out: 0.60 }} }} ]\n"
        ),
        format!("kind: Tenant\nname: bench\nspec:\n  keys: [ {{ sha256: \"{digest}\" }} ]\n"),
    ];
    documents.extend((0..ROUTES).map(|number| {
        format!(
            "kind: Route\nname: route-{number:03}\nspec:\n  match: {{ model: \"{}\" }}\n  \
             candidates: [ {{ adapter: mock, model: mock-model, weight: 1 }} ]\n  strategy: weighted\n",
            route_model(number)
        )
    }));
    documents.join("---\n")
}

/// The model name that route `number` matches.
pub(crate) fn route_model(number: usize) -> String {
    format!("route-model-{number:03}")
}

/// What a large installation has; a lookup must not grow with it.
pub(crate) const ROUTES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: Ports = Ports { upstream: 1001, proxy: 1002, admin: 1003 };

    #[test]
    fn every_placeholder_of_the_nginx_config_is_filled() {
        let text = nginx(Path::new("/d"), PORTS);
        assert!(!text.contains('@'));
        assert!(text.contains("listen 127.0.0.1:1002;") && text.contains("server 127.0.0.1:1001;"));
        assert!(text.contains("pid /d/nginx.pid;"));
    }

    #[test]
    fn atp_gets_a_document_per_route_and_the_digest_of_the_key() {
        let text = resources(1001, "abc");
        assert_eq!(text.matches("kind: Route\n").count(), ROUTES);
        assert_eq!(text.matches("---\n").count(), ROUTES + 1);
        assert!(text.contains("endpoint: http://127.0.0.1:1001/v1\n"));
        // FIPS 180-2, appendix B.1.
        assert!(text.contains("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
        let config = atp(Path::new("/d"), Path::new("/d/r.yaml"), PORTS);
        assert!(config.starts_with("listen: { http: 127.0.0.1:1002, admin: 127.0.0.1:1003 }\nworkers: 1\n"));
    }
}
