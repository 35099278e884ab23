"""Digests of settings stay what they were: finished videos stay finished, begun ones resume."""

from __future__ import annotations

from livos_cli.options import Drop, RunOptions, SegmentOptions
from livos_cli.pipeline.fingerprint import of_run, of_settings
from livos_cli.version import VERSION


def test_digests_are_those_of_the_first_version() -> None:
    options = SegmentOptions(max_size=96, drop=(Drop(1, 5),))
    assert of_settings(options, RunOptions(), "w").startswith("7fed50004730675648bacaa94099042a")
    if VERSION == "0.1.0":  # of which it is a part: a run is not resumed by another version
        digest = of_run("i", options, "w", matte=True, exact="cpu")
        assert digest.startswith("814d8951cd5d935195e9c5ea8cc5e10e")


def test_fields_that_matter_change_them() -> None:
    plain = of_settings(SegmentOptions(), RunOptions(), "w")
    others = [SegmentOptions(latency_first=True), SegmentOptions(max_size=97)]
    assert of_settings(SegmentOptions(cuda_graphs=False), RunOptions(), "w") == plain
    assert len({plain, *(of_settings(other, RunOptions(), "w") for other in others)}) == 3
