#!/usr/bin/env python3
"""The memory gateway over HTTP, with its file and with a real Redis behind it: what it promises holds with
both, also when either is killed in the middle of writing, and when two gateways share one Redis.

    memory_redis.py        needs redis-server, or Debian's redis-tools
"""

import concurrent.futures
import hashlib
import http.client
import json
import re
import signal
import subprocess
import threading
import time

import kit
from redis_kit import Redis

# A call to Redis has 2 s, and a change is two of them.
TOLD_WITHIN_S = 8


class Gateway(kit.Process):
    """`redis`: of whoever keeps items; else a file."""

    def __init__(self, redis=None, data=None, tenants=None, store=None, **environment):
        self.data = data or kit.folder()
        arguments = [kit.ATP, "memory", "--listen", "127.0.0.1:0", "--data-dir", str(self.data)]
        store = store or (redis and redis.url)
        arguments += ["--store", store] if store else []
        if tenants:
            file = self.data / "tenants.yaml"
            file.write_text(kit.documents(tenants))
            arguments += ["--tenants", str(file)]
        super().__init__(arguments, environment)
        self.url = self.told(r"memory gateway (http://\S+)")
        self.port = int(self.url.rsplit(":", 1)[1])

    def ask(self, method, path, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        body = None if body is None else json.dumps(body).encode()
        status, answer = kit.fetch(f"{self.url}{path}", method, body, headers)
        return status, json.loads(answer)

    def put(self, path, text="x", ttl=0, **headers):
        body = {"object": {"text": text}, "ttl_seconds": ttl}
        return self.ask("PUT", f"/v1/memory/{path}", body, **headers)

    def get(self, path, **headers):
        return self.ask("GET", f"/v1/memory/{path}", **headers)[1]

    def keys(self, namespace, **headers):
        found, cursor = [], ""
        while True:
            page = self.ask("GET", f"/v1/memory?namespace={namespace}&limit=100{cursor}", **headers)[1]
            found += page["keys"]
            if page["cursor"] is None:
                return found
            cursor = f"&cursor={page['cursor']}"

    def whole(self, **headers):
        found = self.ask("GET", "/v1/compliance/audit-integrity", **headers)[1]
        assert found["integrity_valid"], found
        return found

    def sample(self, name):
        page = kit.fetch(f"{self.url}/metrics")[1].decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", page, re.M))


def tenant(name):
    key = hashlib.sha256(f"{name}-key".encode()).hexdigest()
    return {"kind": "Tenant", "name": name, "spec": {"keys": [{"sha256": key}]}}


shared = Redis()
KEPT = {"a file": lambda **more: Gateway(**more), "redis": lambda **more: Gateway(redis=Redis(), **more)}


@kit.each(KEPT)
def what_is_put_is_got_listed_found_and_deleted(kept):
    gateway = KEPT[kept]()
    expected = {"ok": True, "version": 1, "expires": None}
    assert gateway.put("tenant/acme/session/s1", "blue sky") == (200, expected)
    for level in ["EVENTUAL", "STRONG"]:
        got = gateway.get("tenant%2Facme/session%2Fs1", x_consistency_level=level)
        assert got["object"] == {"text": "blue sky"} and got["version"] == 1, got
    assert gateway.keys("tenant/acme") == ["session/s1"]
    found = gateway.ask("POST", "/v1/memory/search", {"q": "SKY"})[1]
    assert [row["key"] for row in found["results"]] == ["session/s1"], found
    assert gateway.put("tenant/acme/session/s1", "green", if_match='"99"')[0] == 412
    assert gateway.ask("DELETE", "/v1/memory/tenant/acme/session/s1")[1] == {"ok": True, "deleted": True}
    assert gateway.get("tenant/acme/session/s1") == {"error": "not_found"}
    assert gateway.ask("POST", "/v1/memory/search", {"q": "sky"})[1]["results"] == []
    assert gateway.whole()["events"] >= 7


@kit.each(KEPT)
def an_item_lives_as_long_as_it_was_said_and_not_longer(kept):
    gateway = KEPT[kept]()
    assert gateway.put("n/short", ttl=1)[0] == 200
    began = time.monotonic()
    assert gateway.get("n/short")["version"] == 1
    kit.until("it expires", lambda: gateway.get("n/short") == {"error": "not_found"})
    assert 0.9 < time.monotonic() - began < 3
    assert gateway.keys("n") == []


@kit.each(KEPT)
def a_quota_of_a_megabyte_is_one_to_the_byte(kept):
    gateway = KEPT[kept](MEMORY_QUOTA_MB="1")
    around = len("n/a") + len('{"text": ""}')
    assert gateway.put("n/a", "x" * (1024 * 1024 - around - 100))[0] == 200
    assert gateway.put("n/b", "x" * (101 - around))[0] == 507
    assert gateway.put("n/b", "x" * (100 - around))[0] == 200
    assert gateway.sample("atp_memory_bytes") == 1024 * 1024


@kit.each(KEPT)
def another_tenant_reads_lists_and_finds_nothing(kept):
    gateway = KEPT[kept](tenants=[tenant("acme"), tenant("other")])
    acme, other = {"x_api_key": "acme-key"}, {"x_api_key": "other-key"}
    assert gateway.put("notes/plan", "secret plan", **acme)[0] == 200
    assert gateway.get("notes/plan", **other) == {"error": "not_found"}
    assert gateway.keys("notes", **other) == []
    assert gateway.ask("POST", "/v1/memory/search", {"q": "secret plan"}, **other)[1]["results"] == []
    assert gateway.ask("DELETE", "/v1/memory/notes/plan", **other)[1]["deleted"] is False
    assert gateway.ask("GET", "/v1/compliance/gdpr/data-subject/plan", **other)[1]["records"] == []
    log = gateway.ask("GET", "/v1/compliance/audit-log", **other)[1]["events"]
    assert log and all(row["event"]["tenant_id"] == "other" for row in log)
    assert gateway.get("notes/plan", **acme)["object"] == {"text": "secret plan"}


def puts_until(port, keys, acknowledged, stop):
    """One after the other on one connection; those that were acknowledged, until it breaks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=kit.PATIENCE_S)
    for key in keys:
        if stop.is_set():
            return
        try:
            connection.request("PUT", f"/v1/memory/run/{key}", json.dumps({"object": {"text": key}}))
            answer = connection.getresponse()
            answer.read()
        except OSError:
            return
        except http.client.HTTPException:
            return
        if answer.status == 200:
            acknowledged.append(key)


def killed_in_the_middle(port, kill, many=4000, writers=8):
    """Those puts that were acknowledged before, or after it came back."""
    acknowledged, stop = [], threading.Event()
    with concurrent.futures.ThreadPoolExecutor(writers) as pool:
        for writer in range(writers):
            keys = [f"{writer}-{at}" for at in range(many // writers)]
            pool.submit(puts_until, port, keys, acknowledged, stop)
        kit.until("a part of the writes", lambda: len(acknowledged) > many // 8)
        kill()
        stop.set()
    assert len(acknowledged) < many, "it was killed in the middle"
    return acknowledged


@kit.check
def a_gateway_killed_while_it_writes_to_redis_loses_nothing_that_was_acknowledged():
    redis = Redis()
    gateway = Gateway(redis)
    acknowledged = killed_in_the_middle(gateway.port, gateway.kill)
    again = Gateway(redis)
    lost = set(acknowledged) - set(again.keys("run"))
    assert not lost, f"{len(lost)} of {len(acknowledged)} lost"
    assert again.whole()["events"] >= len(acknowledged)


@kit.check
def a_redis_killed_while_it_is_written_to_loses_nothing_that_was_acknowledged():
    redis = Redis()
    gateway = Gateway(redis)
    acknowledged = killed_in_the_middle(gateway.port, redis.kill)
    assert gateway.is_alive()
    redis.start()
    kit.until("the gateway is healthy", lambda: kit.fetch(f"{gateway.url}/healthz")[0] == 200)
    lost = set(acknowledged) - set(gateway.keys("run"))
    assert not lost, f"{len(lost)} of {len(acknowledged)} lost"
    gateway.whole()
    # What writes may have found it gone a moment ago, and tries again a quarter of a second later.
    kit.until("it takes writes", lambda: gateway.put("n/after")[0] == 200)


@kit.check
def two_gateways_on_one_redis_keep_one_quota_and_one_log_and_see_each_other_at_once():
    redis = Redis()
    tenants = [tenant("acme")]
    one, two = (Gateway(redis, tenants=tenants, MEMORY_QUOTA_MB="1") for _ in range(2))
    acme = {"x_api_key": "acme-key"}
    text = "x" * 10_000
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        def put(at):
            return [one, two][at % 2].put(f"n/k{at:03}", text, **acme)[0]
        done = list(pool.map(put, range(200)))
    each = len("n/k000") + len(json.dumps({"text": text}))
    fits = 1024 * 1024 // each
    assert done.count(200) == fits and done.count(507) == 200 - fits, (done.count(200), fits)
    assert len(one.keys("n", **acme)) == len(two.keys("n", **acme)) == fits
    assert one.whole(**acme)["head"] == two.whole(**acme)["head"]
    key = one.keys("n", **acme)[0]
    for at in range(50):
        assert one.put(f"n/{key}", f"small {at}", **acme)[0] == 200
        assert two.get(f"n/{key}", **acme)["object"] == {"text": f"small {at}"}
        found = two.ask("POST", "/v1/memory/search", {"q": f"small {at}"}, **acme)[1]["results"]
        assert found[0]["object"] == {"text": f"small {at}"}, found
        assert two.ask("DELETE", f"/v1/memory/n/{key}", **acme)[1]["deleted"] is True
        assert one.get(f"n/{key}", **acme) == {"error": "not_found"}


@kit.check
def a_redis_that_is_gone_is_503_with_what_to_do_and_health_says_so():
    redis = Redis()
    gateway = Gateway(redis)
    assert gateway.put("n/a")[0] == 200
    redis.kill()
    kit.until("health says so", lambda: kit.fetch(f"{gateway.url}/healthz")[0] == 503)
    for call in [lambda: gateway.put("n/b"), lambda: gateway.ask("GET", "/v1/memory/n/a")]:
        began = time.monotonic()
        status, answer = call()
        assert (status, answer["error"]) == (503, "store_unavailable"), answer
        assert "try again" in answer["message"], answer
        assert time.monotonic() - began < TOLD_WITHIN_S
    assert gateway.sample("atp_memory_store_errors_total") > 0
    redis.start()
    kit.until("it serves again", lambda: gateway.put("n/c")[0] == 200)
    assert gateway.keys("n") == ["a", "c"]


@kit.check
def a_redis_that_hangs_is_503_within_its_deadline():
    redis = Redis()
    gateway = Gateway(redis)
    redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda at: gateway.put(f"n/{at}"), range(30)))
    assert {status for status, _ in answers} == {503}, answers
    assert time.monotonic() - began < TOLD_WITHIN_S, "nobody waits for the others' deadlines"
    redis.signal(signal.SIGCONT)
    kit.until("it serves again", lambda: gateway.put("n/after")[0] == 200)
    gateway.whole()


@kit.check
def a_gateway_in_front_of_no_redis_starts_and_serves_once_there_is_one():
    redis = Redis()
    redis.kill()
    gateway = Gateway(redis)
    assert kit.fetch(f"{gateway.url}/healthz")[0] == 503
    redis.start()
    kit.until("it serves", lambda: gateway.put("n/a")[0] == 200)


@kit.check
def a_password_is_taken_from_a_file_and_is_nowhere_to_be_read():
    redis = Redis("--requirepass", "hunter2")
    data = kit.folder()
    (data / "password").write_text("hunter2\n")
    environment = {"REDIS_PASSWORD_FILE": str(data / "password"), "RUST_LOG": "trace"}
    gateway = Gateway(redis, data=data, **environment)
    assert gateway.put("n/a")[0] == 200
    redis.kill()
    kit.until("health says so", lambda: kit.fetch(f"{gateway.url}/healthz")[0] == 503)
    assert gateway.stop() == 0
    assert not any("hunter2" in (line or "") for line in gateway.lines)
    redis.start()
    (data / "password").write_text("wrong")
    for store, wrong in [(redis.url, environment), (f"redis://:wrong2@127.0.0.1:{redis.port}/0", {})]:
        said = refused(store, **wrong)
        assert "REDIS_PASSWORD_FILE" in said and "wrong" not in said, said


def refused(store, **environment):
    """What a gateway says that does not start."""
    flags = ["--listen", "127.0.0.1:0", "--data-dir", str(kit.folder())]
    done = subprocess.run(
        [kit.ATP, "memory", *flags], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=kit.PATIENCE_S, env={**kit.os.environ, "MEMORY_STORE": store, **environment},
    )
    assert done.returncode in (1, 2), done
    return done.stdout + done.stderr


@kit.check
def what_is_no_redis_or_leaves_in_cleartext_is_refused_at_the_start():
    assert "is no redis://" in refused("http://localhost")
    assert "ATP_CLEARTEXT=allowed" in refused("redis://cache.example:6379")
    done = subprocess.run(
        [kit.ATP, "memory", "--store", "redis://:hunter2@localhost"], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=kit.PATIENCE_S,
    )
    assert done.returncode == 2 and "REDIS_PASSWORD_FILE" in done.stderr, done
    assert "hunter2" not in done.stderr, done


@kit.check
def over_tls_its_certificate_is_checked():
    import quic_kit
    folder = kit.folder()
    authority, stranger = quic_kit.Authority(folder), quic_kit.Authority(folder, "stranger")
    cert, key = authority.server()
    with kit.socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tls = ["--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key)]
    redis = Redis(*tls, "--tls-auth-clients", "no")
    gateway = Gateway(store=f"rediss://localhost:{port}/0", REDIS_CA_FILE=str(authority.file))
    assert gateway.put("n/a")[0] == 200
    untrusting = Gateway(store=f"rediss://localhost:{port}/0", REDIS_CA_FILE=str(stranger.file))
    status, answer = untrusting.put("n/b")
    assert status == 503, answer
    assert Gateway(redis).keys("n") == ["a"]


@kit.check
def atp_up_keeps_its_memory_in_redis_where_the_environment_says_so():
    data = kit.folder()
    environment = {"MEMORY_STORE": "redis", "REDIS_URL": shared.url, "NO_COLOR": "1", "ROUTER_PORT": "0"}
    flags = ["--data-dir", str(data), "--grpc", "127.0.0.1:0", "--control-http", "127.0.0.1:0"]
    up = kit.Process([kit.ATP, "up", *flags, "--memory", "127.0.0.1:0"], environment)
    address = up.told(r"memory\s+(http://\S+)")
    body = json.dumps({"object": {"text": "from up"}}).encode()
    put = lambda: kit.fetch(f"{address}/v1/memory/up/a", "PUT", body)[0] == 200
    kit.until("it serves", put)
    assert Gateway(shared).get("up/a")["object"] == {"text": "from up"}
    assert not (data / "memory.redb").exists()
    up.kill()


kit.main()
