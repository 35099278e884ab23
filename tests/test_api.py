"""What is promised to those who import livos_cli: documented, with examples that run."""

from __future__ import annotations

import doctest
import inspect

import pytest
from conftest import ROOT

import livos_cli

PUBLIC = [name for name in livos_cli.__all__ if not name.startswith("__")]


@pytest.mark.parametrize("name", PUBLIC)
def test_all_that_is_public_is_documented(name: str) -> None:
    value = getattr(livos_cli, name)
    undocumented = [name] if not inspect.getdoc(value) else []
    if inspect.isclass(value):
        for inner, member in vars(value).items():
            documentable = callable(member) or isinstance(member, property)
            if documentable and not inner.startswith("_") and not member.__doc__:
                undocumented.append(f"{name}.{inner}")
    assert not undocumented


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_in_docstrings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where the example is
    tried = 0
    for test in doctest.DocTestFinder(recurse=False).find(getattr(livos_cli, name), name):
        outcome = doctest.DocTestRunner().run(test)
        assert not outcome.failed
        tried += outcome.attempted
    assert tried
