"""What deploy/ says, judged by those who would read it: hadolint, kubernetes-validate, promtool, compose,
kustomize, helm; and that the parts agree with each other. Nothing is started.

Tools that are not there and cannot be installed are named, and what they would have judged is skipped.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "foreign"))
import helm  # noqa: E402
import kit  # noqa: E402
from images import ROOT, images  # noqa: E402

DEPLOY = ROOT / "deploy"
KUBERNETES = "1.31"
OVERLAYS = ("dev", "prod", "sidecar")
# Beside those of the process: the delay and grace of its drain, twice its last words and once for its threads.
LAST_WORDS_S = 6
# Of a custom resource, whose schema kubernetes-validate does not bring.
FOREIGN_KINDS = {"PodMonitor"}
# The chart in the ways it is used.
CHARTS = {
    "as it is": {},
    "with TLS": {"dataplane": {"certsSecret": "certs", "workers": 2}},
    "with a control plane": {
        "image": {"registry": "registry.example.com/atp/", "tag": "1", "pullSecrets": [{"name": "pull"}]},
        "dataplane": {
            "certsSecret": "certs",
            "graceSeconds": 1200,
            "env": [{"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "k", "key": "openai"}}}],
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "podAnnotations": {"a": "b"},
        },
        "controlplane": {"enabled": True, "certsSecret": "certs", "storageClass": "fast"},
        "autoscaling": {"tokensInFlight": 2_000_000},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "memory": {"enabled": True},
    },
    "with a memory": {"memory": {"enabled": True, "storageClass": "fast"}},
    "with as little as can be": {
        "autoscaling": {"enabled": False}, "disruption": {"enabled": False}, "network": {"enabled": False},
    },
}


def tool(*names):
    """The first of some programs that is there. Beside this Python, on the path, or unpacked by .ci/run."""
    beside = [pathlib.Path(sys.executable).parent, ROOT / "target/deploy-tools/usr/bin"]
    for name in names:
        found = next((str(place / name) for place in beside if (place / name).exists()), shutil.which(name))
        if found:
            return found
    print(f"skipped: {' or '.join(names)} is not installed, and what it would judge was not judged")
    return None


def run(*arguments, **options):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, cwd=ROOT, **options)
    assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


@kit.check
def the_dockerfile_passes_hadolint():
    run(tool("hadolint"), str(DEPLOY / "docker/Dockerfile"))


@kit.check
def images_hold_one_program_each_run_as_nobody_and_are_checked_without_a_shell():
    assert sorted(images()) == ["atp", "controlplane", "dataplane"]
    for name, image in images().items():
        assert image.user == "65532:65532", name
        programs = [path for path in image.files if "/bin/" in path]
        assert programs == image.entrypoint == image.health[:1], f"{name}: {programs}"
        exposed = {int(port.split("/")[0]) for port in image.exposed}
        assert 7445 not in exposed, f"{name} exposes the admin port"


@kit.check
def compose_is_understood():
    file = DEPLOY / "compose/compose.yaml"
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0:
        run(docker, "compose", "--file", str(file), "--profile", "ollama", "config", "--quiet")
        return
    older = tool("docker-compose")
    if older:
        # The older program names the project by a flag only.
        text = re.sub(r"(?m)^name: .*\n", "", file.read_text())
        folder = str(file.parent)
        arguments = ("--project-name", "atp", "--project-directory", folder, "--file", "-", "config", "--quiet")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        run(older, *arguments, input=text, env=clean)


@kit.check
def every_long_running_service_of_compose_has_a_health_check_and_files_that_are_there():
    services = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())["services"]
    for name, service in services.items():
        runs_once = service.get("restart") == "no"
        check = service.get("healthcheck", {})
        assert runs_once or check.get("test"), f"{name} has no health check"
        for line in service.get("volumes", []):
            source = line.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / "compose" / source).exists(), f"{name}: {source} is not there"
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), f"{name} publishes {port} to everybody"
        assert not any("7445" in str(port) for port in service.get("ports", [])), f"{name}: the admin port"


@kit.check
def kubernetes_takes_every_overlay():
    for overlay, documents in overlays():
        validate(documents, overlay)
        agree(documents, overlay)


@kit.check
def kubernetes_takes_the_chart_in_every_way_it_is_used():
    for how, values in CHARTS.items():
        rendered = helm.render(DEPLOY / "helm/atp", values)
        documents = [one for found in rendered.values() for one in found]
        validate(documents, how)
        agree(documents, how)


@kit.check
def the_chart_says_what_it_needs():
    for values in ({"controlplane": {"enabled": True}},
                   {"controlplane": {"enabled": True}, "dataplane": {"certsSecret": "c"}},
                   {"controlplane": {"enabled": True, "certsSecret": "c"}}):
        try:
            helm.render(DEPLOY / "helm/atp", values)
        except helm.Missing as why:
            assert "certsSecret" in str(why)
        else:
            raise AssertionError(f"{values} is taken")


@kit.check
def helm_itself_takes_the_chart():
    program = shutil.which("helm")
    if not program:
        print("      helm is not installed; the chart was rendered by tests/deploy/helm.py")
        return
    for how, values in CHARTS.items():
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            text = run(program, "template", "atp", str(DEPLOY / "helm/atp"), "--values", file.name)
        ours = [one for found in helm.render(DEPLOY / "helm/atp", values).values() for one in found]
        theirs = [one for one in yaml.safe_load_all(text) if one]
        key = lambda one: (one["kind"], one["metadata"]["name"])  # noqa: E731
        # How JSON is written differs, and with it the checksum.
        plain = [json.loads(re.sub(r'"checksum/settings": "\w+"', '""', json.dumps(one))) for one in ours]
        other = [json.loads(re.sub(r'"checksum/settings": "\w+"', '""', json.dumps(one))) for one in theirs]
        assert sorted(plain, key=key) == sorted(other, key=key), how


@kit.check
def prometheus_takes_the_alerts_and_the_dashboards_queries():
    promtool = tool("promtool")
    if not promtool:
        return
    run(promtool, "check", "rules", str(DEPLOY / "alerts/atp.yaml"))
    run(promtool, "check", "config", "--syntax-only", str(DEPLOY / "compose/prometheus/prometheus.yaml"))
    run(promtool, "test", "rules", str(ROOT / "tests/deploy/alerts.yaml"))
    queries = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    assert len(queries) > 40
    plain = [query.replace("$__rate_interval", "5m").replace("$job", "atp") for query in queries]
    rules = [{"record": f"q{at}", "expr": query} for at, query in enumerate(plain)]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
        file.flush()
        run(promtool, "check", "rules", "--lint=none", file.name)


@kit.check
def every_alert_says_how_urgent_it_is_and_has_a_runbook():
    groups = yaml.safe_load((DEPLOY / "alerts/atp.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    headings = re.findall(r"(?m)^## (\w+)$", (ROOT / "docs/runbooks.md").read_text())
    assert sorted(headings) == sorted(rule["alert"] for rule in rules), "a runbook for each, and no other"
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"]), rule["alert"]
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"


@kit.check
def the_dashboard_is_one_that_grafana_can_load():
    dashboard = json.loads((DEPLOY / "dashboards/atp.json").read_text())
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids)) and dashboard["uid"] and dashboard["title"]
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert panel["type"] == "row" or panel["targets"], panel["title"]
    folder = DEPLOY / "compose/grafana/provisioning"
    source = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())["datasources"][0]
    assert source["type"] == "prometheus" and source["isDefault"]


def panels():
    return json.loads((DEPLOY / "dashboards/atp.json").read_text())["panels"]


def overlays():
    """Each with its documents, where kustomize is there."""
    kustomize, kubectl = shutil.which("kustomize"), shutil.which("kubectl")
    if not kustomize and not kubectl:
        tool("kustomize", "kubectl")
        return
    for overlay in OVERLAYS:
        folder = str(DEPLOY / "kubernetes/overlays" / overlay)
        text = run(kustomize, "build", folder) if kustomize else run(kubectl, "kustomize", folder)
        yield overlay, [one for one in yaml.safe_load_all(text) if one]


def validate(documents, what):
    """Against the schema of Kubernetes itself, unknown fields included."""
    known = [document for document in documents if document["kind"] not in FOREIGN_KINDS]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump_all(known, file)
        file.flush()
        try:
            run(tool("kubernetes-validate"), "-k", KUBERNETES, "--strict", "--quiet", file.name)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from None


def agree(documents, what):
    """What the parts say of each other holds."""
    by_kind = {}
    for document in documents:
        by_kind.setdefault(document["kind"], []).append(document)
    maps = {one["metadata"]["name"]: one["data"] for one in by_kind.get("ConfigMap", [])}
    pods = [one for kind in ("Deployment", "StatefulSet") for one in by_kind.get(kind, [])]
    assert pods, what
    for owner in pods:
        claims = [claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])]
        _restricted(owner["spec"]["template"]["spec"], claims, what)
        _stops_in_time(owner["spec"]["template"]["spec"], maps, what)
        _remembers_for_those_who_are_named(owner["spec"]["template"]["spec"], claims, maps, what)
        labels = owner["spec"]["template"]["metadata"]["labels"]
        selected = owner["spec"]["selector"]["matchLabels"]
        assert selected.items() <= labels.items(), f"{what}: {owner['metadata']['name']} selects other pods"
    ports = {port["name"] for owner in pods for one in _containers(owner) for port in one.get("ports", [])}
    for service in by_kind.get("Service", []):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports, f"{what}: {port}"
    for monitor in by_kind.get("PodMonitor", []):
        assert all(end["port"] in ports for end in monitor["spec"]["podMetricsEndpoints"]), what
    for policy in by_kind.get("NetworkPolicy", []):
        told = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
        assert told and set(told) <= ports, f"{what}: {told}"


def _containers(owner):
    spec = owner["spec"]["template"]["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def _restricted(pod, claims, what):
    """As the Pod Security Standards' restricted profile has it, and a root that cannot be written."""
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 65532, what
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", what
    assert pod["automountServiceAccountToken"] is False, what
    volumes = {volume["name"] for volume in pod["volumes"]} | set(claims)
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True, what
        assert own["capabilities"] == {"drop": ["ALL"]}, what
        assert container["resources"]["limits"]["memory"], what
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes, what
        assert 7445 not in [port["containerPort"] for port in container.get("ports", [])], what


def _stops_in_time(pod, maps, what):
    """The grace of a pod covers preStop and the whole drain; probes ask a port that listens beyond loopback."""
    by_volume = {volume["name"]: volume.get("configMap", {}).get("name") for volume in pod["volumes"]}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        mounts = [by_volume.get(mount["name"]) for mount in container.get("volumeMounts", [])]
        texts = [maps[name]["dataplane.yaml"] for name in mounts if "dataplane.yaml" in maps.get(name, {})]
        for settings in map(yaml.safe_load, texts):
            drain = settings["drain"]
            before = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            needed = before + (drain["delay_ms"] + drain["grace_ms"]) / 1000 + LAST_WORDS_S
            assert pod["terminationGracePeriodSeconds"] >= needed, f"{what}: {needed} s are needed"
            listen = settings["listen"]
            assert listen["probes"] == "0.0.0.0:7446" and listen["admin"].startswith("127.0.0.1:"), what
            if not listen["http"].startswith("127.0.0.1:") or "tls" in settings:
                assert listen["metrics"] == listen["adapters"] == "hidden", what
            limit = re.fullmatch(r"(\d+)([MG])i", container["resources"]["limits"]["memory"])
            limit = int(limit[1]) << {"M": 20, "G": 30}[limit[2]]
            assert settings["limits"]["memory_bytes"] * 2 <= limit, f"{what}: more is held than there is"
            assert container.get("restartPolicy") == "Always" or container in pod["containers"], what


def _remembers_for_those_who_are_named(pod, claims, maps, what):
    """A memory gateway starts beyond loopback, keeps what it has on a volume, and ends before it is killed."""
    for container in pod["containers"]:
        arguments = container.get("args", [])
        if "memory" not in arguments[:1]:
            continue
        folder, file = arguments[arguments.index("--tenants") + 1].rsplit("/", 1)
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        named = {volume["name"]: volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
        documents = list(yaml.safe_load_all(maps[named[mounts[folder]]][file]))
        assert any(document["kind"] == "Tenant" for document in documents), f"{what}: nobody may use it"
        env = {one["name"]: one.get("value") for one in container["env"]}
        assert env["ATP_CLEARTEXT"] == "allowed" and mounts[env["ATP_DATA_DIR"]] in claims, what
        # Requests under way, then what still reads (GRACE of memory/io/src/app.rs, thrice).
        needed = container["lifecycle"]["preStop"]["sleep"]["seconds"] + 3 * 35 + LAST_WORDS_S
        assert pod["terminationGracePeriodSeconds"] >= needed, f"{what}: {needed} s are needed"


if __name__ == "__main__":
    kit.main()
