use proptest::prelude::*;

use super::*;

/// An element of DER.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut element = vec![tag];
    match body.len() {
        short @ 0..=0x7f => element.push(short as u8),
        long => element.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    element.extend(body);
    element
}

/// A certificate with these names, and nothing of what makes one true.
fn certificate(names: &[(u8, &[u8])]) -> Vec<u8> {
    certificate_with(&[extension(names)])
}

fn extension(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = names.iter().map(|(tag, name)| der(*tag, &[name])).collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let value = der(0x04, &[&der(0x30, &names)]);
    der(0x30, &[&der(0x06, &[&[0x55, 0x1d, 0x11]]), &der(0x01, &[&[0xff]]), &value])
}

fn certificate_with(extensions: &[Vec<u8>]) -> Vec<u8> {
    let usage = der(0x30, &[&der(0x06, &[&[0x55, 0x1d, 0x0f]]), &der(0x04, &[&[3, 2, 5, 0xa0]])]);
    let all: Vec<&[u8]> =
        std::iter::once(usage.as_slice()).chain(extensions.iter().map(Vec::as_slice)).collect();
    let extensions = der(0xa3, &[&der(0x30, &all)]);
    // Version, serial number, and a subject whose common name is a tenant's.
    let named = der(0x30, &[b"\x06\x03\x55\x04\x03", b"\x0c\x1bspiffe://atp.local/tenant/a"]);
    let body = [&der(0xa0, &[&[2, 1, 2]])[..], &[2, 1, 1], &named, &extensions].concat();
    der(0x30, &[&der(0x30, &[&body]), &der(0x30, &[]), &[3, 1, 0]])
}

const URI: u8 = der::URI;
const DNS: u8 = der::DNS;
const MAIL: u8 = 0x81;

fn read(names: &[(u8, &[u8])]) -> Result<String, IdentityFault> {
    Identity::of_certificate(&certificate(names)).map(|identity| identity.to_string())
}

#[test]
fn one_spiffe_uri_says_who_it_is_and_dns_names_beside_it_do_not() {
    let id = b"spiffe://atp.local/tenant/acme";
    assert_eq!(read(&[(URI, id)]).unwrap(), "spiffe://atp.local/tenant/acme");
    assert_eq!(
        read(&[(DNS, b"a.example"), (URI, id), (DNS, b"b.example")]).unwrap(),
        "spiffe://atp.local/tenant/acme"
    );
    let adapter = Identity::of_certificate(&certificate(&[(URI, b"spiffe://x/adapter/gpu-1")])).unwrap();
    assert_eq!(
        (adapter.adapter(), adapter.tenant(), adapter.role()),
        (Some("gpu-1"), None, Some(Role::Adapter))
    );
}

#[test]
fn without_a_uri_the_one_dns_name_says_it_in_lower_case() {
    assert_eq!(read(&[(DNS, b"Edge-1.Example.COM"), (MAIL, b"a@b")]).unwrap(), "dns:edge-1.example.com");
    assert_eq!(read(&[(DNS, b"a.example"), (DNS, b"b.example")]), Err(IdentityFault::TwoNames));
}

#[test]
fn two_uris_no_name_and_a_common_name_name_nobody() {
    let id = b"spiffe://atp.local/tenant/acme";
    assert_eq!(read(&[(URI, id), (URI, id)]), Err(IdentityFault::TwoUris));
    assert_eq!(read(&[(URI, b"https://a/b"), (URI, id)]), Err(IdentityFault::TwoUris));
    assert_eq!(read(&[]), Err(IdentityFault::Nameless));
    assert_eq!(read(&[(MAIL, b"ann@atp.local")]), Err(IdentityFault::Nameless));
    assert_eq!(Identity::of_certificate(&certificate_with(&[])), Err(IdentityFault::Nameless));
}

#[test]
fn what_is_nearly_a_spiffe_id_is_none() {
    for uri in [
        &b"https://atp.local/tenant/acme"[..],
        b"spiffe://atp.local/tenant",
        b"spiffe://atp.local/tenant/",
        b"spiffe://atp.local/tenant/acme/more",
        b"spiffe:///tenant/acme",
        b"spiffe://atp.local/king/acme",
        b"spiffe://ATP.local/tenant/acme",
        b"SPIFFE://atp.local/tenant/acme",
        b"spiffe://atp.local/tenant/*",
        b"spiffe://*/tenant/acme",
        b"spiffe://atp.local/tenant/..",
        b"spiffe://atp.local/tenant/acme\0.evil",
        b"spiffe://atp.local/tenant/%61cme",
        b"spiffe://atp.local/tenant/acme?x",
        b"spiffe://user@atp.local/tenant/acme",
        b"spiffe://atp.local:80/tenant/acme",
        b"spiffe://atp.local/tenant/acm\xe9",
        b"",
    ] {
        assert_eq!(read(&[(URI, uri)]), Err(IdentityFault::NotSpiffe), "{}", uri.escape_ascii());
    }
    let long = format!("spiffe://atp.local/tenant/{}", "a".repeat(2048));
    assert_eq!(read(&[(URI, long.as_bytes())]), Err(IdentityFault::NotSpiffe));
}

#[test]
fn what_is_no_hosts_name_is_none() {
    for name in
        [&b"*.example.com"[..], b"a.example\0.evil", b"", b".", b"a.", b"-a.b", b"a b", b"a..b", b"\xc3\xa9"]
    {
        assert_eq!(read(&[(DNS, name)]), Err(IdentityFault::NotHost), "{}", name.escape_ascii());
    }
    let longest = vec![b'a'; 63];
    assert!(read(&[(DNS, &longest)]).is_ok());
    assert_eq!(read(&[(DNS, &[&longest[..], b"a"].concat())]), Err(IdentityFault::NotHost));
}

#[test]
fn a_certificate_that_answers_twice_or_ends_early_is_not_read() {
    let named = extension(&[(URI, b"spiffe://atp.local/tenant/acme")]);
    let twice = certificate_with(&[named.clone(), extension(&[])]);
    assert_eq!(Identity::of_certificate(&twice), Err(IdentityFault::Unreadable));
    let whole = certificate_with(&[named]);
    for end in 0..whole.len() {
        assert!(Identity::of_certificate(&whole[..end]).is_err(), "cut at {end}");
    }
    let more = [&whole[..], b"\0"].concat();
    assert_eq!(Identity::of_certificate(&more), Err(IdentityFault::Unreadable));
}

#[test]
fn an_identity_in_a_document_is_read_as_it_is_shown() {
    for text in ["spiffe://atp.local/operator/Ann", "dns:edge.example.com"] {
        assert_eq!(Identity::parse(text).unwrap().to_string(), text);
    }
    for text in ["edge.example.com", "dns:*.example.com", "spiffe://a/b/c", "dns:", "DNS:a.example"] {
        assert!(Identity::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_read_into_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..256),
        at in 0..400_usize,
    ) {
        let _ = Identity::of_certificate(&bytes);
        let mut bent = certificate(&[(URI, b"spiffe://atp.local/tenant/acme"), (DNS, b"a.example")]);
        let at = at % bent.len();
        bent.splice(at..at, bytes.iter().take(4).copied());
        if let Ok(identity) = Identity::of_certificate(&bent) {
            prop_assert_eq!(Identity::parse(&identity.to_string()), Ok(identity));
        }
    }
}
