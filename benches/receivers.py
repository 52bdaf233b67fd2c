#!/usr/bin/env python3
"""Whether a receiver of spans can slow requests down: the same load, in turns, on data planes that differ in
nothing but the receiver they export to. Prints the median of the ratios of each round to one that records
nothing, with the interval that holds 95 % of medians of rounds drawn again. See benches/README.md.

    cargo build --release -p cli -p loadtest
    pip install -r tests/foreign/requirements.txt
    benches/receivers.py [--rounds 12] [--rate 400] [--seconds 4]
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as stubs

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Receiver(stubs.TraceServiceServicer):
    def Export(self, request, context):  # its name in the protocol
        return service.ExportTraceServiceResponse()


def healthy():
    server = grpc.server(futures.ThreadPoolExecutor(2))
    stubs.add_TraceServiceServicer_to_server(Receiver(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


# Takes connections, and never says a word.
def hung():
    listener, held = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                held.append(listener.accept())

    threading.Thread(target=serve, daemon=True).start()
    return listener, listener.getsockname()[1]


def dead():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return None, listener.getsockname()[1]


class Child:
    def __init__(self, line, env=None):
        self.process = subprocess.Popen(
            [str(part) for part in line], env=os.environ | (env or {}), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )

    def told(self, pattern):
        for line in self.process.stdout:
            if found := re.search(pattern, line):
                threading.Thread(target=lambda: list(self.process.stdout), daemon=True).start()
                return found[1]
        sys.exit(f"{self.process.args} ended before it said {pattern}")

    def end(self):
        self.process.kill()
        self.process.wait()


class Proxy:
    def __init__(self, args, folder, upstream, port):
        folder.mkdir()
        model = {"name": "mock-model", "context_tokens": 8192, "price": {"in": 1, "out": 1}}
        spec = {"kind": "openai", "endpoint": f"{upstream}/v1", "models": [model]}
        (folder / "resources.yaml").write_text(json.dumps({"kind": "Adapter", "name": "mock", "spec": spec}))
        listen = {"http": "127.0.0.1:0", "admin": "127.0.0.1:0"}
        settings = {"listen": listen, "workers": 1, "data_dir": str(folder), "resources": "resources.yaml"}
        (folder / "settings.yaml").write_text(json.dumps(settings))
        env = {"ROUTER_ENABLE_TRACING": "1", "ROUTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        env |= {} if port else {"ROUTER_DISABLE_OTLP_EXPORT": "1", "ROUTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
        self.child = Child([args.atp, "dataplane", "--config", folder / "settings.yaml"], env)
        self.url = self.child.told(r"clients: (http://\S+)")
        self.until_ready()

    def until_ready(self):
        for _ in range(200):
            with contextlib.suppress(OSError):
                if urllib.request.urlopen(f"{self.url}/readyz").status == 200:
                    return
            time.sleep(0.05)
        sys.exit("a data plane is not ready")

    def spans(self):
        page = urllib.request.urlopen(f"{self.url}/metrics").read().decode()
        count = lambda name: re.search(rf"^atp_spans_{name}_total (\S+)$", page, re.M)
        names = ["recorded", "exported", "dropped", "failed"]
        return {name: int(float(found[1])) for name in names if (found := count(name))}


def load(args, proxy):
    line = [args.loadtest, "run", "--url", proxy.url, "--rate", args.rate, "--duration", args.seconds]
    line += ["--warmup", 1, "--pid", proxy.child.process.pid, "--json", "-"]
    done = subprocess.run([str(part) for part in line], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def interval(ratios):
    dice = random.Random(1)
    medians = sorted(statistics.median(dice.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], statistics.median(ratios), medians[-51]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--rate", type=int, default=400)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--atp", default=ROOT / "target/release/atp")
    parser.add_argument("--loadtest", default=ROOT / "target/release/loadtest")
    args = parser.parse_args()
    mock = Child([args.loadtest, "mock"])
    upstream = "http://" + mock.told(r"(\d+\.\d+\.\d+\.\d+:\d+)")
    receivers = {"none": (None, 0), "healthy": healthy(), "dead": dead(), "hung": hung()}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        proxies = {name: Proxy(args, folder / name, upstream, at[1]) for name, at in receivers.items()}
        seen = {name: [] for name in proxies}
        for turn in range(args.rounds):
            names = list(proxies)
            for name in names[turn % len(names):] + names[: turn % len(names)]:
                seen[name].append(load(args, proxies[name]))
        for name, proxy in proxies.items():
            print(name, proxy.spans())
        for what, path in FIGURES.items():
            of = lambda report: at(report, path)
            own = {name: [of(report) for report in reports] for name, reports in seen.items()}
            for name in proxies:
                ratios = [one / base for one, base in zip(own[name], own["none"])]
                low, middle, high = interval(ratios)
                print(f"{what:14} {name:8} median {statistics.median(own[name]):9.1f}"
                      f"  to none {middle:.3f} [{low:.3f}, {high:.3f}]")
        for proxy in proxies.values():
            proxy.child.end()
    mock.end()


def at(report, path):
    for part in path:
        report = report[part]
    return report


FIGURES = {
    "p50, us": ["latency_us", "p50"],
    "p99, us": ["latency_us", "p99"],
    "CPU, us": ["cpu", 0, "us_per_request"],
}

if __name__ == "__main__":
    main()
