"""A container without an engine: a process in a root of its own, as the image's user, in a network apart from
the machine's. Needs root, as an engine does.

The network has one address besides loopback, so that what listens on loopback only can be told from what is
open to others.
"""

import atexit
import ctypes
import fcntl
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "foreign"))
import kit  # noqa: E402

# Where other containers would see this one.
ADDRESS = "10.99.0.1"
_libc = ctypes.CDLL(None, use_errno=True)


def enter():
    """Into namespaces of one's own, or out of the script where that cannot be."""
    if os.environ.get("ATP_IN_BOX"):
        _up("lo", "127.0.0.1")
        _up("lo:1", ADDRESS)
        return
    apart = ["unshare", "--mount", "--net"]
    if os.geteuid() != 0 or subprocess.run([*apart, "true"], capture_output=True).returncode:
        print("skipped: starting the images (needs root and namespaces of its own)")
        sys.exit(0)
    environment = {**os.environ, "ATP_IN_BOX": "1"}
    os.execvpe(apart[0], [*apart, sys.executable, *sys.argv], environment)


class Box(kit.Process):
    """A container. `mounts`: path inside to (path outside, may be written)."""

    def __init__(self, image, command=None, env=None, mounts=None, hosts="", read_only=True):
        # Beside all that is built: the programs are large.
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="atp-image-"))
        self.root.chmod(0o755)
        self.image = image
        image.assemble(self.root)
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        _mount(self.root, self.root)
        atexit.register(_leave, self.root)
        for inside, (outside, may_write) in (mounts or {}).items():
            place = self.root / inside.lstrip("/")
            if pathlib.Path(outside).is_dir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
            _mount(outside, place)
            if not may_write:
                _mount(outside, place, read_only=True)
        if read_only:
            kept = image.env.get("ATP_DATA_DIR", "").lstrip("/")
            if kept and f"/{kept}" not in (mounts or {}):
                _mount(self.root / kept, self.root / kept)
            _mount(self.root, self.root, read_only=True)
        self.env = {**image.env, "PATH": "/usr/local/bin:/usr/bin", **(env or {})}
        command = image.command if command is None else command
        with _inside(self):
            super().__init__([*image.entrypoint, *command])

    def health(self, command=None):
        """The exit code and what was said of a check, made inside."""
        with _inside(self):
            done = subprocess.run(command or self.image.health, capture_output=True, text=True, timeout=20)
        return done.returncode, done.stdout + done.stderr

    def is_well(self, command=None):
        assert self.is_alive(), f"it ended with {self.child.returncode}: {self.said()}"
        return self.health(command)[0] == 0


class _inside:
    """Children of this block start in the container's root, as its user, with its environment."""

    def __init__(self, box):
        self.box, self.popen = box, subprocess.Popen

    def __enter__(self):
        box, popen = self.box, self.popen
        user, group = (int(number) for number in box.image.user.split(":"))

        def enter():
            os.chroot(box.root)
            os.chdir(box.image.workdir)
            os.setgroups([])
            os.setgid(group)
            os.setuid(user)

        def start(arguments, **options):
            options["env"] = box.env
            return popen(arguments, preexec_fn=enter, **options)

        subprocess.Popen = start

    def __exit__(self, *_):
        subprocess.Popen = self.popen


def _mount(source, place, read_only=False):
    bind, remount, ro = 4096, 32, 1
    flags = bind | (remount | ro if read_only else 0)
    done = _libc.mount(str(source).encode(), str(place).encode(), None, flags, None)
    if done:
        raise OSError(ctypes.get_errno(), f"{place} cannot be mounted")


def _leave(root):
    # Mounts end with the namespace; what they hid is plain again once they are detached.
    detach = 2
    for line in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split()[1]
        if place == str(root) or place.startswith(f"{root}/"):
            _libc.umount2(place.encode(), detach)
    shutil.rmtree(root, ignore_errors=True)


def _up(name, address):
    """An interface gets its address and is up."""
    set_address, set_flags, up_running = 0x8916, 0x8914, 0x41
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        packed = socket.inet_aton(address)
        request = struct.pack("16sH2s4s8s", name.encode(), socket.AF_INET, b"", packed, b"")
        fcntl.ioctl(any_socket, set_address, request)
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh", name.encode(), up_running))


def is_open(port, address=ADDRESS):
    try:
        with socket.create_connection((address, port), timeout=5):
            return True
    except ConnectionRefusedError:
        return False
