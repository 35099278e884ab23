"""What reaches a terminal: names from anywhere made harmless; and streams that are closed."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from media import scene, write_png, write_video

from livos_cli.cli.common import LONGEST, printable

# Colours, a new title, a line of its own, markup and an emoji of rich, text turned round.
EVIL = "a\x1b[31m\x1b]0;owned\x07\nlivos: [red]done[red] :warning: \u202efdp\u2028b"
SHOWN = r"a\x1b[31m\x1b]0;owned\x07\nlivos: [red]done[red] :warning: \u202efdp\u2028b"


def test_printable() -> None:
    assert printable(EVIL) == SHOWN
    assert printable(SHOWN) == SHOWN
    assert printable("Grüße, 日本, 👩‍🚀, a\u00a0b") == "Grüße, 日本, 👩‍🚀, a\u00a0b"
    assert printable(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert printable("\x9b31m\x7f\r") == r"\x9b31m\x7f\r"
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
    long = printable("x" * 10_000_000)
    assert long.startswith("x" * LONGEST + "…")
    assert "10000000 characters" in long
    assert len(long) < LONGEST + 50


@pytest.fixture
def evil(tmp_path: Path) -> dict[str, Path]:
    """A video, its mask, and a folder, all with such a name."""
    if os.name == "nt":
        pytest.skip("Windows has no such names")
    base = tmp_path / "base"
    made = {name: base / name for name in ("videos", "masks")}
    for folder in made.values():
        folder.mkdir(parents=True)
    video = write_video(tmp_path / "clip.mp4", [frame for frame, _ in scene(64, 96, 4)])
    made["video"] = video.rename(made["videos"] / f"{EVIL}.mp4")
    mask = np.zeros((64, 96), np.uint8)
    mask[20:40, 20:50] = 255
    made["mask"] = write_png(made["masks"] / f"{EVIL}.png", mask, "gray")
    made["folder"] = base / EVIL
    made["folder"].mkdir()
    return made


def assert_harmless(*texts: str) -> None:
    for text in texts:
        for bad in ("\x1b", "\x07", "\u202e", "\u2028"):
            assert bad not in text, ascii(text)
        assert "\nlivos: [red]done" not in text, ascii(text)


def test_one_video_of_such_a_name(evil: dict[str, Path], tmp_path: Path, livos: Any) -> None:
    done = livos(
        "segment", evil["video"], "-m", evil["mask"], "-o", tmp_path / "out", "--save", "mask"
    )
    assert done.returncode == 0, done.stderr
    assert_harmless(done.stdout, done.stderr)
    assert done.stdout.strip().endswith(f"out/{SHOWN}.mask.mkv")
    assert len(done.stdout.splitlines()) == 1
    assert f"{SHOWN}: 96x64" in done.stderr  # no markup, no emoji
    again = livos("segment", evil["video"], "-m", evil["mask"], "-o", tmp_path / "out")
    assert again.returncode == 1
    assert_harmless(again.stderr)
    assert len(again.stderr.splitlines()) == 1


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--json"]], ids=str)
def test_many_videos_of_such_names(
    more: list[str], evil: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    (evil["videos"] / f"no mask {EVIL}.mp4").write_bytes(b"?")
    done = livos("segment", evil["videos"], "-m", evil["masks"], "-o", tmp_path / "out", *more)
    assert done.returncode == 1
    assert_harmless(done.stdout, done.stderr)
    if "--json" in more:
        names = [json.loads(line)["video"] for line in done.stdout.splitlines()]
        assert str(evil["video"]) in names  # for programs: exactly
    elif not more:
        assert f"/2] {evil['videos']}/no mask {SHOWN}.mp4: failed: no mask for" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", EVIL, "-m", "@mask"],
        ["segment", "@video", "-m", EVIL],
        ["segment", "@folder", "-m", "@mask"],
        ["segment", "@video", "-m", "@folder"],
        ["segment", "@video", "-m", "@mask", "-w", EVIL],
        ["segment", "@video", "-m", "@mask", "--save", EVIL],
        ["segment", "@video", "-m", "@mask", f"--{EVIL}"],
        ["segment", "@video", "-m", "@mask", "--start", EVIL],
        ["segment", "@video", "-m", "@mask", "-o", f"{EVIL}.avi"],
        ["segment", "--list", EVIL, "-m", "@mask"],
        ["mask", EVIL, "--box", "1,1,9,9"],
        ["eval", EVIL, "-d", "davis17"],
        ["weights", "convert", EVIL, "out.safetensors"],
        [EVIL],
    ],
    ids=lambda a: " ".join(x for x in a if x.isprintable()),
)
def test_errors_that_quote_such_names(
    arguments: list[str], evil: dict[str, Path], livos: Any
) -> None:
    filled = [evil[a[1:]] if a.startswith("@") else a for a in arguments]
    done = livos(*filled)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert_harmless(done.stdout, done.stderr)


def test_the_host_of_a_lock_is_no_line_of_ours(
    evil: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    from livos_cli.files.lock import locked

    out = tmp_path / "out"
    with locked(out):
        owner = out / ".livos" / "owner.json"
        owner.write_text(json.dumps({"host": EVIL, "process": EVIL, "since": 0}))
        done = livos("segment", evil["videos"], "-m", evil["masks"], "-o", out)
    assert done.returncode == 1
    assert "in use by" in done.stderr
    assert_harmless(done.stderr)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_on_a_real_terminal(evil: dict[str, Path], tmp_path: Path) -> None:
    """With the bars of a batch: what a name holds is never a command to the terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "livos_cli", "segment", str(evil["videos"]), "-m",
         str(evil["masks"]), "-o", str(tmp_path / "out")],
        stdin=follower, stdout=follower, stderr=follower, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(follower)
    told = b""
    while True:
        try:
            piece = os.read(leader, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        told += piece
    os.close(leader)
    assert process.wait(60) == 0
    assert b"\x1b]0;owned" not in told
    assert b"a\x1b[31m" not in told
    assert "\u202e".encode() not in told
    assert b"[red]done[red] :warning:" in told.replace(b"\r\n", b"")


def test_a_line_of_a_list_is_not_printed_whole(
    evil: dict[str, Path], tmp_path: Path, livos: Any
) -> None:
    listed = tmp_path / "list"
    listed.write_bytes(b"x" * 30_000_000 + b"\n" + os.fsencode(evil["video"]).replace(b"\n", b"?"))
    for more in ([], ["--dry-run"], ["--json"]):
        done = livos("segment", "--list", listed, "-m", evil["masks"], "-o", tmp_path / "o", *more)
        assert done.returncode == 1
        assert len(done.stdout) + len(done.stderr) < 20_000
        assert "30,000,000 characters" in done.stdout + done.stderr
    assert (tmp_path / "o" / "report.jsonl").stat().st_size < 20_000


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Path]:
    video = write_video(tmp_path / "clip.mp4", [f for f, _ in scene(64, 96, 4)])
    mask = np.zeros((64, 96), np.uint8)
    mask[20:40, 20:50] = 255
    return {"video": video, "mask": write_png(tmp_path / "masks" / "clip.png", mask, "gray")}


def shell(how: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command with streams as a shell is told: `>&-` closes one."""
    words = shlex.join([sys.executable, "-m", "livos_cli", *map(str, arguments)])
    return subprocess.run(
        ["sh", "-c", f"{words} {how}"], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (">&-", "one"),
        (">&-", "many"),
        (">&-", "json"),
        ("2>&-", "one"),
        ("<&- >&- 2>&-", "one"),
        ("<&- >&- 2>&-", "many"),
        ("1</dev/null", "one"),  # open, but not for writing
    ],
)
def test_closed_streams(how: str, kind: str, plain: dict[str, Path], tmp_path: Path) -> None:
    many = ["--list", "list.txt", "-m", "masks"] if kind == "many" else None
    (tmp_path / "list.txt").write_text("clip.mp4\n")
    one = [plain["video"], "-m", plain["mask"], *(["--json"] if kind == "json" else [])]
    done = shell(how, "segment", *(many or one), "-o", "out", cwd=tmp_path)
    assert "Traceback" not in done.stderr, done.stderr
    # The result is whole, and nothing that was to be told went into it.
    assert done.returncode == (1 if how.startswith("1<") else 0), done.stderr
    if how.startswith("1<"):
        assert "cannot write to stdout" in done.stderr
    assert [p.name for p in (tmp_path / "out").glob("*.mkv")] == ["clip.mask.mkv"]
    from media import decode

    assert len(decode(tmp_path / "out" / "clip.mask.mkv")) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "arguments", "code", "said"),
    [
        (">&-", ["segment", "@v", "-m", "@m", "-o", "-", "--save", "rle"], 2, "stdout"),
        ("<&-", ["segment", "--list", "-", "-m", "masks", "-o", "out"], 1, "stdin is closed"),
        ("<&-", ["segment", "-", "-m", "@m", "-o", "out"], 1, "stdin is closed"),
        ("2>&-", ["segment", "@v", "-m", "@m", "--bogus"], 2, ""),
        ("2>&-", ["segment", "@v", "-m", "nothing.png"], 1, ""),
        (">&-", ["--help"], 0, ""),
        (">&-", ["weights", "list"], 0, ""),
        (
            ">&- 2>&-",
            ["mask", "@v", "--polygon", "20,20,60,20,60,44,20,44", "-o", "first.png"],
            0,
            "",
        ),
        (">/dev/full", ["weights", "list"], 1, "cannot write to stdout"),
    ],
    ids=str,
)
def test_what_needs_a_closed_stream_says_so(
    how: str, arguments: list[str], code: int, said: str, plain: dict[str, Path], tmp_path: Path
) -> None:
    if "/dev/full" in how and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    names = {"@v": plain["video"], "@m": plain["mask"]}
    done = shell(how, *(names.get(a, a) for a in arguments), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
