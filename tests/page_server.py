"""`livos ui` in a process of its own, for the tests of the page and of who may talk to it."""

from __future__ import annotations

import signal
import subprocess
import sys

__all__ = ["PageServer"]


class PageServer:
    """Started with these words; no browser opens. `address` is what it printed."""

    def __init__(self, *words: object) -> None:
        self._words = [sys.executable, "-m", "livos_cli", "ui", *map(str, words), "--no-browser"]
        self.start()

    def start(self) -> None:
        """Start it, once more with the same words, and wait for its address."""
        self.process = subprocess.Popen(
            self._words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http"), self.process.communicate()[1]

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.communicate(timeout=30)

    def stop(self) -> str:
        """As Ctrl-C does; what it said on stderr."""
        self.process.send_signal(signal.SIGINT)
        said = self.process.communicate(timeout=60)[1]
        assert self.process.returncode == 0, said
        return said
