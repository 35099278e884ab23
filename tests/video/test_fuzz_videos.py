"""A sample of all that ffmpeg makes, read as ffmpeg reads it; see `video_zoo.py`."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media import decode, times, write_png
from video_zoo import (
    CONTAINERS,
    MATRICES,
    Recipe,
    Seen,
    differences,
    judge,
    make,
    read,
    reference,
    sample,
)

from livos_cli.network import LiVOS
from livos_cli.options import RunOptions, SegmentOptions
from livos_cli.outputs.formats import FrameResult
from livos_cli.pipeline.run import run

pytestmark = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="ffmpeg (the program) is not installed"
)
SEED, COUNT = 20, 40  # some 20 s on an idle core
PLAIN = Recipe(
    container="mkv",
    codec="ffv1",
    pix_fmt="yuv420p",
    matrix="untagged",
    full=False,
    orientation=0,
    rate="25",
    streams="video",
    times="from zero",
    frames=8,
    width=96,
    height=64,
    interlaced=False,
)


@pytest.mark.slow
def test_a_sample_is_read_as_ffmpeg_reads_it(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    wrong = []
    for number, recipe in enumerate(sample(COUNT, SEED)):
        folder = tmp_path / str(number)
        folder.mkdir()
        verdict = judge(recipe, folder)
        counts[verdict.kind] += 1
        if verdict.kind in ("wrong", "refused"):  # of whole files, none is refused
            wrong.append(f"{verdict.kind}: {verdict.why}\n    {recipe}")
        shutil.rmtree(folder)
    print(dict(counts))
    assert not wrong, "\n".join(wrong)
    assert counts["right"] + counts["warned"] >= 0.8 * COUNT


@pytest.mark.parametrize("container", sorted(CONTAINERS))
def test_a_plain_video_of_each_container_is_right(container: str, tmp_path: Path) -> None:
    """No warning is printed where there is nothing to warn of."""
    codec, formats = next(iter(CONTAINERS[container].items()))
    recipe = replace(PLAIN, container=container, codec=codec, pix_fmt=formats[0])
    verdict = judge(recipe, tmp_path)
    assert verdict.kind == "right", verdict


@pytest.mark.parametrize("times", ["late", "negative", "gap", "long gap", "again", "wrap"])
def test_odd_timestamps_of_transport_streams(times: str, tmp_path: Path) -> None:
    recipe = replace(
        PLAIN, container="ts", codec="libx264", times=times, streams="with sound", frames=24
    )
    verdict = judge(recipe, tmp_path)
    assert verdict.kind == ("warned" if times == "again" else "right"), verdict


@pytest.mark.parametrize("streams", ["still first", "small first", "sound first"])
@pytest.mark.parametrize("container", ["mkv", "ts", "nut"])
def test_the_stream_that_is_read(streams: str, container: str, tmp_path: Path) -> None:
    codec = "libx264" if container == "ts" else "mpeg4" if container == "nut" else "ffv1"
    recipe = replace(PLAIN, container=container, codec=codec, streams=streams)
    verdict = judge(recipe, tmp_path)
    assert verdict.kind == ("right" if streams == "sound first" else "warned"), verdict


def test_the_comparison_finds_what_is_wrong(tmp_path: Path) -> None:
    """A turn, a matrix, a range, a frame and a time that are not the reference's."""
    path = make(replace(PLAIN, matrix="bt709"), tmp_path)
    want = reference(path, 0)
    assert not differences(read(path)[0], want)
    assert differences(Seen(want.pictures[:-1], want.times[:-1]), want)
    assert differences(Seen(want.pictures, [t * 1.01 + 0.001 for t in want.times]), want)
    assert differences(Seen([p[::-1] for p in want.pictures], want.times), want)
    shifted = [*want.pictures[1:], want.pictures[0]]
    assert differences(Seen(shifted, want.times), want)
    for options in ({"src_colorspace": 5, "dst_colorspace": 5}, {"src_color_range": 2}):
        with av.open(str(path)) as container:
            pictures = [
                frame.reformat(format="rgb24", **options).to_ndarray()
                for frame in container.decode(video=0)
            ]
        assert differences(Seen(pictures, want.times), want), options


OUT = [
    {"rate": "30000/1001", "container": "mp4", "codec": "libx264", "orientation": 5},
    {"rate": "variable", "container": "mkv", "codec": "libx264", "streams": "with sound"},
    {"container": "ts", "codec": "libx264", "times": "again with sound", "streams": "with sound"},
    {"container": "mov", "codec": "prores_ks", "pix_fmt": "yuv422p10le", "orientation": 3},
    {"container": "mkv", "codec": "ffv1", "times": "negative"},
    {"container": "webm", "codec": "libvpx", "full": True, "matrix": "bt709"},
    {"container": "gif", "codec": "gif", "pix_fmt": "pal8"},
]


@pytest.mark.parametrize("how", OUT, ids=lambda how: " ".join(map(str, how.values())))
def test_what_is_written_has_the_frames_that_were_read(
    how: dict[str, Any], tmp_path: Path, tiny: LiVOS
) -> None:
    """Count, times, size and colours of the outputs; the network is left out."""
    assert len(MATRICES) == 8
    recipe = replace(PLAIN, **{"frames": 12, **how})
    path = make(recipe, tmp_path)
    seen, _ = read(path)
    height, width = seen.pictures[0].shape[:2]
    ids = np.zeros((height, width), np.uint8)
    ids[10:20, 10:20] = 1
    mask = write_png(tmp_path / "m.png", ids, "gray")
    options = RunOptions(save=("mask", "overlay", "png"), output=tmp_path / "out")
    past = [FrameResult(ids) for _ in seen.pictures]
    report = run(path, mask, tiny, SegmentOptions(), options, past=past)
    assert report.frames == len(seen.pictures)
    for kind in ("mask", "overlay"):
        stamps = times(report.outputs[kind])
        late = [float(t - stamps[0]) - s for t, s in zip(stamps, seen.times, strict=True)]
        assert max(map(abs, late)) < 0.0011, kind
    assert all(np.array_equal(found > 0, ids > 0) for found in decode(report.outputs["mask"]))
    assert len(list(report.outputs["png"].iterdir())) == len(seen.pictures)
    away = np.ones((height, width), bool)
    away[6:24, 6:24] = False
    for drawn, picture in zip(
        decode(report.outputs["overlay"], "rgb24"), seen.pictures, strict=True
    ):
        assert np.abs(drawn.astype(int) - picture)[away].mean() < 16  # H.264 of 4:2:0
