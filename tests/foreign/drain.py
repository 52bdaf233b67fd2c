#!/usr/bin/env python3
"""Nobody notices a rolling restart of data planes, nor the death of a control plane.

    drain.py

The load is a client that behaves: it asks only who is ready, obeys `connection: close`, and tries elsewhere
only where a connection was refused. Anything else that goes wrong is a failed request; there must be none.
"""

import http.client
import json
import shutil
import threading
import time

import kit

ROUNDS = 3
CLIENTS = 6
WHOLE, STREAMED = "mock--tokens-5", "mock--tokens-20--token-rate-100"

mock = kit.Mock("--no-record")
RESOURCES = [kit.adapter("local", mock.url, WHOLE, STREAMED, "mock--tokens-300--token-rate-100")]
DRAIN = {"delay_ms": 700, "grace_ms": 15_000}


class Load:
    """Clients that ask without pause until stopped. Addresses may change while they run."""

    def __init__(self, *ports):
        self.ports = {port: False for port in ports}
        self.failures, self.served, self.refused = [], {port: 0 for port in ports}, 0
        self.ends = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._look, daemon=True)]
        self.threads += [threading.Thread(target=self._ask, args=[n], daemon=True) for n in range(CLIENTS)]
        [thread.start() for thread in self.threads]

    def total(self):
        return sum(self.served.values())

    def stop(self):
        self.ends.set()
        [thread.join(kit.PATIENCE_S) for thread in self.threads]

    def wait_for(self, more):
        """Until so many more requests were served, or one failed."""
        wanted = self.total() + more
        kit.until(f"{more} more requests", lambda: self.total() >= wanted or self.failures, 60)

    def _look(self):
        """What a balancer does."""
        while not self.ends.wait(0.05):
            for port in self.ports:
                try:
                    self.ports[port] = kit.fetch(f"http://127.0.0.1:{port}/readyz", timeout=2)[0] == 200
                except OSError:
                    self.ports[port] = False

    def _ask(self, number):
        connections = {}
        asked = number
        while not self.ends.is_set():
            ready = [port for port, is_ready in self.ports.items() if is_ready]
            if not ready:
                time.sleep(0.01)
                continue
            asked += 1
            port = ready[asked % len(ready)]
            [connections.pop(gone).close() for gone in [*connections] if gone not in ready]
            try:
                if port not in connections:
                    connections[port] = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                    connections[port].connect()
            except ConnectionRefusedError:
                self.refused += 1
                del connections[port]
                continue
            try:
                self._one(connections[port], STREAMED if asked % 3 == 0 else WHOLE)
                with self.lock:
                    self.served[port] += 1
            except Exception as error:
                self.failures.append(f"{port}: {error!r}")
                return
            if connections[port].sock is None:
                # The answer said `connection: close`.
                del connections[port]

    def _one(self, connection, model):
        kind = {"content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", request(model), kind)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, body)
        last = b"data: [DONE]\n\n" if model == STREAMED else b"}"
        assert body.endswith(last), f"cut: {body[-100:]!r}"


def request(model):
    streamed = "token-rate" in model
    return json.dumps({"model": model, "stream": streamed, "messages": [{"role": "user", "content": "hi"}]})


@kit.check
def a_rolling_restart_fails_no_request():
    planes = [kit.Proxy(RESOURCES, drain=DRAIN) for _ in range(2)]
    ports = [plane.port for plane in planes]
    load = Load(*ports)
    try:
        load.wait_for(50)
        for turn in range(2 * ROUNDS):
            leaving = planes[turn % 2]
            assert leaving.stop() == 0, leaving.said()
            load.wait_for(20)
            listen = {"http": f"127.0.0.1:{leaving.port}"}
            planes[turn % 2] = kit.Proxy(RESOURCES, drain=DRAIN, listen=listen)
            kit.until("the load sees it", lambda: load.ports[leaving.port] or load.failures)
            load.wait_for(50)
    finally:
        load.stop()
        [plane.kill() for plane in planes]
    print(f"      {load.served} served, {load.refused} refused connections, {len(load.failures)} failed")
    assert not load.failures, load.failures
    assert all(load.served.values())


@kit.check
def a_stream_under_way_outlives_the_drain():
    plane = kit.Proxy(RESOURCES, drain=DRAIN)
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=20)
    connection.request("POST", "/v1/chat/completions", request("mock--tokens-300--token-rate-100"))
    answer = connection.getresponse()
    begin = answer.read(100)
    ended = threading.Thread(target=plane.stop)
    ended.start()
    body = begin + answer.read()
    assert body.endswith(b"data: [DONE]\n\n") and b"tok300" in body, body[-300:]
    ended.join(kit.PATIENCE_S)
    assert plane.child.returncode == 0, plane.said()


@kit.check
def past_the_grace_a_stream_ends_with_an_error_its_client_can_read():
    plane = kit.Proxy(RESOURCES, drain={"delay_ms": 0, "grace_ms": 300})
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=20)
    connection.request("POST", "/v1/chat/completions", request("mock--tokens-300--token-rate-100"))
    answer = connection.getresponse()
    body = answer.read(100)
    plane.child.terminate()
    try:
        while piece := answer.read1():
            body += piece
        raise AssertionError(f"ended as if whole: {body[-300:]!r}")
    except (http.client.HTTPException, ConnectionError):
        pass
    events = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
    assert json.loads(events[-1][6:])["error"]["code"] == "draining", events[-1]
    assert plane.child.wait(kit.PATIENCE_S) == 0, plane.said()


@kit.check
def the_death_of_the_control_plane_fails_no_request_and_its_return_is_noticed():
    mind = kit.ControlPlane()
    mind.apply(RESOURCES)
    origin = {"url": f"http://{mind.grpc}", "token_file": str(mind.data / "dataplane.token")}
    plane = kit.Proxy(control_plane=origin, drain=DRAIN)
    load = Load(plane.port)
    try:
        load.wait_for(50)
        mind.kill()
        load.wait_for(300)
        assert plane.metric("atp_ready") == 1

        # Another one starts meanwhile, from what the first kept: it is ready without anybody to ask.
        other = kit.Proxy(control_plane=origin, data_dir=str(copied(plane.folder)))
        assert kit.ask(other.url, WHOLE)[0] == 200
        other.kill()

        mind = kit.ControlPlane(mind.data, (mind.grpc, mind.http))
        mind.apply([kit.adapter("later", mock.url, "mock-later")])
        applied = time.monotonic()
        kit.until("what was applied is served", lambda: kit.ask(plane.url, "mock-later")[0] == 200)
        print(f"      served {time.monotonic() - applied:.1f} s after it was applied")
        load.wait_for(50)
    finally:
        load.stop()
        plane.kill()
        mind.kill()
    print(f"      {load.total()} served, {len(load.failures)} failed")
    assert not load.failures, load.failures


def copied(of):
    to = kit.folder()
    shutil.copytree(of, to, dirs_exist_ok=True)
    return to


kit.main(mock)
