"""What an image would hold, read from the Dockerfile alone, and that made into a folder.

Knows the few instructions that deploy/docker/Dockerfile uses, and says which one it does not know. Programs come
from the debug build, where the Dockerfile has the release build; libraries that the base image brings come
from this machine.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# Of the base image: where public authorities' roots are, and the folder everybody may write to.
ROOTS = "etc/ssl/certs/ca-certificates.crt"


class Image:
    """A last stage: files, and what is run how."""

    def __init__(self, name, stages):
        self.files, self.folders = {}, {}
        self.env, self.user, self.workdir = {}, "0:0", "/"
        self.entrypoint, self.command, self.health, self.exposed = [], [], None, []
        for stage in _chain(name, stages):
            for word, rest in stages[stage][1]:
                self._apply(word, rest, stages)

    def _apply(self, word, rest, stages):
        if word == "ENV":
            self.env.update(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "USER":
            self.user = rest
        elif word == "WORKDIR":
            self.workdir = rest
        elif word == "EXPOSE":
            self.exposed += rest.split()
        elif word == "ENTRYPOINT":
            self.entrypoint, self.command = json.loads(rest), []
        elif word == "CMD":
            self.command = json.loads(rest)
        elif word == "HEALTHCHECK":
            self.health = json.loads(rest[rest.index("CMD") + 3:])
        elif word == "COPY":
            self._copy(rest, stages)
        elif word != "LABEL":
            raise AssertionError(f"a last stage has {word} {rest}, which this check does not know")

    def _copy(self, rest, stages):
        flags = dict(word.removeprefix("--").split("=", 1) for word in rest.split() if word.startswith("--"))
        *sources, into = (word for word in rest.split() if not word.startswith("--"))
        if "from" in flags:
            files, folders = _made_by(stages[flags["from"]][1])
            (start,) = sources
            if start.rstrip("/") in folders:
                assert flags["chown"] == "65532:65532", f"who owns {into}?"
                self.folders[into] = int(flags["chmod"], 8)
            self.files |= {into + path.removeprefix(start): of for path, of in files.items()
                           if path.startswith(start)}
            return
        for source in sources:
            assert is_sent(source), f"{source} is copied, and .dockerignore keeps it back"
            self.files[into + pathlib.Path(source).name] = ROOT / source

    def assemble(self, folder):
        """The image's root, as a folder. Only what the Dockerfile names, and what the base image brings."""
        owner = [int(number) for number in self.user.split(":")]
        for path, mode in self.folders.items():
            made = folder / path.lstrip("/")
            made.mkdir(parents=True, exist_ok=True)
            made.chmod(mode)
            os.chown(made, *owner)
        for path, source in self.files.items():
            made = folder / path.lstrip("/")
            made.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, made)
            if os.access(source, os.X_OK):
                _bring_libraries(source, folder)
        (folder / "tmp").mkdir(mode=0o1777)
        (folder / "tmp").chmod(0o1777)
        (folder / ROOTS).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(f"/{ROOTS}", folder / ROOTS)
        (folder / "etc/hosts").write_text("127.0.0.1 localhost\n")
        return folder


def images():
    """Every last stage by its name."""
    stages = _stages(DOCKERFILE.read_text())
    are_built_on = {base for base, _ in stages.values()}
    last = [name for name in stages if name not in are_built_on and not name.startswith("build-")]
    return {name: Image(name, stages) for name in last}


def is_sent(path):
    """Whether .dockerignore lets a path of the tree into the build."""
    sent = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        rule = line.lstrip("!")
        if rule == "*" or path == rule or path.startswith(f"{rule}/"):
            sent = line.startswith("!")
    return sent


def _stages(text):
    """Name to base and instructions."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    stages, current = {}, None
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(None, 1)
        if word == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            current = stages.setdefault(name, (base, []))[1]
        elif word != "ARG":
            current.append((word, " ".join(rest.split())))
    return stages


def _chain(name, stages):
    """A stage and those it is built on, the lowest first."""
    chain = []
    while name in stages:
        chain.insert(0, name)
        name = stages[name][0]
    assert name == "${BASE_IMAGE}", f"an image is built on {name}"
    return chain


def _made_by(instructions):
    """Files and folders that the `install` commands of a stage make."""
    files, folders = {}, set()
    for word, rest in instructions:
        for command in rest.split("&&") if word == "RUN" else []:
            words = command.split()
            if words[:1] != ["install"]:
                continue
            plain = [word for word in words[1:] if "/" in word]
            if "-d" in words:
                folders |= set(plain)
            else:
                source, path = plain
                files[path] = TARGET / source.replace("target/release", "debug")
    return files, folders


def _bring_libraries(program, folder):
    """The C library and its loader, which the base image has."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+)", listed):
        allowed = r"lib(c|m|gcc_s|pthread|dl|rt)\.so|ld-linux"
        assert re.search(allowed, library), f"{program.name} needs {library}, which the base image lacks"
        made = folder / library.lstrip("/")
        made.parent.mkdir(parents=True, exist_ok=True)
        if not made.exists():
            shutil.copy(library, made)
