#!/usr/bin/env python3
"""OpenSSL as the client: who comes in behind TLS 1.3, and who is refused before any answer.

    pip install -r requirements.txt
    tls.py
"""

import http.client
import socket
import ssl
import time

import kit
import quic_kit

TENANT = "spiffe://atp.local/tenant/acme"
# A handshake has 5 s; what is above is for a debug build on a busy machine.
CUT_S = 8

folder = kit.folder()
authority, stranger = quic_kit.Authority(folder), quic_kit.Authority(folder, "stranger")
cert, key = authority.server()
mock = kit.Mock()
proxy = kit.Proxy(
    [kit.adapter("local", mock.url, "mock-small")],
    tls={"listen": "127.0.0.1:0", "cert": cert, "key": key, "client_ca": authority.file},
)
PORT = int(proxy.told(r"https://\S+:(\d+)"))
GOOD = authority.client("acme", [TENANT])


def context(pair, **bounds):
    made = ssl.create_default_context(cafile=authority.file)
    for name, value in bounds.items():
        setattr(made, name, value)
    if pair:
        made.load_cert_chain(*pair)
    return made


def asked(pair, **bounds):
    """The status of an answer; raises where there is none."""
    connection = http.client.HTTPSConnection("localhost", PORT, timeout=CUT_S, context=context(pair, **bounds))
    try:
        connection.request("GET", "/v1/models")
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def refused(pair, **bounds):
    try:
        status = asked(pair, **bounds)
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected) as error:
        return error
    raise AssertionError(f"answered with {status}")


@kit.check
def a_good_certificate_is_served_in_tls_1_3_whichever_protocol_it_asks_for():
    assert asked(GOOD) == 200
    for offered, agreed in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1")):
        made = context(GOOD)
        made.set_alpn_protocols(offered)
        with socket.create_connection(("localhost", PORT)) as plain:
            with made.wrap_socket(plain, server_hostname="localhost") as secured:
                assert (secured.version(), secured.selected_alpn_protocol()) == ("TLSv1.3", agreed)


WRONG = {
    "none": (None, "missing"),
    "expired": (authority.client("expired", [TENANT], days=-1), "expired"),
    "not yet valid": (authority.client("early", [TENANT], days=5), "not_yet_valid"),
    "another authority's": (stranger.client("acme", [TENANT]), "unknown_issuer"),
    "a server's": (authority.server("purpose"), "purpose"),
    "another URI": (authority.client("uri", ["https://atp.local/tenant/acme"]), "name"),
    "two URIs": (authority.client("two", [TENANT, "spiffe://atp.local/operator/acme"]), "name"),
    "a common name only": (authority.client("nameless", []), "name"),
}


@kit.each(WRONG)
def a_wrong_certificate_is_refused_before_any_answer_and_counted(case):
    pair, reason = WRONG[case]
    before = proxy.metric("atp_tls_refused_total", reason=reason)
    refused(pair)
    kit.until(
        f"a count of {reason}",
        lambda: proxy.metric("atp_tls_refused_total", reason=reason) == before + 1,
    )
    assert asked(GOOD) == 200


@kit.check
def nothing_older_than_tls_1_3_is_spoken():
    refused(GOOD, maximum_version=ssl.TLSVersion.TLSv1_2)


@kit.check
def those_who_say_nothing_are_cut_and_others_are_served_meanwhile():
    silent = [socket.create_connection(("localhost", PORT)) for _ in range(200)]
    began = time.monotonic()
    for half in silent[100:]:
        # A greeting that says it is longer than what comes.
        half.sendall(bytes([22, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]))
    while time.monotonic() - began < 3:
        assert asked(GOOD) == 200
    for one in silent:
        one.settimeout(max(0.1, began + CUT_S - time.monotonic()))
        try:
            assert one.recv(1024) in (b"",), "an answer to nothing"
        except ConnectionError:
            pass
        one.close()
    assert proxy.metric("atp_tls_refused_total", reason="slow") >= 200
    assert asked(GOOD) == 200


kit.main(mock, proxy)
