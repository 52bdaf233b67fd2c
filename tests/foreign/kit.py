"""Starts what a check needs (a proxy, a mock model server, a control plane), counts what passes, stops it.

Standard library only. Binaries: ATP_BIN and LOADTEST_BIN, else the debug build of this tree. Every address is
a free port of loopback, every wait has an end, every process dies with its script.
"""

import atexit
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
ATP = os.environ.get("ATP_BIN", str(ROOT / "target/debug/atp"))
LOADTEST = os.environ.get("LOADTEST_BIN", str(ROOT / "target/debug/loadtest"))
# Of a start, a stop and every condition; a debug build on a busy machine stays far below.
PATIENCE_S = 20.0
# Of one check; the longest one waits for a slow client to be cut.
CHECK_S = 60


class Process:
    """A child whose output is kept, to be waited for and to be shown when something fails."""

    def __init__(self, arguments, environment=None):
        self.lines, self.changed = [], threading.Condition()
        self.child = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(environment or {})},
        )
        threading.Thread(target=self._read, daemon=True).start()
        atexit.register(self.kill)

    def _read(self):
        for line in self.child.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.lines.append(None)
            self.changed.notify_all()

    def told(self, pattern, patience_s=PATIENCE_S):
        """The first group of `pattern` in the output, once it is there."""
        def found():
            matches = (re.search(pattern, line or "") for line in self.lines)
            return next((match[1] for match in matches if match), None)

        with self.changed:
            self.changed.wait_for(lambda: found() or None in self.lines, patience_s)
            if found() is None:
                what = f"{self.child.args[:2]} never said {pattern!r}"
                raise AssertionError(f"{what}; it said: {self.said()}")
            return found()

    def said(self):
        return "\n".join(line for line in self.lines[-40:] if line is not None)

    def is_alive(self):
        return self.child.poll() is None

    def stop(self):
        """SIGTERM and the exit code."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(PATIENCE_S)

    def kill(self):
        self.child.kill()
        self.child.wait(PATIENCE_S)


class Mock(Process):
    """The mock model server. How it answers stands in the model's name (`loadtest mock --help`)."""

    def __init__(self, *arguments):
        super().__init__([LOADTEST, "mock", *arguments])
        self.url = self.told(r"mock listening on (http://\S+)")

    def stats(self, model):
        return fetch_json(f"{self.url}/mock/stats")["models"].get(model, {"requests": 0, "cancelled": 0})

    def requests(self):
        return [r for r in fetch_json(f"{self.url}/mock/requests") if " /mock/" not in r["start"]]

    def last_request(self):
        return self.requests()[-1]

    def reset(self):
        fetch(f"{self.url}/mock/reset", method="POST")


class Proxy(Process):
    """A data plane of its own. `resources`: what to serve from a file; else `settings` name the origin."""

    def __init__(self, resources=None, ready=True, **settings):
        self.folder = folder()
        settings = {"workers": 1, "data_dir": str(self.folder), "listen": {}, **settings}
        settings["listen"] = {"http": "127.0.0.1:0", "admin": "127.0.0.1:0", **settings["listen"]}
        if resources is not None:
            settings["resources"] = str(self.folder / "resources.yaml")
            (self.folder / "resources.yaml").write_text(documents(resources))
        (self.folder / "dataplane.yaml").write_text(json.dumps(settings))
        super().__init__([ATP, "dataplane", "--config", str(self.folder / "dataplane.yaml")])
        self.url = self.told(r"clients: (http://\S+)")
        self.admin = self.told(r"admin: (http://\S+)")
        self.port = int(self.url.rsplit(":", 1)[1])
        if ready:
            until("the proxy is ready", lambda: fetch(f"{self.admin}/healthz/ready")[0] == 200)

    def metric(self, name, **labels):
        """A sample's value; 0 where there is none yet."""
        total = 0.0
        for line in fetch(f"{self.admin}/metrics")[1].decode().splitlines():
            if re.match(rf"{name}[{{ ]", line) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total


class ControlPlane(Process):
    """A control plane of its own; the same `data` and `ports` again are the same one, restarted."""

    def __init__(self, data=None, ports=("127.0.0.1:0", "127.0.0.1:0")):
        self.data = data or folder()
        config = self.data / "controlplane.yaml"
        listen = {"grpc": ports[0], "http": ports[1], "cleartext": "loopback"}
        config.write_text(json.dumps({"listen": listen, "data_dir": str(self.data)}))
        super().__init__([ATP, "controlplane", "--config", str(config)], {"NO_COLOR": "1"})
        self.grpc, self.http = self.told(r"grpc=(\S+)"), self.told(r"http=(\S+)")

    def apply(self, resources):
        file = self.data / "apply.yaml"
        file.write_text(documents(resources))
        flags = ["--server", f"http://{self.grpc}", "--token-file", str(self.data / "operator.token")]
        done = subprocess.run(
            [ATP, "ctl", *flags, "apply", "-f", str(file)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"apply failed: {done.stdout}{done.stderr}"


def adapter(name, endpoint, *models, **spec):
    """`endpoint`: of a server without `/v1`. A model is a name or a mapping."""
    models = [{"name": model} if isinstance(model, str) else model for model in models]
    spec = {"kind": "openai", "endpoint": f"{endpoint}/v1", "models": models, **spec}
    return {"kind": "Adapter", "name": name, "spec": spec}


def route(name, of_adapter, model, **spec):
    candidates = [{"adapter": of_adapter, "model": model, "weight": 1}]
    spec = {"match": {"model": model}, "candidates": candidates, "strategy": "weighted", **spec}
    return {"kind": "Route", "name": name, "spec": spec}


def alone(endpoint, models, timeout=None):
    """Each model on an adapter of its own, so that no fault of one trips the breaker of another."""
    for number, model in enumerate(models):
        yield adapter(f"alone-{number}", endpoint, model)
        if timeout:
            yield route(f"alone-{number}", f"alone-{number}", model, timeout=timeout)


def documents(resources):
    return "---\n".join(json.dumps(resource) + "\n" for resource in resources)


def cases():
    """What both SDKs are tried with."""
    return json.loads((pathlib.Path(__file__).parent / "cases.json").read_text())


def folder():
    made = pathlib.Path(tempfile.mkdtemp(prefix="atp-foreign-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def unserved():
    """An address that refuses connections for as long as the socket lives, and the socket."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return f"http://127.0.0.1:{held.getsockname()[1]}", held


def fetch(url, method="GET", body=None, headers=None, timeout=PATIENCE_S):
    """Status and body; a refused connection is an OSError."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def fetch_json(url):
    return json.loads(fetch(url)[1])


def ask(url, model, timeout=PATIENCE_S):
    """One chat without a stream: status and body."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = {"content-type": "application/json"}
    return fetch(f"{url}/v1/chat/completions", "POST", body, headers, timeout)


def until(what, holds, patience_s=PATIENCE_S):
    """Polls until `holds` and gives what it gave."""
    ends = time.monotonic() + patience_s
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"not within {patience_s} s: {what}")
        time.sleep(0.01)


CHECKS = []


def check(function):
    """Marks a check; its name is the sentence it proves."""
    CHECKS.append((function.__name__.replace("_", " "), function))
    return function


def each(cases):
    """Marks a check that is made once per case."""
    def mark(function):
        for case in cases:
            name = f"{function.__name__.replace('_', ' ')}: {case}"
            CHECKS.append((name, lambda case=case: function(case)))
        return function
    return mark


def main(*processes):
    """Makes every check; `processes` must live through all of them. Never returns."""
    failed = 0
    started = time.monotonic()
    signal.signal(signal.SIGALRM, _too_long)
    lives = [(f"{pathlib.Path(p.child.args[0]).name} lives on", lambda p=p: _lives(p)) for p in processes]
    for name, function in [*CHECKS, *lives]:
        signal.alarm(CHECK_S)
        try:
            function()
            print(f"ok    {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL  {name}\n{traceback.format_exc()}", flush=True)
        finally:
            signal.alarm(0)
    if failed:
        for process in processes:
            print(f"--- {process.child.args[:2]} said last:\n{process.said()}")
    total = len(CHECKS) + len(lives)
    script = pathlib.Path(sys.argv[0]).name
    print(f"{script}: {total - failed} passed, {failed} failed in {time.monotonic() - started:.1f} s")
    sys.exit(1 if failed or not total else 0)


def _lives(process):
    assert process.is_alive(), f"exit code {process.child.returncode}"


def _too_long(_signal, _frame):
    raise TimeoutError(f"the check did not end within {CHECK_S} s")
