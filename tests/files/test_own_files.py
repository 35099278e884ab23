"""livos's own files on disk, damaged in every way: never a traceback, never a wrong result."""

from __future__ import annotations

import copy
import json
import random
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from media import files, scene, write_png, write_video

from livos_cli.batch.discover import Item, discover
from livos_cli.batch.job import Batch, Job
from livos_cli.batch.manifest import Manifest
from livos_cli.batch.report import Record, ReportFile
from livos_cli.batch.work import work
from livos_cli.errors import InputError, InterruptionError, OutputError
from livos_cli.files.atomic import write_whole
from livos_cli.files.livos_folder import unpublished
from livos_cli.files.lock import _who, locked
from livos_cli.files.trust import (
    CHECKPOINT,
    INDEX,
    LONG,
    MANIFEST,
    OWNER,
    PUBLISHING,
    REPORT,
    SCORES,
    SETTINGS,
    Rule,
    parse,
)
from livos_cli.network import LiVOS
from livos_cli.network.livos import Memory
from livos_cli.options import Checkpointing, RunOptions, SegmentOptions
from livos_cli.outputs.formats import FrameResult
from livos_cli.pipeline.checkpoint import Checkpoint, _digest
from livos_cli.pipeline.report import Begin, Observer
from livos_cli.pipeline.run import run
from livos_cli.pipeline.spool import read_result, write_result
from livos_cli.tracker.saved_state import TENSORS
from livos_cli.tracker.tracker import Tracker
from livos_cli.training import checkpoint

FRAMES = 5
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e999, float("nan"), 10**30, 0.5, "", "x" * 20_000, "a\nb\x1b[2J", "../..",
    "\0", [], {}, [[]], [None], {"a": 1}, [1, "2"],
)  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clip")
    made = scene(32, 48, FRAMES, objects=2, seed=3)
    return {
        "video": write_video(folder / "clip.mp4", [rgb for rgb, _ in made]),
        "mask": write_png(folder / "m.png", made[0][1], "pal8"),
    }


def segment(
    model: LiVOS, clip: dict[str, Path], out: Path, after: int = 1 << 30, *, matte: bool = False
) -> Begin:
    began: list[Begin] = []
    asked = iter(range(1, 1 << 30))
    run(
        clip["video"],
        clip["mask"],
        model,
        SegmentOptions(),
        RunOptions(output=out, save=("mask", "matte") if matte else ("mask",)),
        keep=Checkpointing("w", 1e9, stop=lambda: next(asked) >= after),
        observer=Observer(begin=began.append),
    )
    return began[0]


def bytes_of(data: bytes, rng: random.Random) -> bytes:
    """Data with one kind of damage."""
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice([1, 8, 600]))
    return rng.choice([
        data[:at],
        data[:at] + data[end:],
        data[:at] + bytes(end - at) + data[end:],
        data[:at] + rng.randbytes(end - at) + data[end:],
        data[:at] + rng.randbytes(5) + data[at:],
        b"[" * 100_000,
        b'{"a":' * 100_000,
        rng.randbytes(len(data)),
        b"",
    ])  # fmt: skip


def places(tree: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something is in a tree of JSON."""
    yield path
    inner: Any = tree.items() if isinstance(tree, dict) else ()
    for key, value in enumerate(tree) if isinstance(tree, list) else inner:
        yield from places(value, (*path, key))


def damaged_trees(tree: object) -> Iterator[object]:
    """Every place with every other value, and without it."""
    for path in places(tree):
        for value in (*VALUES, KeyError):
            whole = [copy.deepcopy(tree)]
            at: Any = whole
            for key in (0, *path)[:-1]:
                at = at[key]
            last = (0, *path)[-1]
            if value is not KeyError:
                at[last] = value
            elif path:
                del at[last]
            yield whole[0]


DIGEST = "0123456789abcdef" * 4
SAMPLES: dict[str, tuple[Rule, Any]] = {
    "manifest": (
        MANIFEST,
        {"format": 1, "livos": "0.1", "video": "v", "frames": 5, "seconds": 1.5,
         "outputs": {"a.mkv": {"kind": "mask", "made_from": "x y", "is": [3, -4]},
                     "b": {"kind": "png", "made_from": "x y", "is": None}}},
    ),
    "owner": (OWNER, {"host": "h", "process": 7, "since": 1.7e9}),
    "publishing": (PUBLISHING, [{"path": "/a/b", "is": [1, 2, 3]}]),
    "checkpoint": (
        CHECKPOINT,
        {"fingerprint": DIGEST, "frames": 3, "bytes": 9, "crc": 1, "warnings": ["w"]},
    ),
    "report": (REPORT, json.loads(Record("v", "m", "done").as_json())),
    "settings": (SETTINGS, {"livos": "0.1", "size": 480}),
    "scores": (SCORES, {"frames": 3, "seconds": 0.5, "objects": {"1": [0.5, 1.0]}}),
    "long": (LONG, [0.5, 1.0]),
    "index": (INDEX, {"step": 2, "bytes": 5, "parts": [{"name": "0.part", "sha256": DIGEST}]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_row_takes_what_is_right_and_nothing_else(kind: str) -> None:
    """Whatever is let through has the types of the sample, at every place that a row names."""
    rule, sample = SAMPLES[kind]
    assert parse(json.dumps(sample), rule) == sample
    refused = 0
    for tree in damaged_trees(sample):
        try:
            parse(json.dumps(tree), rule)
        except ValueError:
            refused += 1
    assert refused >= len(list(places(sample)))
    rng = random.Random(kind)
    for _ in range(300):
        try:
            value = parse(bytes_of(json.dumps(sample).encode(), rng), rule)
        except ValueError:
            pass
        else:
            assert type(value) is type(sample)


def test_manifests(clip: dict[str, Path], tmp_path: Path, tiny: LiVOS) -> None:
    """A damaged one is none; what is there is then not replaced, and it is said why."""
    out = tmp_path / "out"
    item = Item(str(clip["video"]), str(clip["mask"]), out, "clip")
    batch = Batch(SegmentOptions(), RunOptions(output=out), "w")
    assert work(Job(item, batch), tiny).status == "done"
    want = (out / "clip.mask.mkv").read_bytes()
    path = out / ".livos" / "clip.json"
    good = path.read_bytes()
    rng = random.Random(1)
    trees = [json.dumps(tree).encode() for tree in damaged_trees(json.loads(good))]
    counts: Counter[str] = Counter()
    for data in [*rng.sample(trees, 150), *(bytes_of(good, rng) for _ in range(150))]:
        path.write_bytes(data)
        record = Job(item, batch).outcome()
        status = "again" if record is None else record.status
        counts[status] += 1
        # Skipped, or made again, only where what it was made to is undamaged.
        assert Manifest(out, "clip").ours(out / "clip.mask.mkv") == (status != "failed")
        if record is not None and record.status == "failed":
            assert "exists already" in str(record.error)
            assert record.traceback is None
    assert counts["failed"] > 100
    path.write_bytes(b"{")
    assert "clip.json is not used: it is not JSON" in str(work(Job(item, batch), tiny).error)
    forced = replace(batch, output=replace(batch.output, overwrite=True))
    assert work(Job(item, forced), tiny).status == "done"
    assert (out / "clip.mask.mkv").read_bytes() == want


def test_one_damaged_manifest_of_many(clip: dict[str, Path], tmp_path: Path, tiny: LiVOS) -> None:
    out = tmp_path / "out"
    batch = Batch(SegmentOptions(), RunOptions(output=out), "w")
    items = [Item(str(clip["video"]), str(clip["mask"]), out, stem) for stem in "abc"]
    for item in items:
        assert work(Job(item, batch), tiny).status == "done"
    for data in (b"[]", b'{"outputs": []}', b'{"format": 1, "outputs": {"b.mask.mkv": 5}}',
                 b"[" * 100_000, b'{"format": 1, "outputs": {"b.mask.mkv": {"is": [1, 2]}}}',
                 b"\xff"):  # fmt: skip
        (out / ".livos" / "b.json").write_bytes(data)
        records = [Job(item, batch).outcome() for item in items]
        assert [r and r.status for r in records] == ["skipped", "failed", "skipped"]


@pytest.mark.slow
def test_one_bad_line_of_a_list(clip: dict[str, Path], tmp_path: Path, tiny: LiVOS) -> None:
    """Names that no system takes, protocols that need a package, hosts that are not there."""
    masks = tmp_path / "masks"
    write_whole(masks / "clip.png", clip["mask"].read_bytes())
    bad = [
        "x" * 5000, "a/" * 3000 + "v.mp4", "zip://a.mp4::" + "y" * 5000, "v\0.mp4", "..", "~",
        "webdav://nobody.invalid/v", "smb://127.0.0.1:1/v.mp4", "zip://::" + str(clip["mask"]),
        "s3://nobody/v", "memory://no/such", "memory://..", "://", "file://",
        "\ud800.mp4", "zip://", "::", "filecache::memory://x", "webhdfs://127.0.0.1:1/v",
    ]  # fmt: skip
    out = tmp_path / "out"
    # Port 1 of this machine stands for a host that cannot be reached.
    items = discover([*bad, str(clip["video"])], str(masks), RunOptions(output=out))
    batch = Batch(SegmentOptions(), RunOptions(output=out), "w")
    told = [Job(item, batch).outcome() or work(Job(item, batch), tiny) for item in items]
    assert [r.status for r in told if r.video == str(clip["video"])] == ["done"]
    rest = [r for r in told if r.video != str(clip["video"])]
    assert {r.status for r in rest} == {"failed"}
    assert [r.error for r in rest if r.traceback] == []
    assert all(json.loads(r.as_json())["error"] for r in rest)


def test_locks_and_reports(tmp_path: Path) -> None:
    owner, report = tmp_path / "owner.json", tmp_path / "report.jsonl"
    rng = random.Random(2)
    good = json.dumps(SAMPLES["owner"][1]).encode()
    line = Record("v", "m", "done").as_json().encode() + b"\n"
    for data in [*(json.dumps(t).encode() for t in damaged_trees(SAMPLES["owner"][1])),
                 *(bytes_of(good, rng) for _ in range(200))]:  # fmt: skip
        owner.write_bytes(data)
        assert _who(owner).isprintable()
        assert _who(owner).startswith("another run")
    refused = 0
    for data in [*(bytes_of(line, rng) for _ in range(200)), b"5\n", b"[]\n", b'"livos"\n']:
        report.write_bytes(data)
        try:
            ReportFile(report)
        except OutputError:
            refused += 1
            assert report.read_bytes() == data  # somebody else's, and left alone
    assert refused > 50
    (tmp_path / ".livos").mkdir()
    (tmp_path / ".livos" / "owner.json").write_bytes(b"[" * 100_000)
    with locked(tmp_path), pytest.raises(OutputError, match="in use by another run"):
        locked(tmp_path).__enter__()


def test_notes_of_what_is_being_published(tmp_path: Path) -> None:
    rng = random.Random(3)
    mine = tmp_path / "mine"
    mine.write_bytes(b"x")
    sample = [{"path": str(mine), "is": [1, 1, 1]}]
    for data in [*(json.dumps(t).encode() for t in damaged_trees(sample)),
                 *(bytes_of(json.dumps(sample).encode(), rng) for _ in range(200))]:  # fmt: skip
        (tmp_path / "publishing.json").write_bytes(data)
        assert unpublished(tmp_path) == frozenset()


def test_checkpoints_of_training(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c", {"step": 1, "x": torch.arange(50)})
    rng = random.Random(4)
    index = tmp_path / "c" / "index.json"
    tree = json.loads(index.read_bytes())
    part = tmp_path / "c" / "000.part"
    for path, data in [*((index, json.dumps(t).encode()) for t in damaged_trees(tree)),
                       *((p, bytes_of(p.read_bytes(), rng)) for p in (index, part)
                         for _ in range(60))]:  # fmt: skip
        before = path.read_bytes()
        path.write_bytes(data)
        try:
            loaded = checkpoint.load(tmp_path / "c")
        except InputError:
            pass
        else:
            assert loaded is not None
            assert torch.equal(loaded["x"], torch.arange(50))
        path.write_bytes(before)


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    """Whole, but not what a training run writes: one line."""
    from livos_cli.network import TINY
    from livos_cli.training.loop import train
    from livos_cli.training.options import TrainOptions

    for content in ({"step": 1}, {"options": 3, "context": []}, {"options": {}, "context": {}}):
        checkpoint.save(tmp_path / "checkpoint", content)
        source: Any = SimpleNamespace(identity=[])
        with pytest.raises(InputError, match="checkpoint cannot be used"):
            train(LiVOS(TINY), source, tmp_path, TrainOptions())


# The checkpoint of a run.


@pytest.fixture(scope="module")
def interrupted(
    clip: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, tiny: LiVOS
) -> tuple[Path, Path]:
    """A folder with a run that stopped after three frames, and the one of a whole run."""
    cut, whole = tmp_path_factory.mktemp("cut"), tmp_path_factory.mktemp("whole")
    with pytest.raises(InterruptionError):
        segment(tiny, clip, cut, after=3)
    segment(tiny, clip, whole)
    return cut, whole


def journal_of(folder: Path) -> tuple[Path, Path]:
    (state,) = folder.glob(".livos/*/state-*")
    (results,) = folder.glob(".livos/*/results-*")
    return state, results


def test_an_untouched_one_is_used(
    interrupted: tuple[Path, Path], clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    shutil.copytree(interrupted[0], tmp_path / "out")
    assert segment(tiny, clip, tmp_path / "out").resumed == 3
    assert files(tmp_path / "out") == files(interrupted[1])


@pytest.mark.slow
def test_damaged_bytes(
    interrupted: tuple[Path, Path], clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    """All of it is opened; some are run to the end, and have the bytes of a whole run."""
    rng = random.Random(5)
    cut, whole = interrupted
    out = tmp_path / "out"
    notes = json.loads(_metadata(journal_of(cut)[0].read_bytes())["livos"])
    fingerprint = notes["fingerprint"]
    used = 0
    for number in range(240):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(cut, out)
        path = journal_of(out)[number % 2]
        good = path.read_bytes()
        path.write_bytes(bytes_of(good, rng))
        if number < 24:
            began = segment(tiny, clip, out)
            assert files(out) == files(whole)
            used += bool(began.resumed)
            assert began.resumed in (0, 3)
            assert (began.resumed == 0) == any("is not used" in w for w in began.warnings)
            continue
        checkpoint = Checkpoint(path.parent, fingerprint, 1e9, [])
        used += bool(checkpoint.resumed)
        if checkpoint.resumed:  # the damage lies behind the results that count
            assert path.read_bytes() == good or path == journal_of(out)[1]
            assert len(list(checkpoint.past((32, 48), [1, 2], matte=False))) == 3
        checkpoint.close(keep=False)
    assert used < 40


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + size])["__metadata__"]
    return found


Change = Callable[[dict[str, torch.Tensor], dict[str, Any]], object]


def _set(name: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    return lambda state, _: state.__setitem__(name, make(state[name]).contiguous())


def _nan(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[0] = float("nan")
    return tensor


FORGED: dict[str, Change] = {
    **{f"without {n}": lambda s, _, n=n: s.pop(n) for n in TENSORS},
    **{f"{n} with a row less": _set(n, lambda t: t[..., :-1] if t.ndim else t[None])
       for n in TENSORS},
    **{f"{n} in another type": _set(n, lambda t: t.to(torch.float16)) for n in TENSORS},
    **{f"{n} is no number": _set(n, _nan) for n, row in TENSORS.items()
       if row.dtype != torch.int64 and row.finite},
    **{f"ids {ids}": _set("ids", lambda _, ids=ids: torch.tensor(ids))
       for ids in ([1, 1], [0, 1], [1, 300], [-1, 2], [1, 3], [1 << 60, 2], [2])},
    **{f"group {g}": _set("memory.group", lambda _, g=g: torch.tensor(g))
       for g in ([0, 5], [-1, 0], [0])},
    **{f"size {s}": _set("frame_size", lambda _, s=s: torch.tensor(s))
       for s in ([0, 0], [32, 64], [-32, 48], [1 << 40, 48], [64, 96])},
    "other max_size": _set("max_size", lambda t: t + 16),
    "no memory at all": lambda s, _: [s.pop(n) for n in list(s) if "." in n],
    "one more tensor": lambda s, _: s.update(more=torch.zeros(3)),
    **{f"notes: {k} is {str(v)[:12]!r}": lambda _, n, k=k, v=v: n.update({k: v})
       for k, v in [("frames", "3"), ("frames", 0), ("frames", 1e9), ("bytes", None),
                    ("bytes", 1 << 60), ("crc", 5), ("warnings", "w"), ("warnings", [1]),
                    ("fingerprint", 5), ("fingerprint", "0" * 64)]},
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_does_not_fit_with_a_right_checksum(
    name: str,
    interrupted: tuple[Path, Path],
    clip: dict[str, Path],
    tmp_path: Path,
    tiny: LiVOS,
) -> None:
    """Written by somebody, or by another version: not used, said in a line, begun anew."""
    cut, whole = interrupted
    out = tmp_path / "out"
    shutil.copytree(cut, out)
    path, _ = journal_of(out)
    data = path.read_bytes()
    state, notes = safetensors.torch.load(data), json.loads(_metadata(data)["livos"])
    FORGED[name](state, notes)
    told = json.dumps(notes)
    about = {"livos": told, "sha256": _digest(told, state)}
    path.write_bytes(safetensors.torch.save(state, about))
    began = segment(tiny, clip, out)
    assert began.resumed == 0
    (said,) = [w for w in began.warnings if "is not used" in w]
    assert "\n" not in said
    assert files(out) == files(whole)


def test_results_that_unpack_to_something_else(
    interrupted: tuple[Path, Path], clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    """With right checksums all over: one line, and the next run begins anew."""
    cut, whole = interrupted
    wrong = [
        FrameResult(np.zeros((32, 49), np.uint8)),
        FrameResult(np.full((32, 48), 9, np.uint8)),  # an object that no mask has
        FrameResult(np.zeros((32, 48), np.uint8), np.zeros((32, 48), np.uint16)),
        None,
        struct.pack("<5I", 1 << 31, 1 << 31, 8, 0, 0) + b"x" * 8,
        struct.pack("<5I", 32, 48, 12, 0, 3) + zlib.compress(bytes(1 << 20)),
    ]
    for number, one in enumerate(wrong):
        out = tmp_path / str(number)
        shutil.copytree(cut, out)
        path, results = journal_of(out)
        data = path.read_bytes()
        state, notes = safetensors.torch.load(data), json.loads(_metadata(data)["livos"])
        with results.open("wb") as file:
            for _ in range(3):
                if isinstance(one, FrameResult):
                    write_result(file, one)
                elif one is not None:
                    file.write(one)
            file.write(b"" if one is not None else b"abc")
        content = results.read_bytes()
        notes |= {"bytes": len(content), "crc": zlib.crc32(content)}
        told = json.dumps(notes)
        about = {"livos": told, "sha256": _digest(told, state)}
        path.write_bytes(safetensors.torch.save(state, about))
        with pytest.raises(InputError, match=r"are damaged .*it starts over"):
            segment(tiny, clip, out)
        assert segment(tiny, clip, out).resumed == 0
        assert files(out) == files(whole)


def test_damaged_results_never_unpack_to_more_than_they_say(tmp_path: Path) -> None:
    good = tmp_path / "good"
    with good.open("wb") as file:
        write_result(file, FrameResult(np.eye(20, 30, dtype=np.uint8), None, frozenset({1, 2})))
    rng = random.Random(6)
    for _ in range(400):
        (tmp_path / "bad").write_bytes(bytes_of(good.read_bytes(), rng))
        with (tmp_path / "bad").open("rb") as file:
            try:
                decided = read_result(file)
            except ValueError:
                continue
        assert decided.ids.ndim == 2


def test_every_tensor_of_a_state_has_a_row(tiny: LiVOS) -> None:
    """Whoever adds to Memory adds a row, so that damage to it is seen, too."""
    own = {name for name in TENSORS if name.startswith("memory.")}
    assert own == {f"memory.{field.name}" for field in fields(Memory)}
    made = scene(32, 48, 2, objects=2, seed=3)
    tracker = Tracker(tiny)
    empty = tracker.state_dict()
    tracker.step(*made[0])
    state = tracker.state_dict()
    assert set(state) == set(TENSORS)
    Tracker(tiny).load_state_dict(state)
    Tracker(tiny).load_state_dict(empty)
    for name in TENSORS:
        before = Tracker(tiny)
        before.step(*made[0])
        with pytest.raises(ValueError, match=r".+"):
            before.load_state_dict({**state, name: state[name].to(torch.float16)})
        assert before.object_ids == [1, 2]
