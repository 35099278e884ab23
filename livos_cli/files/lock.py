"""One run at a time in a folder of results."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from livos_cli.errors import OutputError
from livos_cli.files.atomic import absent, create, remove_empty
from livos_cli.files.livos_folder import CHECKPOINT_LOCK, livos_folder, lock_in
from livos_cli.files.trust import OWNER, UntrustedError, read

__all__ = ["locked"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder while the block runs. The system lets go of it when its process dies.

    Raises:
        OutputError: another run holds it, which it names; or the folder cannot be written to.
    """
    records = livos_folder(folder)
    made = absent(records)
    owner = records / "owner.json"  # the lock's own file is emptied by whoever tries
    try:
        lock = lock_in(records)
    except Timeout:
        raise OutputError(
            f"{folder} is in use by {_who(owner)}", "wait for it, or choose another place with -o"
        ) from None
    except OSError as error:
        raise OutputError(
            f"cannot write to {error.filename or folder} ({error.strerror})",
            "choose another place with -o",
        ) from None
    try:
        me = {"host": socket.gethostname(), "process": os.getpid(), "since": time.time()}
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            owner.unlink(missing_ok=True)
            with create(owner) as file:
                file.write(json.dumps(me).encode())
        yield
    finally:
        for path in (owner, records / CHECKPOINT_LOCK):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        lock.release()
        remove_empty(dict.fromkeys((records, *made)))


def _who(owner: Path) -> str:
    try:
        told = read(owner, OWNER)
    except (OSError, UntrustedError):
        return "another run"
    minutes = max(0.0, time.time() - told["since"]) / 60
    age = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    return f"another run (process {told['process']} on {told['host']}, for {age})"
