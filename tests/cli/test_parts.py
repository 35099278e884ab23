"""The parts that commands share: what is asked for, signals, and bars."""

from __future__ import annotations

import io
import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from livos_cli.cli import app, segment
from livos_cli.cli.progress import Bars
from livos_cli.cli.request import ManyVideos, OnRay, SegmentRequest, Where
from livos_cli.cli.signals import Stop
from livos_cli.errors import InterruptionError
from livos_cli.options import Drop, Look, Position, RawVideo, RunOptions, SegmentOptions, Times

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGHUP")

EVERYTHING = (
    "segment a.raw b.raw -m masks -o out --save png,rle --save matte -w small --device cpu "
    "--precision bf16 --max-size 96 --start 2f --end 9.5 --from 4f --direction both --drop 1@7f "
    "--drop 2@0:08 --trust-mask --chunk-objects 3 --memory-budget 2GiB --allow-truncated "
    "--size 64x48 --pix-fmt gray --fps 12 --alpha-codec vp9 --matte-codec prores "
    "--background #010203 --contours json --opacity 0.25 --outline 7 --labels --palette bright "
    "--preview sheet.png --checkpoint 5 --recursive --list more.txt --dry-run --fail-fast "
    "--report r.jsonl --engine plain --address auto --gpus-per-task 0.5 --devices cpu,cuda:1 "
    "--overwrite --json --quiet"
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[SegmentRequest]:
    """What `livos segment` would do, instead of doing it."""
    requests: list[SegmentRequest] = []
    monkeypatch.setattr(segment, "_run", requests.append)
    return requests


def test_every_option_arrives_where_it_belongs(asked: list[SegmentRequest]) -> None:
    app(EVERYTHING.split(), standalone_mode=False)
    assert asked == [
        SegmentRequest(
            videos=("a.raw", "b.raw"),
            mask="masks",
            options=SegmentOptions(
                max_size=96,
                chunk_objects=3,
                memory_budget=2 << 30,
                start=Position(frame=2),
                end=Position(seconds=9.5),
                allow_truncated=True,
                origin=4,
                direction="both",
                drop=(Drop(1, 7),),
                raw=RawVideo(64, 48, "gray", "12"),
                trust_mask=True,
                times=Times(None, ((2, 8.0),)),
            ),
            output=RunOptions(
                save=("png", "rle", "matte"),
                output=Path("out"),
                overwrite=True,
                alpha_codec="vp9",
                matte_codec="prores",
                background=(1, 2, 3),
                contours="json",
                look=Look(opacity=0.25, outline=7, labels=True, palette="bright"),
                preview=Path("sheet.png"),
            ),
            where=Where("small", "cpu", "bf16"),
            many=ManyVideos("more.txt", True, True, True, Path("r.jsonl")),
            ray=OnRay("ray", "auto", 0.5, ("cpu", "cuda:1")),  # devices are Ray's
            checkpoint=5.0,
            as_json=True,
            quiet=True,
            as_batch=True,
        )
    ]


def test_what_is_not_said_is_decided(asked: list[SegmentRequest]) -> None:
    app(["segment", "a.mp4", "-m", "a.png"], standalone_mode=False)
    app(
        ["segment", "a.mp4", "-m", "a.png", "-o", "x.mkv", "--engine", "ray"], standalone_mode=False
    )
    app(["segment", "a.mp4", "-m", "a", "--split-at-masks", "--refine"], standalone_mode=False)
    app(["segment", "a.mp4", "b.mp4", "-m", "m", "--latency-first"], standalone_mode=False)
    one, on_ray, split, several = asked
    assert (one.as_batch, one.output.save, one.video) == (False, ("mask", "overlay"), "a.mp4")
    assert (on_ray.as_batch, on_ray.output.save) == (True, ("mask",))
    assert (split.as_batch, split.ray.split_at_masks, split.options.refine) == (False, True, True)
    assert (several.as_batch, several.output.save) == (True, ("mask",))
    assert several.options.latency_first
    assert one.checkpoint == 60.0
    assert one.ray == OnRay()
    assert one.many == ManyVideos()


@pytest.fixture
def handlers() -> Iterator[list[int]]:
    """Signals that reach who was there before."""
    reached: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = {n: signal.signal(n, lambda number, _: reached.append(number)) for n in numbers}
    yield reached
    for number, handler in before.items():
        signal.signal(number, handler)


@posix
def test_signals_are_taken_once_and_only_while_a_run_can_stop(
    handlers: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    with Stop(unit="step") as stop:
        signal.raise_signal(signal.SIGTERM)
        assert not stop()
        stop.armed = True
        signal.raise_signal(signal.SIGHUP)
        assert stop()
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert handlers == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]
    said = capfd.readouterr().err
    assert said == "\nstopping after this step; once more to stop at once\n"


@posix
def test_ignored_signals_stay_ignored(
    handlers: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with Stop() as stop:
        stop.armed = True
        signal.raise_signal(signal.SIGHUP)
        assert not stop()
    assert capfd.readouterr().err == ""
    assert handlers == []


@posix
def test_an_interruption_says_which_signal_it_was(handlers: list[int]) -> None:
    def run() -> None:
        with Stop(quiet=True) as stop:
            stop.armed = True
            signal.raise_signal(signal.SIGTERM)
            raise InterruptionError("stopped", "run it again")

    with pytest.raises(InterruptionError) as caught:
        run()
    assert (caught.value.message, caught.value.hint) == ("stopped", "run it again")
    assert caught.value.exit_code == 128 + signal.SIGTERM
    sent = pickle.loads(pickle.dumps(caught.value))  # to another process
    assert (str(sent), sent.exit_code) == ("stopped — run it again", 128 + signal.SIGTERM)
    assert InterruptionError("stopped").exit_code == 130
    assert handlers == []


def drawn(*, terminal: bool, quiet: bool = False) -> tuple[bool, str]:
    """Two bars, the second begun anew with another total; whether they show, and the last look."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    bars = Bars(console, quiet=quiet)
    bars.show("all", 3, 1, name="all", text="1/3")
    bars.show("video", 50, name="first")
    bars.show("video", None, 5, name="[second]")
    bars.update("video", 7, "7, 2.0 fps", "2 objects")
    shows = bars.drawn
    console.file = io.StringIO()
    if bars._drawn is not None:
        bars._drawn.refresh()
    text = console.file.getvalue()
    bars.close()
    assert not bars.drawn
    bars.update("video", 8, "8")  # of no use any more, and no harm
    return shows, text


def test_bars_are_for_terminals() -> None:
    assert drawn(terminal=False) == (False, "")
    assert drawn(terminal=True, quiet=True) == (False, "")
    shows, text = drawn(terminal=True)
    assert shows
    assert "first" not in text
    first, second = (line for line in text.splitlines() if "all" in line or "[second]" in line)
    assert "1/3" in first
    assert "7, 2.0 fps" in second
    assert second.rstrip().endswith("2 objects")
