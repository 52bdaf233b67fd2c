"""A Redis of a check's own: on a free port of loopback, with an append-only file synced at each write."""

import os
import shutil
import socket
import subprocess

import kit


class Redis:
    """The same folder and port again after `kill` and `start`: the same one, with what it kept."""

    def __init__(self, *options):
        self.folder, self.options, self.child = kit.folder(), options, None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        arguments = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        arguments += ["--appendonly", "yes", "--appendfsync", "always", "--dir", str(self.folder)]
        # Debian's tools have the server under another name; it is what it is called.
        program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
        assert program, "there is no redis-server (Debian: apt-get install redis-server)"
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.child = subprocess.Popen([*arguments, *self.options], executable=program, **quiet)
        kit.atexit.register(self.kill)
        kit.until("Redis listens", self.listens)

    def listens(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False

    def signal(self, which):
        os.kill(self.child.pid, which)

    def kill(self):
        self.child.kill()
        self.child.wait(kit.PATIENCE_S)

    def ask(self, *words, password=None):
        """One command over the bare protocol; the answer's first line, or the text of a bulk."""
        with socket.create_connection(("127.0.0.1", self.port), kit.PATIENCE_S) as connection:
            file = connection.makefile("rb")
            for command in ([["AUTH", password]] if password else []) + [list(words)]:
                parts = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in command)
                connection.sendall(b"*%d\r\n%s" % (len(command), parts))
                answer = file.readline().decode().strip()
                if answer.startswith("$") and answer != "$-1":
                    answer = file.read(int(answer[1:]) + 2)[:-2].decode()
            return answer
