"""What makes a probability of a network's signs of failure: fitted for weights, kept with them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from livos_cli.errors import WeightsError

__all__ = ["GOOD", "TERMS", "Calibration"]

GOOD = 0.7  # J from which a mask counts as right
# What is weighed for each object and frame, in this order, as `tracker.certainty` says.
TERMS = ("blur", "blur_so_far", "colour", "likeness")


@dataclass(frozen=True)
class Calibration:
    """A logistic regression: the log-odds that J is at least `GOOD` are bias + weights . terms.

    `examples/calibrate_certainty.py` makes one.
    """

    bias: float
    weights: Mapping[str, float]  # of `TERMS`; what is missing weighs nothing
    source: str = ""  # what it was fitted on, for people

    def to_json(self) -> str:
        """One line of JSON, the form it has in a weight file's metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """Read what `to_json` wrote.

        Raises:
            WeightsError: the text is not such a calibration.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            weights = {str(name): float(value) for name, value in dict(raw["weights"]).items()}
            bias = float(raw["bias"])
            if unknown := sorted(set(weights) - set(TERMS)):
                raise ValueError(f"unknown terms {', '.join(unknown)[:80]}")
            if not all(math.isfinite(value) for value in (bias, *weights.values())):
                raise ValueError("a weight is not finite")
            return cls(bias, weights, str(raw.get("source", "")))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise WeightsError(
                f"the weights' calibration cannot be read: {error}",
                "the file may come from a newer livos: update livos",
            ) from error
