"""Frames on their way to the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from media import scene, write_png, write_video

from livos_cli import segment
from livos_cli.network import LiVOS
from livos_cli.pipeline import propagate
from livos_cli.tracker.cuda_prefetch import upload_ahead
from livos_cli.video.source import Frame


def test_a_live_source_is_asked_for_no_frame_ahead() -> None:
    """Whoever waits for each mask before the next frame would wait for ever."""
    given = []

    def source() -> Iterator[Frame]:
        for index in range(4):
            given.append(index)
            yield Frame(index, index, 0.0, np.zeros((4, 4, 3), np.uint8))

    for frame, _ in upload_ahead(source(), torch.device("cuda"), ahead=False):
        assert given == list(range(frame.index + 1))


@pytest.mark.parametrize("piped", [False, True])
def test_pipes_are_live_and_files_are_not(
    piped: bool, tmp_path: Path, tiny: LiVOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scene(32, 48, 3, seed=1)
    video = write_video(tmp_path / "a.mkv", [rgb for rgb, _ in made])
    mask = write_png(tmp_path / "m.png", made[0][1], "gray")
    seen = []

    def spy(frames: object, device: torch.device, *, ahead: bool) -> object:
        seen.append(ahead)
        return upload_ahead(frames, device, ahead=ahead)  # type: ignore[arg-type]

    monkeypatch.setattr(propagate, "upload_ahead", spy)
    if piped:
        monkeypatch.setattr("sys.stdin", video.open("rb"))
    found = list(segment("-" if piped else video, mask, model=tiny))
    assert len(found) == 3
    assert seen == [not piped]
