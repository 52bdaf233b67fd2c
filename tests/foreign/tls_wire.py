#!/usr/bin/env python3
"""TLS as nobody should speak it: mutated greetings, odd records, floods, each refused within its bounds while
others are served. The greeting is OpenSSL's, taken before it is sent; what comes behind the handshake is
tlslite-ng's.

    pip install -r requirements.txt
    tls_wire.py
"""

import contextlib
import http.client
import random
import socket
import ssl
import struct
import time

from tlslite.api import HandshakeSettings, TLSConnection
from tlslite.constants import AlertDescription, AlertLevel, KeyUpdateMessageType
from tlslite.errors import TLSAbruptCloseError, TLSClosedConnectionError, TLSRemoteAlert
from tlslite.messages import Alert, ApplicationData, ClientHello, NewSessionTicket

import kit
import quic_kit

# A handshake has 5 s; what is above is for a debug build on a busy machine.
CUT_S = 9
SEED = random.randrange(2**32)
HANDSHAKE, CCS, ALERT, DATA = 22, 20, 21, 23

folder = kit.folder()
authority = quic_kit.Authority(folder)
cert, key = authority.server()
ECHO = {"kind": "Adapter", "name": "echo", "spec": {"kind": "echo", "models": [{"name": "echo"}]}}
proxy = kit.Proxy([ECHO], tls={"listen": "127.0.0.1:0", "cert": cert, "key": key})
PORT = int(proxy.told(r"https://\S+:(\d+)"))


def served():
    """Somebody else is, as if nothing were."""
    made = ssl.create_default_context(cafile=authority.file)
    connection = http.client.HTTPSConnection("localhost", PORT, timeout=CUT_S, context=made)
    try:
        connection.request("GET", "/v1/models")
        assert connection.getresponse().status == 200
    finally:
        connection.close()


def hello(**bounds):
    """The greeting, without the head of its record."""
    made = ssl.create_default_context(cafile=authority.file)
    for name, value in bounds.items():
        setattr(made, name, value)
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        made.wrap_bio(into, out, server_hostname="localhost").do_handshake()
    return out.read()[5:]


GREETING = hello()


def record(kind, body, version=0x0301, length=None):
    return struct.pack("!BHH", kind, version, len(body) if length is None else length) + body


def with_length(body):
    """A handshake message whose length is right again."""
    return body[:1] + (len(body) - 4).to_bytes(3, "big") + body[4:]


def answered(*pieces, is_over=True):
    """What comes back until the other end hangs up, in records; it must do so in time. `is_over`: nothing more
    is said after the pieces."""
    began = time.monotonic()
    with socket.create_connection(("localhost", PORT)) as out:
        out.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = b""
        try:
            for piece in pieces:
                out.sendall(piece)
            if is_over:
                out.shutdown(socket.SHUT_WR)
            out.settimeout(CUT_S)
            while read := out.recv(65536):
                back += read
        except TimeoutError:
            raise AssertionError(f"not cut within {CUT_S} s") from None
        except ConnectionError:
            pass
    assert time.monotonic() - began < CUT_S
    records = []
    while len(back) >= 5:
        kind, _, length = struct.unpack("!BHH", back[:5])
        records.append((kind, back[5 : 5 + length]))
        back = back[5 + length :]
    return records


def alert_of(records):
    """The description of the alert that was answered, and nothing else."""
    assert [kind for kind, _ in records] == [ALERT], records
    level, description = records[0][1]
    assert level == AlertLevel.fatal
    return description


def extensions(body):
    """Where they begin, and each as (type, whole bytes)."""
    at = 4 + 2 + 32
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    begin, found = at, []
    at += 2
    while at < len(body):
        kind, length = struct.unpack("!HH", body[at : at + 4])
        found.append((kind, body[at : at + 4 + length]))
        at += 4 + length
    return begin, found


def with_extensions(change):
    begin, found = extensions(GREETING)
    changed = b"".join(whole for _, whole in change(found))
    return with_length(GREETING[:begin] + len(changed).to_bytes(2, "big") + changed)


def without(*kinds):
    return with_extensions(lambda found: [one for one in found if one[0] not in kinds])


@kit.check
def the_greeting_as_it_was_taken_is_answered_with_a_servers():
    records = answered(record(HANDSHAKE, GREETING))
    assert records[0][0] == HANDSHAKE and records[0][1][0] == 2, records


@kit.check
def a_greeting_with_any_byte_changed_is_answered_or_refused_and_the_connection_ends():
    print(f"      seed {SEED}")
    dice, outcomes = random.Random(SEED), {"answered": 0, "refused": 0, "ended": 0}
    # Each byte of its fixed part, then of all.
    places = list(range(0, 48)) + [dice.randrange(len(GREETING)) for _ in range(250)]
    for place in places:
        body = bytearray(GREETING)
        body[place] ^= dice.randrange(1, 256)
        records = answered(record(HANDSHAKE, bytes(body)))
        if not records:
            outcomes["ended"] += 1
        elif records[0][0] == HANDSHAKE:
            outcomes["answered"] += 1
        else:
            alert_of(records)
            outcomes["refused"] += 1
        assert all(kind in (HANDSHAKE, CCS, ALERT, DATA) for kind, _ in records)
    print(f"      {outcomes}")
    assert outcomes["refused"] >= 6, "its head alone"
    served()


@kit.check
def a_greeting_that_breaks_off_anywhere_ends_its_connection():
    for length in [*range(0, 12), *range(12, len(GREETING), 37)]:
        records = answered(record(HANDSHAKE, GREETING)[: 5 + length])
        assert not records or alert_of(records), (length, records)
    served()


@kit.check
def a_greeting_in_records_of_one_byte_is_a_greeting():
    pieces = [record(HANDSHAKE, GREETING[at : at + 1]) for at in range(len(GREETING))]
    records = answered(b"".join(pieces))
    assert records[0][0] == HANDSHAKE and records[0][1][0] == 2, records


def spliced(at, put, skip=0):
    return with_length(GREETING[:at] + put + GREETING[at + skip :])


_, FOUND = extensions(GREETING)
SESSION_ID = 4 + 2 + 32
COMPRESSION = SESSION_ID + 1 + GREETING[SESSION_ID]
COMPRESSION += 2 + int.from_bytes(GREETING[COMPRESSION : COMPRESSION + 2], "big")
KEY_SHARE, VERSIONS, GROUPS, SIGNATURES = 51, 43, 10, 13


def older(minor):
    """A greeting of a version before the extension that names versions."""
    return with_length(b"\x01\0\0\0\x03" + bytes([minor]) + without(VERSIONS)[6:])


REFUSED = {
    "TLS 1.2 at most": (record(HANDSHAKE, hello(maximum_version=ssl.TLSVersion.TLSv1_2)), {70}),
    "TLS 1.0 in its own words": (record(HANDSHAKE, older(1)), {70}),
    "SSL 3.0": (record(HANDSHAKE, older(0), 0x0300), {70}),
    "SSL 2.0": (bytes.fromhex("802e0100020015000000100100800300800700c0") + b"\0" * 28, {10, 22, 50}),
    "no key share": (record(HANDSHAKE, without(KEY_SHARE)), {40, 47, 109}),
    "no groups": (record(HANDSHAKE, without(GROUPS)), {40, 47, 109}),
    "no signature schemes": (record(HANDSHAKE, without(SIGNATURES)), {40, 47, 109}),
    "an extension twice": (record(HANDSHAKE, with_extensions(lambda found: found + found[:1])), {47, 50}),
    "extensions cut short": (record(HANDSHAKE, with_length(GREETING[:-7])), {50}),
    "more behind the extensions": (record(HANDSHAKE, with_length(GREETING + b"\0" * 9)), {50}),
    "a session id of 33 bytes": (record(HANDSHAKE, spliced(SESSION_ID, b"\x21" + b"s" * 33, 33)), {47, 50}),
    "no null compression": (record(HANDSHAKE, spliced(COMPRESSION, b"\x01\x01", 2)), {47}),
    "a greeting of more than 64 KiB": (
        b"".join([record(HANDSHAKE, b"\x01\xff\xff\xff" + b"\0" * 16000)] + [record(HANDSHAKE, bytes(16000))] * 4),
        # None: what nobody read takes the alert along.
        {10, 22, 47, 50, None},
    ),
    "a record longer than any": (record(HANDSHAKE, b"\0" * 20000, length=20000), {10, 22, 50}),
    "an empty record": (record(HANDSHAKE, b""), {10, 50}),
    "a record of no kind": (record(99, GREETING), {10, 50}),
    "words before the greeting": (record(DATA, b"GET / HTTP/1.1\r\n\r\n"), {10}),
    "HTTP in the clear": (b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", {10, 22, 50}),
    "a server's greeting": (record(HANDSHAKE, with_length(b"\x02" + GREETING[1:])), {10, 47, 50}),
    "a finished before all": (record(HANDSHAKE, b"\x14\0\0\x20" + b"f" * 32), {10, 50}),
}


@kit.each(REFUSED)
def what_is_no_greeting_is_refused_with_its_alert_and_nothing_else(case):
    said, alerts = REFUSED[case]
    began = time.monotonic()
    records = answered(said, is_over=False)
    assert (alert_of(records) if records or None not in alerts else None) in alerts
    assert time.monotonic() - began < 4, "it does not wait for more"
    served()


FLOODS = {
    "empty records": record(HANDSHAKE, b""),
    "changes of cipher": record(CCS, b"\x01"),
    "warnings": record(ALERT, bytes([AlertLevel.warning, AlertDescription.user_canceled])),
    "requests to close": record(ALERT, bytes([AlertLevel.warning, AlertDescription.close_notify])),
    "greetings": record(HANDSHAKE, GREETING),
}


@kit.each(FLOODS)
def a_flood_before_the_handshake_is_cut_and_costs_no_memory(case):
    before = resident_kib()
    for _ in range(4):
        answered(*[FLOODS[case] * 100] * 50, is_over=False)
    assert resident_kib() - before < 8 * 1024
    served()


@kit.check
def early_words_are_not_heard_and_no_ticket_invites_them():
    early = with_extensions(lambda found: [*found, (42, b"\0\x2a\0\0")])
    request = record(DATA, b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
    records = answered(record(HANDSHAKE, early), request)
    assert len(records) > 0 and records[-1][0] in (ALERT, DATA, CCS, HANDSHAKE)
    assert b"HTTP/1.1 200" not in b"".join(body for _, body in records)
    with handshaken() as connection:
        connection.write(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b"200 OK" in connection.read(min=1)
        assert connection.tickets, "there are tickets"
        for ticket in connection.tickets:
            assert isinstance(ticket, NewSessionTicket)
            assert all(extension.extType != 42 for extension in ticket.extensions), "none for early words"


def resident_kib():
    with open(f"/proc/{proxy.child.pid}/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1])


@contextlib.contextmanager
def handshaken():
    """A connection in TLS 1.3 whose every record is ours to make."""
    with socket.create_connection(("localhost", PORT)) as plain:
        plain.settimeout(CUT_S)
        connection = TLSConnection(plain)
        settings = HandshakeSettings()
        settings.minVersion = settings.maxVersion = (3, 4)
        connection.handshakeClientCert(settings=settings, serverName="localhost")
        connection.plain = plain
        yield connection


def send(connection, message):
    for _ in connection._sendMsg(message):
        pass


def ended(connection):
    """The alert that ends it, or None where it ends without one; what else is said is passed over."""
    try:
        while connection.read(max=65536, min=1):
            pass
    except TLSRemoteAlert as alert:
        return alert.description
    except (TLSAbruptCloseError, ConnectionError):
        return None
    return None


@kit.check
def a_handshake_is_not_begun_again_on_a_connection_that_had_one():
    with handshaken() as connection:
        again = ClientHello().create((3, 3), bytearray(32), bytearray(0), [0x1301])
        send(connection, again)
        assert ended(connection) == AlertDescription.unexpected_message
    served()


@kit.check
def a_record_that_was_changed_on_its_way_ends_the_connection():
    with handshaken() as connection:
        # Behind its back: of no key of this connection.
        connection.plain.sendall(record(DATA, bytes(64), 0x0303))
        assert ended(connection) == AlertDescription.bad_record_mac
    served()


def updates(connection, count):
    for _ in range(count):
        for _ in connection.send_keyupdate_request(KeyUpdateMessageType.update_requested):
            pass


AFTER = {
    "new keys": lambda connection: updates(connection, 3000),
    "empty words": lambda connection: [send(connection, ApplicationData().create(bytearray())) for _ in range(3000)],
    "warnings": lambda connection: [
        send(connection, Alert().create(AlertDescription.user_canceled, AlertLevel.warning)) for _ in range(3000)
    ],
}


@kit.each(AFTER)
def a_flood_behind_the_handshake_is_cut_and_costs_no_memory(case):
    before = resident_kib()
    for _ in range(3):
        with handshaken() as connection:
            try:
                AFTER[case](connection)
            except (ConnectionError, TLSAbruptCloseError, TLSClosedConnectionError):
                continue
            ended(connection)
    assert resident_kib() - before < 8 * 1024
    served()


@kit.check
def a_fatal_alert_ends_the_connection_at_once():
    with handshaken() as connection:
        send(connection, Alert().create(AlertDescription.internal_error, AlertLevel.fatal))
        began = time.monotonic()
        ended(connection)
        assert time.monotonic() - began < 2
    served()


@kit.check
def all_that_is_under_way_ends():
    kit.until("no connection is left", lambda: proxy.metric("atp_connections_open") == 0)


kit.main(proxy)
