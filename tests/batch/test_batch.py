"""Folders of video: found, matched, done, skipped or failed, and reported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from batches import lay_out, one_video, put, records
from media import decode, scene, write_png

from livos_cli.batch.discover import Item, discover, is_batch, read_list
from livos_cli.batch.job import Batch, Job
from livos_cli.batch.report import Record, ReportFile
from livos_cli.batch.work import work
from livos_cli.errors import InputError, LivosError, OutputError, UsageError
from livos_cli.files.atomic import temporary_of
from livos_cli.files.lock import locked
from livos_cli.network import LiVOS
from livos_cli.options import RunOptions, SegmentOptions
from livos_cli.pipeline.report import Observer, Progress

posix = pytest.mark.skipif(os.name == "nt", reason="links, limits and names of POSIX")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return one_video(tmp_path_factory.mktemp("one"))


def found(items: list[Item], root: Path) -> list[str]:
    return [str(Path(item.video).relative_to(root)) for item in items]


# Finding.


def test_what_a_folder_holds(tmp_path: Path, one: dict[str, Path]) -> None:
    names = ["b10.mp4", "b2.MKV", "a name with  spaces.mov", "ünïcödé 視頻.webm", "deep/er/c.mp4"]
    lay_out(tmp_path, one, *names)
    put(one["frames"], tmp_path / "videos" / "frames")
    put(one["frames"], tmp_path / "videos" / "deep" / "frames2")
    put(one["frames"], tmp_path / "videos" / "b10")  # what --save png made of b10.mp4
    for other in (".hidden.mp4", "b10.mask.mkv", "b10.overlay.mp4", "notes.txt", "still.jpg"):
        put(one["video"], tmp_path / "videos" / other)
    put(one["video"], tmp_path / "videos" / "b10.objects" / "1.mkv")
    put(one["video"], tmp_path / "videos" / ".livos" / "d.mp4")
    root = tmp_path / "videos"
    flat = discover([str(root)], str(tmp_path / "masks"), RunOptions(output=tmp_path / "o"))
    top = ["a name with  spaces.mov", "b2.MKV", "b10.mp4", "ünïcödé 視頻.webm", "frames"]
    assert found(flat, root) == top
    deep = discover(
        [str(root)], str(tmp_path / "masks"), RunOptions(output=tmp_path / "o"), recursive=True
    )
    assert sorted(found(deep, root)) == sorted([*top, "deep/er/c.mp4", "deep/frames2"])
    (inner,) = [item for item in deep if item.stem == "c"]
    assert inner.folder == tmp_path / "o" / "deep" / "er"
    assert inner.mask == str(tmp_path / "masks" / "deep" / "er" / "c.png")
    assert [item.stem for item in deep if item.problem] == ["frames2", "frames"]


@posix
def test_links_that_go_round_and_names_of_any_bytes(tmp_path: Path, one: dict[str, Path]) -> None:
    odd = [
        os.fsdecode(b"not \xff text.mp4"),
        "two\nlines.mp4",
        "-rf.mp4",
        "[glob]*?.mp4",
        "a;b.mp4",
    ]
    lay_out(tmp_path, one, *odd)
    root = tmp_path / "videos"
    (root / "round").symlink_to(root, target_is_directory=True)
    (root / "inner").mkdir()
    (root / "inner" / "up").symlink_to(root, target_is_directory=True)
    (root / "gone.mp4").symlink_to(root / "nowhere.mp4")
    items = discover([str(root)], str(tmp_path / "masks"), RunOptions(), recursive=True)
    assert sorted(found(items, root)) == sorted([*odd, "gone.mp4"])
    assert [Path(item.video).name for item in items if item.problem] == ["gone.mp4"]


def test_a_folder_without_permission_is_a_failure(
    tmp_path: Path, one: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, one, "a.mp4", "locked/b.mp4")
    scan = os.scandir

    def refuse(path: Any) -> Any:
        # Root passes all permissions, so they cannot be taken away for real here.
        if Path(path).name == "locked" and Path(path).parent.name == "videos":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    items = discover(
        [str(tmp_path / "videos")], str(tmp_path / "masks"), RunOptions(), recursive=True
    )
    assert [str(item.problem)[-60:] for item in items if item.problem] == [
        str(items[1].problem)[-60:]
    ]
    assert "Permission denied" in str(items[1].problem)


def test_one_or_many(tmp_path: Path, one: dict[str, Path]) -> None:
    lay_out(tmp_path, one, "a.mp4")
    videos = str(tmp_path / "videos")
    assert is_batch([videos], None, False)
    assert is_batch([str(one["video"])] * 2, None, False)
    assert is_batch([], "-", False)
    for alone in ("-", "rtsp://camera/1", "https://x/y.mp4", str(one["video"]), str(one["frames"])):
        assert not is_batch([alone], None, False)
    assert is_batch(["s3://bucket/a.mp4"], None, False)


def test_lists() -> None:
    assert read_list(b"a.mp4\r\n\n b c.mp4\n") == ["a.mp4", " b c.mp4"]
    assert read_list(b"two\nlines.mp4\0b.mp4\0") == ["two\nlines.mp4", "b.mp4"]
    assert os.fsencode(read_list(b"\xff.mp4\n")[0]) == b"\xff.mp4"


def test_masks_are_matched_by_stem(tmp_path: Path, one: dict[str, Path]) -> None:
    lay_out(tmp_path, one, "a.mp4", "b.mp4", "c.mp4", "x/d.mp4", masks=False)
    masks = tmp_path / "masks"
    put(one["mask"], masks / "a.png")
    put(one["mask"], masks / "b" / "00000.png")
    put(one["mask"], masks / "c.png")
    put(one["mask"], masks / "c.bmp")
    put(one["mask"], masks / "d.mp4.png")
    items = discover([str(tmp_path / "videos")], str(masks), RunOptions(), recursive=True)
    by_stem = {item.stem: item for item in items}
    assert by_stem["a"].mask == str(masks / "a.png")
    assert by_stem["b"].mask == str(masks / "b")
    assert "several masks" in str(by_stem["c"].problem)
    assert by_stem["d"].mask == str(masks / "d.mp4.png")  # of the folder of all masks
    with pytest.raises(UsageError, match="is one mask, for 4 videos"):
        discover([str(tmp_path / "videos")], str(masks / "a.png"), RunOptions(), recursive=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no video"):
        discover([str(tmp_path / "empty")], str(masks), RunOptions())


def test_two_of_one_name_are_told(tmp_path: Path, one: dict[str, Path]) -> None:
    lay_out(tmp_path, one, "a.mp4", "A.mov", "b.mp4")
    shutil.copy(tmp_path / "masks" / "a.png", tmp_path / "masks" / "A.png")
    items = discover([str(tmp_path / "videos")], str(tmp_path / "masks"), RunOptions())
    assert ["also called" in str(item.problem) for item in items] == [True, True, False]


# Doing.


@pytest.mark.slow
def test_a_folder_is_done_then_skipped_then_redone(
    tmp_path: Path, one: dict[str, Path], livos: Any
) -> None:
    lay_out(tmp_path, one, "a.mp4", "b c.mp4", "in/d.mp4")
    put(one["frames"], tmp_path / "videos" / "e")
    put(one["mask"], tmp_path / "masks" / "e.png")
    lay_out(tmp_path, one, "lonely.mp4", masks=False)
    (tmp_path / "videos" / "text.mp4").write_text("no video")
    put(one["mask"], tmp_path / "masks" / "text.png")
    command = ("segment", "videos", "-r", "-m", "masks", "-o", "out", "--device", "cpu", "--json")

    done = livos(*command, cwd=tmp_path)
    assert done.returncode == 1
    told = {Path(r["video"]).stem: r for r in records(done.stdout)}
    assert {n: r["status"] for n, r in told.items()} == {
        "a": "done", "b c": "done", "d": "done", "e": "done", "lonely": "failed", "text": "failed"
    }  # fmt: skip
    assert told["d"]["frames"] == 6
    assert told["d"]["peak_memory"] > 1e8
    assert told["d"]["seconds"] > 0
    assert len(told["d"]["weights"]) == 64
    assert told["lonely"]["error"].startswith("no mask for")
    assert told["text"]["hint"]
    assert "done  skipped  failed  not done" in done.stderr
    out = tmp_path / "out"
    assert records((out / "report.jsonl").read_text()) == records(done.stdout)
    assert len(decode(out / "in" / "d.mask.mkv")) == 6
    assert sorted(p.name for p in out.iterdir()) == [
        ".livos", "a.mask.mkv", "b c.mask.mkv", "e.mask.mkv", "in", "report.jsonl"
    ]  # fmt: skip
    written = {p: p.stat().st_mtime_ns for p in out.rglob("*.mkv")}

    again = {Path(r["video"]).stem: r for r in records(livos(*command, cwd=tmp_path).stdout)}
    assert {r["status"] for n, r in again.items() if n in "abcde"} == {"skipped"}
    assert again["d"]["outputs"] == told["d"]["outputs"]
    assert again["d"]["frames"] == 6
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.mkv")} == written

    # Killed with its results named and noted, but its checkpoints still there.
    for name in ("state-1.safetensors", "results-1", "publishing.json", "lock"):
        (out / ".livos" / "e.mask.mkv.unfinished").mkdir(exist_ok=True)
        (out / ".livos" / "e.mask.mkv.unfinished" / name).write_bytes(b"")
    livos(*command, "--dry-run", cwd=tmp_path)
    assert len(list(out.rglob("*.unfinished"))) == 1
    livos(*command, cwd=tmp_path)
    assert not list(out.rglob("*.unfinished"))
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.mkv")} == written

    (out / "a.mask.mkv").unlink()  # gone
    temporary_of(out / ".livos" / "a.json").touch()  # killed while it noted the results
    put(tmp_path / "masks" / "a.png", tmp_path / "keep.png")
    write_png(tmp_path / "masks" / "b c.png", scene(48, 64, 1, seed=9)[0][1], "gray")  # changed
    third = {
        Path(r["video"]).stem: r["status"] for r in records(livos(*command, cwd=tmp_path).stdout)
    }
    assert third == {
        "a": "done", "b c": "done", "d": "skipped", "e": "skipped", "lonely": "failed",
        "text": "failed",
    }  # fmt: skip
    assert not list(out.rglob(".livos-*"))
    other = livos(*command, "--max-size", "48", "--save", "mask", "--save", "png", cwd=tmp_path)
    assert [r["status"] for r in records(other.stdout)].count("done") == 4
    only = livos(*command, "--max-size", "48", "--save", "png", cwd=tmp_path)
    assert [r["status"] for r in records(only.stdout)].count("skipped") == 4

    # A result that somebody changed, or made, is not ours to replace.
    (out / "a.mask.mkv").write_bytes(b"edited")
    touched = {Path(r["video"]).stem: r for r in records(livos(*command, cwd=tmp_path).stdout)}
    assert touched["a"]["status"] == "failed"
    assert "exists already" in touched["a"]["error"]
    assert (out / "a.mask.mkv").read_bytes() == b"edited"
    forced = {Path(r["video"]).stem: r for r in records(livos(*command, "-y", cwd=tmp_path).stdout)}
    assert forced["a"]["status"] == "done"


def test_dry_run_fail_fast_and_lists(tmp_path: Path, one: dict[str, Path], livos: Any) -> None:
    lay_out(tmp_path, one, "a.mp4", "two\nlines.mp4", "c.mp4")
    (tmp_path / "videos" / "a.mp4").write_bytes(b"nothing of a video")
    names = "\0".join(f"videos/{n}" for n in ("a.mp4", "two\nlines.mp4", "c.mp4", "gone.mp4"))
    base = ("segment", "--list", "-", "-m", "masks", "-o", "out", "--device", "cpu")
    plan = livos(*base, "-n", cwd=tmp_path, stdin=names.encode())
    assert plan.returncode == 1
    lines = plan.stdout.splitlines()
    assert len(lines) == 4
    assert [line.split()[0] for line in lines] == ["do", "do", "do", "fail"]
    assert "videos/two\\nlines.mp4" in lines[1]
    assert not (tmp_path / "out").exists()

    fast = livos(*base, "--fail-fast", "--json", cwd=tmp_path, stdin=names.encode())
    assert fast.returncode == 1
    assert [r["status"] for r in records(fast.stdout)] == ["failed"]
    assert not list((tmp_path / "out").glob("*.mkv"))
    whole = livos(*base, "--report", "r.jsonl", cwd=tmp_path, stdin=names.encode())
    assert whole.returncode == 1
    assert (tmp_path / "out" / "two\nlines.mask.mkv").exists()
    statuses = [r["status"] for r in records((tmp_path / "r.jsonl").read_text())]
    assert sorted(statuses) == ["done", "done", "failed", "failed"]


def test_beside_the_videos_and_with_a_sheet_each(
    tmp_path: Path, one: dict[str, Path], livos: Any
) -> None:
    lay_out(tmp_path, one, "a.mp4", "b.mp4")
    command = (
        "segment", "videos", "-m", "masks", "--preview", "sheet.png", "--device", "cpu",
        "--save", "mask", "--save", "overlay", "--save", "png",
    )  # fmt: skip
    done = livos(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "videos").iterdir() if p.name[0] != ".") == sorted(
        name for v in "ab" for name in (v, f"{v}.mp4", f"{v}.mask.mkv", f"{v}.overlay.mp4",
                                        f"{v}.sheet.png")
    )  # fmt: skip
    assert len(records((tmp_path / "report.jsonl").read_text())) == 2
    again = livos(
        *command, "--save", "mask", "--save", "overlay", "--save", "png", "--json", cwd=tmp_path
    )
    assert [r["status"] for r in records(again.stdout)] == ["skipped", "skipped"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["-o", "-"], "takes one video"),
        (["-o", "videos/a.mp4"], "names a file"),
        (["-o", "all.mkv"], "names a file"),
        (["--preview", "x/sheet.png"], "a name alone"),
        (["--save", "gif"], "unknown kind"),
        (["--palette", "mud"], "is not a colour"),
        (["--engine", "warp"], "unknown engine"),
        (["-m", "masks/a.png"], "is one mask, for 2 videos"),
        (["--list", "nowhere.txt"], "cannot be read"),
        (["--report", "videos/a.mp4"], "is not a report"),
    ],
)
def test_wrong_usage_is_one_line(
    more: list[str], says: str, tmp_path: Path, one: dict[str, Path], livos: Any
) -> None:
    lay_out(tmp_path, one, "a.mp4", "b.mp4")
    done = livos("segment", "videos", "-m", "masks", "--device", "cpu", *more, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.mkv"))
    assert not list(tmp_path.rglob(".livos"))


def test_errors_of_ours_are_in_the_report(
    tmp_path: Path, one: dict[str, Path], tiny: LiVOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One failure stops nothing, even one that should not be."""
    from livos_cli.batch import work as module

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(module, "run", broken)
    item = Item(str(one["video"]), str(one["mask"]), tmp_path / "out", "one")
    record = work(Job(item, Batch(SegmentOptions(), RunOptions(), "w")), tiny)
    assert record.status == "failed"
    assert record.error == "unexpected ZeroDivisionError: ours"
    assert record.traceback is not None
    assert "broken" in record.traceback
    assert "traceback" in json.loads(record.as_json())


def test_a_video_is_prepared_once_unless_something_has_changed(
    tmp_path: Path, one: dict[str, Path], tiny: LiVOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    from livos_cli.batch import job as module

    plan = module.plan_outputs
    planned: list[object] = []

    def counted(*words: Any, **more: Any) -> Any:
        planned.append(words)
        return plan(*words, **more)

    monkeypatch.setattr(module, "plan_outputs", counted)
    batch = Batch(SegmentOptions(max_size=32), RunOptions(), "w")
    item = Item(str(one["video"]), str(one["mask"]), tmp_path, "one")
    first, second, third = (Job(item, batch) for _ in range(3))
    assert [job.outcome() for job in (first, second, third)] == [None] * 3
    assert len(planned) == 3
    assert work(first, tiny).status == "done"
    assert len(planned) == 3
    # Somebody has done it meanwhile; then somebody has put another file there.
    assert work(second, tiny).status == "skipped"
    assert len(planned) == 4
    (tmp_path / "one.mask.mkv").write_bytes(b"edited")
    assert "exists already" in str(work(third, tiny).error)
    assert (tmp_path / "one.mask.mkv").read_bytes() == b"edited"


# Care.


@pytest.mark.slow
def test_two_runs_in_one_folder(tmp_path: Path, one: dict[str, Path]) -> None:
    lay_out(tmp_path, one, *(f"v{n}.mp4" for n in range(6)))
    command = [
        sys.executable, "-m", "livos_cli", "segment", "videos", "-m", "masks", "-o", "out",
        "--device", "cpu", "--json",
    ]  # fmt: skip
    both = [
        subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ended = [(p, *p.communicate(timeout=120)) for p in both]
    done = [r for _, out, _ in ended for r in records(out) if r.get("status") == "done"]
    assert sorted(r["video"] for r in done) == [f"videos/v{n}.mp4" for n in range(6)]
    refused = [(p.returncode, err) for p, out, err in ended if not out]
    for code, said in refused:  # unless one began when the other had ended
        assert code == 1
        assert "is in use by another run (process " in said
        assert len(said.splitlines()) == 1
    assert len(records((tmp_path / "out" / "report.jsonl").read_text())) == 6


def test_a_lock_names_its_owner_and_ends_with_it(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from livos_cli.files.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(OutputError, match=rf"\(process {holder.pid} on .*, for 0 min\)"),
        locked(tmp_path),
    ):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with locked(tmp_path):  # killed: nobody has to clean up by hand
        pass
    assert not list(tmp_path.iterdir())


@posix
def test_an_output_folder_that_vanishes_or_is_read_only(
    tmp_path: Path, one: dict[str, Path], tiny: LiVOS, livos: Any
) -> None:
    lay_out(tmp_path, one, "a.mp4")
    for place in ("/proc/nothing/here", "/dev/null/x"):
        done = livos(
            "segment", "videos", "-m", "masks", "-o", place, "--device", "cpu", cwd=tmp_path
        )
        assert done.returncode == 1
        assert "cannot write to" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    out = tmp_path / "out"

    def vanish(progress: Progress) -> None:
        if progress.done == 3:
            shutil.rmtree(out)

    item = Item(str(one["video"]), str(one["mask"]), out, "one")
    batch = Batch(SegmentOptions(), RunOptions(), "w")
    record = work(Job(item, batch), tiny, observer=Observer(frame=vanish))
    assert record.status == "failed"
    assert record.error is not None
    assert "No such file or directory" in record.error
    assert record.traceback is None
    assert work(Job(item, batch), tiny).status == "done"


def test_the_report_goes_on_without_a_disk(tmp_path: Path) -> None:
    report = ReportFile(tmp_path / "r" / "report.jsonl")
    shutil.rmtree(tmp_path / "r")
    (tmp_path / "r").write_text("in the way")
    problem = report.add(Record("v", "m", "done"))
    assert problem is not None
    assert "report.jsonl" in problem


def test_streams_are_told_apart(tmp_path: Path, one: dict[str, Path]) -> None:
    item = Item("rtsp://camera/1", str(one["mask"]), tmp_path, "1")
    record = Job(item, Batch(SegmentOptions(), RunOptions(), "w")).outcome()
    assert record is not None
    assert "is a stream" in (record.error or "")
    failed = Job(
        Item("v.mp4", None, tmp_path, "v", LivosError("what", "hint")),
        Batch(SegmentOptions(), RunOptions(), "w"),
    ).outcome()
    assert failed is not None
    assert (failed.status, failed.error, failed.hint) == ("failed", "what", "hint")


def test_videos_by_url(tmp_path: Path, one: dict[str, Path], livos: Any) -> None:
    """fsspec: here a zip file, the way s3:// or hf:// go too."""
    lay_out(tmp_path, one, "a.mp4", "in/b.mp4")
    shutil.make_archive(str(tmp_path / "both"), "zip", tmp_path / "videos")
    shutil.make_archive(str(tmp_path / "masks"), "zip", tmp_path / "masks")
    both, masks = (f"zip://::{tmp_path / name}.zip" for name in ("both", "masks"))
    command = ("segment", both, "-r", "-o", tmp_path / "out", "--device", "cpu", "--json")
    done = livos(*command, "-m", masks)
    assert done.returncode == 0, done.stderr
    assert len(decode(tmp_path / "out" / "a.mask.mkv")) == 6
    assert len(decode(tmp_path / "out" / "in" / "b.mask.mkv")) == 6
    again = livos(*command, "-m", masks)
    assert {r["status"] for r in records(again.stdout)} == {"skipped"}
    alone = livos(
        "segment", f"zip://a.mp4::{tmp_path / 'both'}.zip", "-m", one["mask"], "-o",
        tmp_path / "alone", "--device", "cpu",
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    same = [(tmp_path / name / "a.mask.mkv").read_bytes() for name in ("out", "alone")]
    assert same[0] == same[1]
    gone = livos("segment", f"zip://x.mp4::{tmp_path / 'both'}.zip", "-m", one["mask"])
    assert gone.returncode == 1
    assert len(gone.stderr.splitlines()) == 1
    assert "cannot be read" in gone.stderr
