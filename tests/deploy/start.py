"""Images and compose.yaml start from their files alone: no engine, no shell, nothing of this machine but what the
base image would bring. As the image's user, on a root that cannot be written.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import yaml

import box
from box import ADDRESS, Box, kit
from images import ROOT, images

COMPOSE = ROOT / "deploy/compose"
MODEL = "llama3.1-8b"


@kit.check
def the_data_plane_starts_is_well_and_keeps_its_admin_port_to_itself():
    data = Box(images()["dataplane"])
    kit.until("it is well", data.is_well)
    for port in (7443, 7446):
        assert box.is_open(port), f"{port} is not open to other containers"
    assert not box.is_open(7445), "the admin port is open to other containers"
    assert box.is_open(7445, "127.0.0.1"), "the admin port is there, inside"
    assert kit.fetch(f"http://{ADDRESS}:7446/readyz")[0] == 200
    assert b"requests_total" in kit.fetch(f"http://{ADDRESS}:7446/metrics")[1]
    for path in ("/config_dump", "/v1/models", "/drain"):
        assert kit.fetch(f"http://{ADDRESS}:7446{path}")[0] == 404, path
    assert kit.ask(f"http://{ADDRESS}:7443", "echo")[0] == 200
    # Two signals: the second cuts the drain short.
    data.child.send_signal(signal.SIGTERM)
    kit.until("it says that it leaves", lambda: not data.is_well())
    assert data.stop() == 0


@kit.check
def the_control_plane_starts_is_well_and_speaks_no_grpc_without_tls_to_others():
    control = Box(images()["controlplane"])
    kit.until("it is well", control.is_well)
    assert box.is_open(7441) and not box.is_open(7440)
    assert control.stop() == 0


@kit.check
def atp_starts_is_well_and_answers():
    whole = Box(images()["atp"])
    kit.until("it is well", whole.is_well)
    assert kit.ask("http://127.0.0.1:7443", "echo")[0] == 200
    assert not any(box.is_open(port) for port in (7440, 7441, 7443, 7445))
    code, told = whole.health(["/usr/local/bin/atp", "health", "http://127.0.0.1:1/"])
    assert code == 1 and "127.0.0.1:1" in told, told
    whole.child.send_signal(signal.SIGTERM)
    kit.until("it says that it leaves", lambda: whole.health()[0] != 0)
    assert whole.stop() == 0


class Stack:
    """compose.yaml, with what `up --scale ollama-adapter=3` would start of ours."""

    def __init__(self, scale):
        text = (COMPOSE / "compose.yaml").read_text()
        settings = {"OLLAMA_BASE_URL": f"http://{ADDRESS}:11434", "OLLAMA_MODEL": "mock"}
        filled = lambda found: settings.get(found[1], found[2])  # noqa: E731
        whole = yaml.safe_load(re.sub(r"\$\{(\w+):-([^}]*)\}", filled, text))
        self.services = {name: service for name, service in whole["services"].items()
                         if "dockerfile" in service.get("build", {})}
        self.volumes = {name: pathlib.Path(tempfile.mkdtemp(prefix="atp-volume-")) for name in whole["volumes"]}
        for volume in self.volumes.values():
            volume.chmod(0o700)
            os.chown(volume, 65532, 65532)
        self.hosts = "".join(f"{ADDRESS} {name}\n" for name in self.services)
        self.running = {}
        for name in self.services:
            for _ in range(scale.get(name, 1)):
                self._start(name)

    def _start(self, name):
        service = self.services[name]
        for other, wanted in service.get("depends_on", {}).items():
            first = self.running[other][0]
            if wanted["condition"] == "service_completed_successfully":
                assert first.child.wait(kit.PATIENCE_S) == 0, first.said()
            else:
                assert wanted["condition"] == "service_healthy"
                kit.until(f"{other} is well", lambda: first.is_well(self._check(other)))
        image = images()[service["build"]["target"]]
        env = {key: str(value) for key, value in service.get("environment", {}).items()}
        started = Box(image, service.get("command"), env, self._mounts(service), self.hosts, service["read_only"])
        self.running.setdefault(name, []).append(started)

    def _check(self, name):
        return self.services[name]["healthcheck"]["test"][1:]

    def _mounts(self, service):
        mounts = {}
        for line in service.get("volumes", []):
            source, place, *mode = line.split(":")
            outside = self.volumes.get(source) or COMPOSE / source
            mounts[place] = (outside, mode != ["ro"])
        return mounts

    def is_well(self, name):
        return all(one.is_well(self._check(name)) for one in self.running[name])


@kit.check
def compose_comes_up_answers_remembers_and_scales_its_adapter():
    mock = kit.Mock("--listen", f"{ADDRESS}:11434")
    stack = Stack({"ollama-adapter": 3})
    assert stack.running["apply"][0].child.wait(kit.PATIENCE_S) == 0, stack.running["apply"][0].said()
    for name in ("router", "controlplane", "memory-gateway", "ollama-adapter"):
        kit.until(f"{name} is well", lambda name=name: stack.is_well(name))
    router, memory = f"http://{ADDRESS}:7443", f"http://{ADDRESS}:8080"
    kit.until("three adapters are there", lambda: _metric("atp_adapters_attached") == 3)
    for _ in range(6):
        status, body = kit.ask(router, MODEL)
        assert status == 200, body
    assert mock.stats("mock")["requests"] == 6, mock.requests()
    status, body = kit.fetch(f"{router}/v1/ask", "POST", json.dumps({"prompt": "hi"}).encode())
    assert status == 200 and b'"final"' in body, body
    item = json.dumps({"object": {"text": "blue sky"}}).encode()
    assert kit.fetch(f"{memory}/v1/memory/notes/today", "PUT", item)[0] == 200
    status, body = kit.fetch(f"{memory}/v1/memory/search", "POST", json.dumps({"q": "sky"}).encode())
    assert status == 200 and b"today" in body, body
    _operators_alone(stack)
    _scraped(stack)
    # One adapter goes; the rest answers on.
    assert stack.running["ollama-adapter"].pop().stop() == 0
    kit.until("two adapters are there", lambda: _metric("atp_adapters_attached") == 2)
    assert kit.ask(router, MODEL)[0] == 200
    again = Box(images()["atp"], stack.services["certs"]["command"], {}, stack._mounts(stack.services["certs"]))
    assert again.child.wait(kit.PATIENCE_S) == 0, "certificates that are there are left alone"


def _operators_alone(stack):
    """The control plane is reached from other containers, and only with a certificate that says operator."""
    command = stack.services["apply"]["command"]
    as_dataplane = [word.replace("operator", "dataplane") for word in command]
    mounts = stack._mounts(stack.services["apply"])
    env = stack.services["apply"]["environment"]
    other = Box(images()["atp"], as_dataplane, env, mounts, stack.hosts)
    assert other.child.wait(kit.PATIENCE_S) == 1, other.said()
    assert box.is_open(7440) and not box.is_open(7445)


def _scraped(stack):
    """Whatever prometheus.yaml names is there and has metrics."""
    settings = yaml.safe_load((COMPOSE / "prometheus/prometheus.yaml").read_text())
    for job in settings["scrape_configs"]:
        for found in job["dns_sd_configs"]:
            assert all(name in stack.services for name in found["names"]), found
            status, page = kit.fetch(f"http://{ADDRESS}:{found['port']}/metrics")
            assert status == 200 and b"# TYPE" in page, job["job_name"]


def _metric(name):
    page = kit.fetch(f"http://{ADDRESS}:7446/metrics")[1].decode()
    return next(float(line.split()[-1]) for line in page.splitlines() if line.startswith(f"{name} "))


if __name__ == "__main__":
    box.enter()
    kit.main()
