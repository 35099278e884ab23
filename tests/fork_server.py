"""Commands of livos as processes of their own, without the two seconds that importing torch takes.

A server imports everything once and forks for each command: every one has its own streams, folder,
exit code and end, as if it had been started afresh. It is started by `Forks`, one for each process
of pytest.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

LENGTH = struct.Struct("<i")
# What livos' own modules import while they run: torch._dynamo alone takes as long as torch.
SOON_WANTED = ("torch._dynamo", "typer._adapters", "rich.console", "numpy.ma")
# Variables that are read when a command runs, or by libraries that are imported only then; and what
# pytest notes there for itself.
READ_LATE = ("COLUMNS", "HF_", "LIVOS_", "PYTEST_", "XDG_")


def received(connection: socket.socket, count: int) -> bytes:
    """So many bytes, fewer where the other end has gone."""
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data


class Forks:
    """The server, seen from the tests; it ends with the process that made it."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__)), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=self._environment,
                pass_fds=[theirs.fileno()],
            )

    def can_run(self, environment: dict[str, str]) -> bool:
        """Whether a fork heeds all that differs from the environment of the server."""
        differ = self._environment.items() ^ environment.items()
        return all(name.startswith(READ_LATE) for name, _ in differ)

    def run(
        self,
        arguments: list[str],
        environment: dict[str, str],
        stdin: bytes | None,
        cwd: Path | None,
        timeout: float,
    ) -> subprocess.CompletedProcess[bytes]:
        """What `subprocess.run` does for `python -m livos_cli`, errors included."""
        pipes = [os.pipe() for _ in range(3)]
        (read_in, write_in), (read_out, write_out), (read_err, write_err) = pipes
        said: dict[int, bytes] = {}

        def read(number: int) -> None:
            with os.fdopen(number, "rb") as file:
                said[number] = file.read()

        def write() -> None:
            with suppress(BrokenPipeError), os.fdopen(write_in, "wb") as file:
                file.write(stdin or b"")

        request = json.dumps([arguments, environment, str(cwd or Path.cwd())]).encode()
        theirs = [read_in, write_out, write_err]
        socket.send_fds(self._socket, [LENGTH.pack(len(request))], theirs)
        self._socket.sendall(request)
        for number in theirs:
            os.close(number)
        jobs = [threading.Thread(target=write, daemon=True)]
        jobs += [threading.Thread(target=read, args=(n,)) for n in (read_out, read_err)]
        for job in jobs:
            job.start()
        code = self._waited(timeout)
        for job in jobs:
            job.join()
        command = [sys.executable, "-m", "livos_cli", *arguments]
        if code is None:
            raise subprocess.TimeoutExpired(command, timeout, said[read_out], said[read_err])
        return subprocess.CompletedProcess(command, code, said[read_out], said[read_err])

    def _waited(self, timeout: float) -> int | None:
        """The exit code, None for a command that was killed because it took too long."""
        (process,) = LENGTH.unpack(received(self._socket, LENGTH.size))
        self._socket.settimeout(timeout)
        late = False
        try:
            status = received(self._socket, LENGTH.size)
        except TimeoutError:
            late = True
            os.kill(process, signal.SIGKILL)
            self._socket.settimeout(None)
            status = received(self._socket, LENGTH.size)
        self._socket.settimeout(None)
        return None if late else os.waitstatus_to_exitcode(LENGTH.unpack(status)[0])

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def import_everything() -> None:
    import livos_cli

    for module in pkgutil.walk_packages(livos_cli.__path__, "livos_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in SOON_WANTED:
        with suppress(ModuleNotFoundError):  # not in every version of its package
            importlib.import_module(name)


def serve(connection: socket.socket) -> list[str] | None:
    """Fork for each request.

    Returns:
        In a fork the words of its command, in the server None when nobody will ask any more.
    """
    while True:
        header, numbers, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
        if not header:
            return None
        request: Any = json.loads(received(connection, LENGTH.unpack(header)[0]))
        process = os.fork()
        if not process:
            connection.close()
            for number, stream in enumerate(numbers):
                os.dup2(stream, number)
                os.close(stream)
            words, environment, folder = request
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(folder)
            sys.path[0] = folder  # as with `python -m`
            return list(words)
        for number in numbers:
            os.close(number)
        connection.sendall(LENGTH.pack(process))
        connection.sendall(LENGTH.pack(os.waitpid(process, 0)[1]))


def main() -> None:
    import_everything()
    gc.freeze()  # what is there stays, in all forks
    words = serve(socket.socket(fileno=int(sys.argv[1])))
    if words is not None:
        from livos_cli import cli

        sys.argv = [str(Path(cli.__file__).parents[1] / "__main__.py"), *words]
        end(cli.main)


def end(command: Callable[[], None]) -> NoReturn:
    """Run a fork's command and end as Python does, but without taking the interpreter apart.

    That takes longer than most commands, and Triton's bindings (from 3.9 on) write there that they
    leak whatever the server has frozen.
    """
    code: Any = 0
    try:
        command()
    except SystemExit as asked:
        code = asked.code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
