"""Command lines that cannot be understood: each gets the hint that helps, in one line."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from media import scene, write_png, write_video


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("usage")
    made = scene(64, 96, 6, seed=5)
    write_video(folder / "video.mp4", [rgb for rgb, _ in made])
    write_png(folder / "mask.png", made[0][1], "gray")
    write_png(folder / "masks" / "00000.png", made[0][1], "gray")
    return folder


# command line -> what the one line says
HINTS = {
    "segment video.mp4": "`livos mask video.mp4 --show`",
    "segment ./video.mp4 --direction both": "livos mask ./video.mp4 --box",
    "segment 'my video.mp4'": "livos mask 'my video.mp4' --show",
    "segment": "no video is given",
    "segment video.mp4 mask.png": "livos segment video.mp4 -m mask.png",
    "segment mask.png video.mp4": "livos segment video.mp4 -m mask.png",
    "segment video.mp4 masks": "livos segment video.mp4 -m masks",
    "segment masks mask.png": "livos segment masks -m mask.png",
    "segment a.mp4 b.mp4": "a folder of masks",
    "video.mp4": "livos mask video.mp4 --show",
    "video.mp4 -m mask.png": "livos segment video.mp4",
    "holiday.MOV": "livos segment holiday.MOV -m MASK.png",
    "track video.mp4": "use `livos segment`",
    "Segment video.mp4": "use `livos segment`",
    "evaluate": "use `livos eval`",
    "segmnt video.mp4": "use `livos segment`",
    "dance": "see `livos -h`",
    "weights lst": "use `livos weights list`",
    "mask video.mp4 --box 10 5 30 20": "use commas: --box 10,5,30,20",
    "mask video.mp4 --box 10, 5, 30, 20": "use commas: --box 10,5,30,20",
    "mask video.mp4 --point 10 5": "use commas: --point 10,5",
    "mask video.mp4 --polygon 1 1 9 1 9 9": "use commas: --polygon 1,1,9,1,9,9",
    "mask video.mp4 10,5,30,20": "--box 10,5,30,20",
    "mask video.mp4 --box 30,5,10,20": "is empty",
    "mask video.mp4 --frame 500f --box 1,1,9,9": "it has about 6 frames",
    "mask video.mp4 --frame 9.5 --box 1,1,9,9": "it has about 6 frames",
    "mask video.mp4 --start 3 --box 1,1,9,9": "use --frame",
    "mask video.mp4": "`livos mask video.mp4 --show`",
    "segment video.mp4 -m mask.png --frame 3f": "use --from",
    "segment video.mp4 -m mask.png --box 1,2,3,4": "livos mask",
    "segment video.mp4 -m mask.png --drection both": "use --direction",
    "segment video.mp4 -m": "livos segment --help",
    "segment video.mp4 -m mask.png --opacity 7": "livos segment --help",
    "segment video.mp4 -m mask.png --save mask,gif": "unknown kind 'gif'",
    "segment video.mp4 -m mask.png -o out.mov": "add --save alpha",
    "segment video.mp4 -m mask.png -o out.txt2.png": "a folder",
    "segment video.mp4 -m mask.png --from soon": "--from 'soon' is not a position",
    "segment video.mp4 -m mask.png --drop 1": "is not ID@POS",
}
FAILS = {"mask video.mp4 --frame 500f --box 1,1,9,9", "mask video.mp4 --frame 9.5 --box 1,1,9,9"}


@pytest.fixture(scope="module")
def helps(livos: Any) -> dict[str, str]:
    return {name: livos(name, "--help").stdout for name in ("segment", "mask")}


@pytest.mark.parametrize("line", HINTS)
def test_the_hint_that_helps(line: str, place: Path, livos: Any, helps: dict[str, str]) -> None:
    before = sorted(place.rglob("*"))
    done = livos(*shlex.split(line), cwd=place)
    assert done.returncode == (1 if line in FAILS else 2), done.stderr
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith("livos: ")
    assert HINTS[line] in said
    assert not done.stdout
    assert sorted(place.rglob("*")) == before
    # No option is named that is not there: those of the command, or of one that is named itself.
    hint = said.partition(" — ")[2]
    assert hint  # what to do about it
    command = line.partition(" ")[0]
    known = "".join(helps.values()) if "livos " in hint else helps.get(command, "")
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", hint):
        assert option in known, said


@pytest.mark.slow
def test_a_wrong_line_is_one_json_object(place: Path, livos: Any) -> None:
    for line, code in [
        ("segment video.mp4 --json", 2),
        ("segment video.mp4 -m none.png --json", 1),
        ("segment none.mp4 -m mask.png --json -q", 1),
        ("segment video.mp4 -m mask.png --nothing --json", 2),
        ("mask video.mp4 --frame 500f --box 1,1,9,9 --json", 1),
        ("track --json", 2),
    ]:
        done = livos(*shlex.split(line), cwd=place)
        assert done.returncode == code
        (told,) = map(json.loads, done.stdout.splitlines())
        assert set(told) == {"error", "hint", "exit_code"}
        assert told["exit_code"] == code
        assert done.stderr.splitlines()[-1] == f"livos: {told['error']} — {told['hint']}"
    without = livos("segment", "none.mp4", "-m", "mask.png", cwd=place)
    assert without.stdout == ""


def test_commas_in_save(place: Path, tmp_path: Path, livos: Any) -> None:
    done = livos(
        "segment", "video.mp4", "-m", "mask.png", "-o", tmp_path, "--save", "mask, rle", "--save",
        "overlay,mask", "--max-size", 64, "--device", "cpu", cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "video.mask.mkv", "video.overlay.mp4", "video.rle.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["--help", "segment --help", "weights list", "info --json"])
def test_a_reader_that_leaves_is_no_fault(line: str, place: Path) -> None:
    # A pipe that nobody reads any more, as after `| head`.
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "livos_cli", *line.split()],
            stdout=writing, stderr=subprocess.PIPE, cwd=place, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 141  # as of a program that SIGPIPE ended


# help


def test_segments_help_is_grouped_with_examples(livos: Any) -> None:
    text = livos("segment", "--help", env={"COLUMNS": "80"}).stdout
    headings = re.findall(r"^(\w[^\n]*):$", text, re.MULTILINE)
    for heading in ["Arguments", "Every day", "What is written", "Many videos, many devices"]:
        assert heading in headings
    assert "More" not in headings  # every option has its place
    assert "Options" not in headings
    examples = re.findall(r"^ +livos segment .*$", text, re.MULTILINE)
    assert len(examples) == 3
    assert max(map(len, text.splitlines())) <= 80
    from typer.main import get_command

    from livos_cli.cli import app

    command: Any = get_command(app)
    for parameter in command.commands["segment"].params:
        if parameter.param_type_name == "option":
            assert max(parameter.opts, key=len) in text


def test_examples_in_help_are_understood(livos: Any) -> None:
    """Every command in help is one that its parser takes."""
    from typer.main import get_command

    from livos_cli.cli import app

    command: Any = get_command(app)
    first = livos("--help").stdout
    lines = re.findall(r"^ +(livos \w+ .*)$", first + livos("segment", "-h").stdout, re.MULTILINE)
    examples = [line for line in lines if "video" in line]
    assert len(examples) == 6
    for line in examples:
        _, name, *words = shlex.split(line)
        with command.commands[name].make_context(name, words):
            pass


# shell completion


def complete(shell: str, line: str) -> list[str]:
    """What the shell would offer at the end of a line."""
    words = line.split(" ")
    env = {
        **os.environ,
        "_LIVOS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-m", "livos_cli"], env=env, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    if shell == "zsh":
        return re.findall(r'^[^"]*"([^"]+)"', done.stdout, re.MULTILINE)
    return [offer.split("\t")[0] for offer in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert complete(shell, "livos se") == ["segment"]
    assert set(complete(shell, "livos ")) >= {"segment", "mask", "eval", "weights"}
    assert "--direction" in complete(shell, "livos segment video.mp4 --dir")
    assert complete(shell, "livos segment video.mp4 --direction b") == ["backward", "both"]
    assert complete(shell, "livos segment video.mp4 --save ov") == ["overlay"]
    assert complete(shell, "livos segment video.mp4 --save mask,ov") == ["mask,overlay"]
    assert "livos-wmose-480p" in complete(shell, "livos segment video.mp4 --weights livos-w")
    assert complete(shell, "livos weights li") == ["list"]


def test_bash_really_completes(tmp_path: Path) -> None:
    """The script that is installed, in a real bash: names, and files where nothing is offered."""
    livos = tmp_path / "bin" / "livos"
    livos.parent.mkdir()
    livos.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m livos_cli "$@"\n')
    livos.chmod(0o755)
    paths = f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"
    env = {
        **os.environ,
        "PATH": f"{livos.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": paths + os.pathsep + os.environ.get("PYTHONPATH", ""),
    }
    script = subprocess.run(
        [livos], env={**env, "_LIVOS_COMPLETE": "source_bash"}, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    assert "complete -o default" in script  # files, where livos offers nothing
    ask = (
        'eval "$SCRIPT"; f=$(complete -p livos | sed "s/.*-F \\([^ ]*\\).*/\\1/"); '
        'COMP_WORDS=(livos segment v.mp4 --direction b); COMP_CWORD=4; "$f" livos; '
        'echo "${COMPREPLY[@]}"; '
        'COMP_WORDS=(livos segment v); COMP_CWORD=2; "$f" livos; echo "<${COMPREPLY[@]}>"; '
        'COMP_WORDS=(livos segment v.mp4 -o v); COMP_CWORD=4; "$f" livos; echo "<${COMPREPLY[@]}>"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", ask], env={**env, "SCRIPT": script}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["backward both", "<>", "<>"], done.stderr


def test_completion_and_help_come_without_torch() -> None:
    code = (
        "import sys; sys.argv = ['livos', 'segment', '--help']\n"
        "from livos_cli.cli import main\n"
        "try: main()\n"
        "finally: print({'torch', 'av', 'cv2'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"


@pytest.mark.parametrize("command", [[], ["weights"]])
def test_without_a_command_the_help_is_shown_line_by_line(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "livos_cli", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len((done.stdout + done.stderr).splitlines()) > 8
    assert "Commands:" in done.stdout + done.stderr
