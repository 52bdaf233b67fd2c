"""Frames of ATP in its three encodings, written from docs/protocol.md and nothing else.

A frame is a mapping with the names of the JSON encoding. Standard library only.
"""

import json
import re
import struct

ENCODINGS = ("json", "cbor", "bin")
WINDOW = {"max_parallel": 64, "max_tokens": 1_000_000, "max_usd_micros": 10_000_000}


def frame(session, stream, seq, flags, kind, content=None, **more):
    payload = {"type": kind, "content": content}
    return {
        "v": 1, "session_id": session, "stream_id": stream, "msg_seq": seq, "frag_seq": 0,
        "flags": list(flags), "qos": "silver", "ttl": 8, "window": WINDOW, "meta": {}, "payload": payload,
        **more,
    }


def encoded(encoding, frame):
    """Text for JSON, bytes for the others."""
    return {"json": compact, "cbor": to_cbor, "bin": to_bin}[encoding](frame)


def decoded(encoding, message):
    return {"json": json.loads, "cbor": from_cbor, "bin": from_bin}[encoding](message)


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


# CBOR: RFC 8949, the spelling the document asks for.


def to_cbor(value):
    if value is None or isinstance(value, bool):
        return {None: b"\xf6", True: b"\xf5", False: b"\xf4"}[value]
    if isinstance(value, int):
        return _cbor_head(0, value) if value >= 0 else _cbor_head(1, -1 - value)
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode()
        return _cbor_head(3, len(raw)) + raw
    if isinstance(value, list):
        return _cbor_head(4, len(value)) + b"".join(map(to_cbor, value))
    pairs = sorted((key.encode(), to_cbor(of)) for key, of in value.items())
    return _cbor_head(5, len(pairs)) + b"".join(_cbor_head(3, len(k)) + k + v for k, v in pairs)


def _cbor_head(major, count):
    for code, size, most in ((24, ">B", 1 << 8), (25, ">H", 1 << 16), (26, ">I", 1 << 32)):
        if count < 24:
            return bytes([major << 5 | count])
        if count < most:
            return bytes([major << 5 | code]) + struct.pack(size, count)
    return bytes([major << 5 | 27]) + struct.pack(">Q", count)


def from_cbor(raw):
    value, end = _cbor_value(raw, 0)
    assert end == len(raw), "bytes behind the end"
    return value


def _cbor_value(raw, at):
    major, low = raw[at] >> 5, raw[at] & 31
    at += 1
    if major == 7:
        if low == 27:
            return struct.unpack_from(">d", raw, at)[0], at + 8
        return {20: False, 21: True, 22: None}[low], at
    count = low
    if low >= 24:
        size = 1 << (low - 24)
        count, at = int.from_bytes(raw[at:at + size], "big"), at + size
    if major in (0, 1):
        return (count if major == 0 else -1 - count), at
    if major == 3:
        return raw[at:at + count].decode(), at + count
    if major == 4:
        items = []
        for _ in range(count):
            item, at = _cbor_value(raw, at)
            items.append(item)
        return items, at
    assert major == 5, f"major type {major}"
    pairs, last = {}, b""
    for _ in range(count):
        key, at = _cbor_value(raw, at)
        assert key.encode() > last, "keys are sorted by their bytes"
        last = key.encode()
        pairs[key], at = _cbor_value(raw, at)
    return pairs, at


# Binary: a header and six sections.

HEADER = struct.Struct(">HBBHBBQIIQQHHIII")
FLAGS = ["ACK", "CTRL", "ECN", "FIN", "FRAG", "HB", "LAST", "MORE", "REASSEMBLED", "RST", "SYN",
         "capability", "health"]
QOS = ["bronze", "silver", "gold"]


def to_bin(frame):
    payload, window = frame["payload"], frame["window"]
    bits = sum(1 << FLAGS.index(flag) for flag in frame["flags"])
    # An empty one is left away, or written as `{}`.
    meta = compact(frame["meta"]) if frame["meta"] else ""
    texts = [frame["session_id"], frame["stream_id"], payload["type"], meta, "",
             compact(payload["content"])]
    session, stream, kind, meta, ext, content = (text.encode() for text in texts)
    header = HEADER.pack(
        0xFFA7, 1, QOS.index(frame["qos"]), bits, frame["ttl"], len(kind), frame["msg_seq"],
        frame["frag_seq"], window["max_parallel"], window["max_tokens"], window["max_usd_micros"],
        len(session), len(stream), len(meta), len(ext), len(content))
    sections = session + stream + kind + meta + ext + content
    header += struct.pack(">I", crc32c(sections))
    return header + struct.pack(">I", crc32c(header)) + sections


def from_bin(raw):
    (magic, version, qos, bits, ttl, kind, msg_seq, frag_seq, parallel, tokens, usd,
     *lengths) = HEADER.unpack_from(raw)
    assert (magic, version) == (0xFFA7, 1), raw[:3]
    assert struct.unpack_from(">II", raw, 56) == (crc32c(raw[64:]), crc32c(raw[:60])), "checksums"
    sections, at = [], 64
    for length in [*lengths[:2], kind, *lengths[2:]]:
        sections.append(raw[at:at + length].decode())
        at += length
    assert at == len(raw), "bytes behind the end"
    session, stream, kind, meta, ext, content = sections
    of_ext = json.loads(ext) if ext else {}
    known = {
        "v": 1, "session_id": session, "stream_id": stream, "msg_seq": msg_seq, "frag_seq": frag_seq,
        "flags": [flag for at, flag in enumerate(FLAGS) if bits >> at & 1],
        "qos": QOS[qos] if qos < 3 else None, "ttl": ttl, "meta": json.loads(meta or "{}"),
        "window": {"max_parallel": parallel, "max_tokens": tokens, "max_usd_micros": usd},
        "payload": {"type": kind, "content": json.loads(content or "{}"), **of_ext.pop("payload", {})},
    }
    return {**known, **of_ext}


def _crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


CRC = list(_crc_table())


def crc32c(raw):
    crc = 0xFFFFFFFF
    for byte in raw:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


# The document's own example; its bytes are there.
GOLDEN = {
    "v": 1, "session_id": "s1", "stream_id": "st1", "msg_seq": 1, "frag_seq": 0, "flags": ["SYN"],
    "qos": "gold", "ttl": 8,
    "window": {"max_parallel": 4, "max_tokens": 50000, "max_usd_micros": 1000000},
    "meta": {"task_type": "qa"},
    "payload": {"type": "agent.result.partial", "content": {"text": "héllo"}},
}


def of_the_document(text):
    """Its bytes of `GOLDEN`, in CBOR and in binary."""
    blocks = [block.replace("\n", "") for block in re.findall(r"```text\n([0-9a-f\n]+)```", text)]
    return tuple(bytes.fromhex(next(b for b in blocks if b.startswith(head))) for head in ("ab65", "ffa7"))
