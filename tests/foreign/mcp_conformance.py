#!/usr/bin/env python3
"""MCP's own conformance suite against /mcp, for each revision that is served.

    npm ci && mcp_conformance.py

Many of its scenarios want a server of their own making, with tools named for them; those this one cannot have
are in mcp_conformance.yaml, each group with its reason. One that begins to pass there is a failure too, so
the list stays true.
"""

import json
import pathlib
import re
import subprocess

import kit

HERE = pathlib.Path(__file__).resolve().parent
NODE = HERE / "node_modules/node/bin/node"
SUITE = HERE / "node_modules/@modelcontextprotocol/conformance/dist/index.js"
EXPECTED = HERE / "mcp_conformance.yaml"
# Of a whole run.
RUN_S = 55

mock = kit.Mock()
proxy = kit.Proxy(kit.alone(mock.url, ["mock--tokens-5"]))


def suite(*arguments):
    """Exit code, what it said, and where its results are."""
    folder = kit.folder()
    done = subprocess.run(
        [NODE, SUITE, "server", "--url", f"http://localhost:{proxy.port}/mcp", *arguments, "-o", folder],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=RUN_S, cwd=folder,
    )
    return done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr), folder


RUNS = {
    "2025-06-18": ["--spec-version", "2025-06-18", "--suite", "active"],
    "2025-11-25": ["--requirements", "2025-11-25"],
    "2026-07-28": ["--requirements", "2026-07-28"],
}


@kit.each(RUNS)
def the_suite_holds_for_revision(revision):
    code, said, _ = suite(*RUNS[revision], "--expected-failures", EXPECTED)
    assert code == 0, said[-6000:]
    print(f"      {re.findall(r'Total: .*', said)}")


# Of scenarios that are expected to fail, the checks that do; every other one must pass.
PARTLY = {
    "server-stateless": {
        "sep-2575-server-rejects-undeclared-capability",
        "sep-2575-missing-capability-http-400",
        "sep-2575-http-server-no-independent-requests-on-stream",
        "sep-2575-server-no-log-without-loglevel",
    },
    "caching": {
        "sep-2549-prompts-list-caching-hints",
        "sep-2549-resources-list-caching-hints",
        "sep-2549-resources-templates-list-caching-hints",
    },
}


@kit.each(PARTLY)
def what_fails_in_a_scenario_is_what_is_not_here(scenario):
    _, said, folder = suite("--scenario", scenario, "--spec-version", "2026-07-28")
    found = list(folder.rglob("checks.json"))
    assert len(found) == 1, said[-3000:]
    checks = json.loads(found[0].read_text())
    failed = {check["id"] for check in checks if check["status"] == "FAILURE"}
    passed = sum(check["status"] == "SUCCESS" for check in checks)
    assert failed == PARTLY[scenario] and passed > 0, (failed, passed)


kit.main(proxy, mock)
