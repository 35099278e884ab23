"""A folder of results that others can write to: links, pipes and files of theirs do no harm."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from media import decode, scene, write_png, write_video

from livos_cli.batch.discover import Item, discover
from livos_cli.batch.job import Batch, Job
from livos_cli.batch.report import Record, ReportFile
from livos_cli.batch.work import work
from livos_cli.datasets import open_dataset
from livos_cli.errors import InputError, InterruptionError, LivosError, OutputError
from livos_cli.files.atomic import (
    create,
    open_own,
    remove_leftovers,
    synced,
    temporary_of,
    write_whole,
)
from livos_cli.files.livos_folder import livos_folder
from livos_cli.files.lock import locked
from livos_cli.files.outside import inner_path, plain_name
from livos_cli.network import LiVOS
from livos_cli.options import Checkpointing, RunOptions, SegmentOptions
from livos_cli.pipeline.run import run
from livos_cli.training import checkpoint
from livos_cli.weights.hub import parse_hub

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="files of another user need root"
)
SOMEONE = 54321  # a user


@pytest.fixture
def clip(tmp_path: Path) -> dict[str, Path]:
    made = scene(48, 64, 4, seed=1)
    (tmp_path / "in").mkdir()
    return {
        "video": write_video(tmp_path / "in" / "clip.mp4", [rgb for rgb, _ in made]),
        "mask": write_png(tmp_path / "in" / "m.png", made[0][1], "gray"),
    }


@contextmanager
def soon(seconds: int = 60) -> Iterator[None]:
    """Whatever waits for a pipe is interrupted."""

    def late(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def segment(model: LiVOS, clip: dict[str, Path], out: Path, after: int | None = None) -> None:
    """One video, with checkpoints; `after` so many frames it is interrupted."""
    asked = iter(range(1, 1 << 20))
    keep = Checkpointing("w", 0.0, stop=lambda: after is not None and next(asked) >= after)
    run(clip["video"], clip["mask"], model, SegmentOptions(), RunOptions(output=out), keep=keep)


def batch(model: LiVOS, clip: dict[str, Path], out: Path) -> Record:
    """The same as one video of many."""
    with locked(out):
        report = ReportFile(out / "report.jsonl")
        item = Item(str(clip["video"]), str(clip["mask"]), out, "clip")
        record = work(Job(item, Batch(SegmentOptions(), RunOptions(output=out), "w", 1e-4)), model)
        assert report.add(record) is None
    return record


def link(place: Path, mine: Path) -> None:
    place.symlink_to(mine)


def nowhere(place: Path, mine: Path) -> None:
    place.symlink_to(mine.with_name("new"))


def hard(place: Path, mine: Path) -> None:
    place.hardlink_to(mine)


def pipe(place: Path, _: Path) -> None:
    os.mkfifo(place)


def theirs(place: Path, _: Path) -> None:
    place.write_bytes(b"theirs")
    os.chown(place, SOMEONE, SOMEONE)


PLANTS = [link, nowhere, hard, pipe, pytest.param(theirs, marks=as_root)]
PLACES = [
    "report.jsonl", ".livos", ".livos/owner.json", ".livos/lock", ".livos/clip.json",
    ".livos/clip.mask.mkv.unfinished", "UNFINISHED/lock", "UNFINISHED/publishing.json",
    "UNFINISHED/results", "UNFINISHED/state", "UNFINISHED/.publishing.json.partial-PID",
    "UNFINISHED/.state.safetensors.partial-PID", ".clip.mask.mkv.partial-PID",
]  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("place", PLACES)
def test_nothing_planted_is_written_to_or_waited_for(
    place: str,
    plant: Callable[[Path, Path], None],
    clip: dict[str, Path],
    tmp_path: Path,
    tiny: LiVOS,
) -> None:
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.write_bytes(b"precious" * 1000)
    unfinished = out / ".livos" / "clip.mask.mkv.unfinished"
    if place.startswith("UNFINISHED"):
        with pytest.raises(InterruptionError):
            segment(tiny, clip, out, after=2)
    name = place.replace("UNFINISHED", str(unfinished)).replace("PID", str(os.getpid()))
    where = out / name
    if where.name in ("results", "state") and (found := list(where.parent.glob(f"{where.name}*"))):
        (where,) = found
    where.parent.mkdir(parents=True, exist_ok=True)
    where.unlink(missing_ok=True)
    plant(where, mine)
    said = []
    with soon():
        for how in (segment, batch):
            try:
                how(tiny, clip, out)
            except LivosError as error:
                said.append(str(error))
    assert all(str(where) in text or "exists already" in text for text in said), said
    assert mine.read_bytes() == b"precious" * 1000
    assert not (tmp_path / "new").exists()
    if (out / "clip.mask.mkv").exists():
        assert len(decode(out / "clip.mask.mkv")) == 4


@pytest.mark.parametrize("form", ["paths", "numbers"])
def test_a_planted_note_gives_no_right_to_replace(
    form: str, clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    mine = tmp_path / "out" / "clip.mask.mkv"
    write_whole(mine, b"precious")
    found = mine.stat()
    note = {"path": str(mine), "is": [found.st_ino + 1, found.st_size, found.st_mtime_ns]}
    folder = tmp_path / "out" / ".livos" / "clip.mask.mkv.unfinished"
    told = json.dumps([str(mine)] if form == "paths" else [note])
    write_whole(folder / "publishing.json", told.encode())
    with pytest.raises(OutputError, match="exists already"):
        segment(tiny, clip, tmp_path / "out")
    assert mine.read_bytes() == b"precious"


@as_root
def test_a_folder_that_another_user_has_used(
    clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    """Theirs stays as it is, and is not believed; ours is beside it."""
    out = tmp_path / "out"
    assert batch(tiny, clip, out).status == "done"
    (out / "report.jsonl").unlink()
    for path in (out / ".livos", *(out / ".livos").rglob("*")):
        os.chown(path, SOMEONE, SOMEONE)
    before = {p: p.read_bytes() for p in (out / ".livos").rglob("*") if p.is_file()}
    record = batch(tiny, clip, out)
    assert record.status == "failed"  # what is there was made by who knows whom
    assert "exists already" in str(record.error)
    (out / "clip.mask.mkv").unlink()
    assert batch(tiny, clip, out).status == "done"
    assert batch(tiny, clip, out).status == "skipped"
    assert {p: p.read_bytes() for p in before} == before
    assert livos_folder(out).name == f".livos-{os.geteuid()}"
    os.chown(livos_folder(out), SOMEONE, SOMEONE)
    with pytest.raises(OutputError, match=rf"\.livos-{os.geteuid()} is not a folder of yours"):
        segment(tiny, clip, out)


def test_names_for_a_while_are_short_and_cannot_be_guessed(tmp_path: Path) -> None:
    names = {temporary_of(tmp_path / ("x" * length)).name for length in (1, 250) for _ in range(20)}
    assert len(names) == 40
    assert {len(name) for name in names} == {len(".livos-01234567-01234567.partial")}
    (tmp_path / "link").symlink_to(tmp_path / "new")
    with pytest.raises(FileExistsError):
        create(tmp_path / "link")
    with synced(tmp_path / "link") as file:  # the name is replaced, not what it leads to
        file.write(b"x")
    assert (tmp_path / "link").read_bytes() == b"x"
    assert not (tmp_path / "link").is_symlink()
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


@as_root
def test_leftovers_of_others_stay(tmp_path: Path) -> None:
    ours, other = (temporary_of(tmp_path / "a") for _ in range(2))
    folder, another = temporary_of(tmp_path / "a"), temporary_of(tmp_path / "b")
    for path in (ours, other, another):
        path.touch()
    (folder / "in").mkdir(parents=True)
    os.chown(other, SOMEONE, SOMEONE)
    remove_leftovers(tmp_path / "a")
    assert set(tmp_path.iterdir()) == {other, another}


def test_owners_that_a_file_system_makes_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that gives all files to one user, what we make there is "theirs", and ours."""
    (tmp_path / "a").write_bytes(b"a")
    monkeypatch.setattr(os, "geteuid", lambda: SOMEONE)
    assert open_own(tmp_path / "a").read() == b"a"


BAD = ["v/../../escaped/a.mp4", "../a.mp4", "/etc/a.mp4", "C:/a.mp4", "v/c:a.mp4", "..\\a.mp4",
       "\\\\host\\a.mp4", "a\0.mp4", "", ".", ".."]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leads elsewhere"):
        inner_path(name)
    with pytest.raises(ValueError, match=r"leads elsewhere|no plain name"):
        plain_name(name)
    assert parse_hub(f"owner/repo:{name}") is None
    checkpoint.save(tmp_path / "c", {"step": 1})
    index = json.loads((tmp_path / "c" / "index.json").read_text())
    index["parts"][0]["name"] = name
    (tmp_path / "c" / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"parts\[0\]\.name is no name"):
        checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize("name", ["a.mp4", "v/a b.mp4", "v/..a/b...mp4", "ä/é.mp4", "a:b.mp4x"[2:]])
def test_names_that_do_not(name: str) -> None:
    assert str(inner_path(name)) == name


def test_an_archive_does_not_write_beside_the_output(
    clip: dict[str, Path], tmp_path: Path, tiny: LiVOS
) -> None:
    names = ["v/../../escaped/a.mp4", "../up.mp4", "v/good.mp4", "C:drive.mp4"]
    with zipfile.ZipFile(tmp_path / "in" / "videos.zip", "w") as archive:
        for name in names:
            archive.write(clip["video"], name)
    masks = tmp_path / "in" / "masks"
    for stem in ("a", "up", "good", "drive", "C:drive"):
        write_whole(masks / f"{stem}.png", clip["mask"].read_bytes())
    out = tmp_path / "here" / "out"
    before = set(tmp_path.rglob("*"))
    url = f"zip://::{tmp_path / 'in' / 'videos.zip'}"
    items = discover([url], str(masks), RunOptions(output=out), recursive=True)
    made = Batch(SegmentOptions(), RunOptions(output=out), "w")
    told = [work(Job(item, made), tiny) for item in items]
    assert sorted(r.status for r in told) == ["done", "failed", "failed", "failed"]
    assert all("leads elsewhere" in str(r.error) for r in told if r.status == "failed")
    new = {p for p in set(tmp_path.rglob("*")) - before if p.is_file()}
    assert {p for p in new if out not in p.parents} == set()
    assert (out / "v" / "good.mask.mkv") in new


@pytest.mark.parametrize("name", ["../../up", "/etc", "..", "C:x"])
def test_a_list_of_sequences_does_not_lead_elsewhere(name: str, tmp_path: Path) -> None:
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / "valid" / part).mkdir(parents=True)
    told = json.dumps({"videos": {name: {}}})
    write_whole(tmp_path / "valid" / "meta.json", told.encode())
    with pytest.raises(InputError, match=r"leads elsewhere|no plain name"):
        open_dataset(tmp_path, "ytvos", split="valid")
