"""Terms of weights: listed, said once where they forbid commerce; and which weights are default."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from conftest import ROOT, TINY_WEIGHTS
from media import scene, write_png, write_video
from page_server import PageServer

import livos_cli
from livos_cli.weights.convert import read_checkpoint, write_safetensors
from livos_cli.weights.locate import locate
from livos_cli.weights.publish import card_of
from livos_cli.weights.registry import DEFAULT, OPEN, REGISTRY
from livos_cli.weights.terms import LONGEST, TERMS_KEY, forbids_commerce, read_terms, terms_of

SAID = "not for commercial use"
CHEAP = ("--max-size", 32, "--device", "cpu", "--save", "mask")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small videos, and their masks beside them."""
    folder = tmp_path_factory.mktemp("clips")
    made = scene(64, 96, 3, seed=1)
    for name in ("a", "b"):
        write_video(folder / f"{name}.mp4", [rgb for rgb, _ in made])
        write_png(folder / f"{name}.png", made[0][1], "gray")
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default's tensors in a file that says nothing of terms."""
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    tensors, config = read_checkpoint(locate(DEFAULT))
    write_safetensors(tensors, config, path, half=True)
    return path


def test_the_default_is_named_once() -> None:
    for function in (livos_cli.segment, livos_cli.load_model):
        assert inspect.signature(function).parameters["weights"].default == DEFAULT
    named = re.compile(r"[:=] *\"(lite)\"")
    found = {
        (path.name, line.strip())
        for path in (ROOT / "livos_cli").rglob("*.py")
        for line in path.read_text().splitlines()
        if named.search(line) and "training" not in path.parts and "network" not in path.parts
    }
    assert found == {("registry.py", f'DEFAULT = "{DEFAULT}"  # the weights where none are named')}


@pytest.mark.slow
def test_the_list_has_terms(livos: Any) -> None:
    lines = livos("weights", "list", "--json").stdout.splitlines()
    listed = {one["name"]: one["terms"] for one in map(json.loads, lines)}
    assert listed == {name: entry.terms for name, entry in REGISTRY.items()}
    for line in livos("weights", "list").stdout.splitlines()[: len(REGISTRY)]:
        assert REGISTRY[line.split()[0]].terms in line
    built_in = {name: entry for name, entry in REGISTRY.items() if entry.file}
    for name, entry in built_in.items():  # as their cards and files have it
        licence = listed[name].split(" (")[0].lower().replace(" ", "-")
        assert f"license: {licence}\n" in livos("weights", "card", name).stdout
        assert read_terms(entry.file) in (None, entry.terms)
    assert {name for name in built_in if forbids_commerce(listed[name])} == {DEFAULT}


@pytest.mark.slow
def test_one_video_says_it_unless_quiet(livos: Any, clip: Path, own: Path, tmp_path: Path) -> None:
    command = ["segment", clip / "a.mp4", "-m", clip / "a.png", "-o", tmp_path, "-y", *CHEAP]
    done = livos(*command, "--json")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if SAID in line]
    assert line == f"weights {DEFAULT}: not for commercial use (CC BY-NC 4.0); {OPEN} is"
    assert SAID not in done.stdout
    for more in (["-q"], ["--weights", own]):
        done = livos(*command, *more)
        assert done.returncode == 0, done.stderr
        assert SAID not in done.stderr


@pytest.mark.slow
def test_a_batch_says_it_once(livos: Any, clip: Path, own: Path, tmp_path: Path) -> None:
    command = ["segment", clip, "-m", clip, "-o", tmp_path, *CHEAP]
    assert SAID not in livos(*command, "-n").stderr  # nothing is used yet
    done = livos(*command)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(SAID) == 1
    assert SAID not in livos(*command).stderr  # all done already
    for more in (["-q"], ["--weights", own]):
        done = livos(*command, "-y", *more)
        assert done.returncode == 0, done.stderr
        assert SAID not in done.stderr


@pytest.mark.slow
def test_a_mask_of_hints_says_it(livos: Any, clip: Path, tmp_path: Path) -> None:
    command = ["mask", clip / "a.mp4", "-o", tmp_path / "a.png", "-y"]
    done = livos(*command, "--point", "50%,50%", "--point", "10%,10%,-", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(SAID) == 1
    silent = ["-q"], ["-w", OPEN]
    for quiet in (*(["--point", "50%,50%", *more] for more in silent), ["--threshold", "20"]):
        done = livos(*command, *quiet)
        assert done.returncode == 0, done.stderr
        assert SAID not in done.stderr


def test_a_click_network_is_told_with_its_weights(livos: Any, clip: Path, tmp_path: Path) -> None:
    command = ["mask", clip / "a.mp4", "-o", tmp_path / "a.png", "-y", "--point", "50%,50%"]
    done = livos(*command, "-w", OPEN)
    assert done.returncode == 0, done.stderr
    assert f"-w {OPEN}" in done.stderr.split("next: livos segment ")[1]
    assert "-w " not in livos(*command).stderr
    done = livos(*command, "-w", str(TINY_WEIGHTS))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"use {DEFAULT} or {OPEN}" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("weights", [DEFAULT, None], ids=["default", "own file"])
def test_the_page_says_it(clip: Path, own: Path, tmp_path: Path, weights: str | None) -> None:
    """And Ctrl-C while the networks are loaded ends it as it should."""
    server = PageServer(clip / "a.mp4", "-o", tmp_path / "p", "-w", weights or own)
    said = server.stop()  # and ends with 0
    assert said.startswith(f"weights {DEFAULT}: ")  # with other weights, its click network
    assert said.count(SAID) == 1


@pytest.mark.slow
def test_a_file_tells_its_own_terms(livos: Any, own: Path, tmp_path: Path) -> None:
    tensors, config = read_checkpoint(own)
    told = tmp_path / "told.safetensors"
    write_safetensors(tensors, config, told, half=True, terms="Non-Commercial research")
    assert read_terms(own) is None
    assert terms_of(str(told), told) == "Non-Commercial research"
    assert forbids_commerce(read_terms(told))
    kept = tmp_path / "kept.safetensors"
    assert livos("weights", "convert", told, kept).returncode == 0
    assert read_terms(kept) == "Non-Commercial research"
    assert "Terms of use: Non-Commercial research." in card_of(str(kept))
    assert "this card states none" in card_of(str(own))


def test_terms_of_strangers_are_short_and_damage_says_nothing(tmp_path: Path) -> None:
    long, torn = tmp_path / "long.safetensors", tmp_path / "torn.safetensors"
    one = {"x": torch.zeros(1)}
    long.write_bytes(safetensors.torch.save(one, {TERMS_KEY: "non-commercial " * 10_000}))
    assert len(read_terms(long) or "") == LONGEST
    torn.write_bytes(long.read_bytes()[:50])
    assert read_terms(torn) is None
    assert read_terms(tmp_path / "none.safetensors") is None
    assert read_terms(tmp_path / "w.pth") is None
    assert not forbids_commerce(None)
    assert not forbids_commerce("CC BY 4.0")
