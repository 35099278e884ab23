"""Model cards, and weights to the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path

from livos_cli.errors import WeightsError
from livos_cli.network.config import LiVOSConfig
from livos_cli.weights.convert import read_calibration, write_safetensors
from livos_cli.weights.hub import parse_hub
from livos_cli.weights.load import load_checked
from livos_cli.weights.locate import locate
from livos_cli.weights.registry import REGISTRY
from livos_cli.weights.terms import terms_of

__all__ = ["card_of", "push"]

NO_TERMS = "Terms of use are those of whoever trained the weights; this card states none."


def card_of(weights: str) -> str:
    """The model card of some weights, Markdown with the Hub's YAML header."""
    known = REGISTRY.get(weights)
    if known is not None and known.file is not None:
        return known.file.with_suffix(".md").read_text(encoding="utf-8")
    path = locate(weights)
    tensors, config = load_checked(path)
    count = sum(t.numel() for t in tensors.values())
    return _plain_card(weights, config, count, terms_of(weights, path))


def _plain_card(name: str, config: LiVOSConfig, parameters: int, terms: str | None) -> str:
    known = REGISTRY.get(name)
    origin = f"`{name}`: {known.summary}." if known else "Converted with `livos weights convert`."
    stated = f"\nIts authors state {known.stated}.\n" if known and known.stated else ""
    rights = f"Terms of use: {terms}." if terms else NO_TERMS
    return f"""---
library_name: livos
pipeline_tag: mask-generation
tags: [video-object-segmentation, livos]
---
# LiVOS weights

{origin} Network: "LiVOS: Light Video Object Segmentation with Gated Linear Matching" (CVPR 2025,
arXiv 2411.02818). {parameters / 1e6:.1f} M values, for a shorter side of {config.size} pixels.

```
livos segment video.mp4 --mask first.png --weights owner/repo
```

Configuration: `{config.to_json()}`
{stated}
{rights}
"""


def push(weights: str, repo: str, *, private: bool = False) -> str:
    """Upload `model.safetensors` and `README.md`, the card.

    Returns:
        The address of the commit.

    Raises:
        WeightsError: not allowed, not reachable, or no such weights.
    """
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub

    address = parse_hub(repo)
    if address is None or address.revision or address.file:
        raise WeightsError(f"'{repo}' is not a Hub repository", "use owner/repo")
    path = locate(weights)
    tensors, config = load_checked(path)
    api = HfApi()
    with tempfile.TemporaryDirectory(prefix="livos-push-") as name:
        folder = Path(name)
        half = all(t.element_size() == 2 for t in tensors.values() if t.is_floating_point())
        write_safetensors(
            tensors, config, folder / "model.safetensors", half=half,
            calibration=read_calibration(path), terms=terms_of(weights, path),
        )  # fmt: skip
        (folder / "README.md").write_text(card_of(weights), encoding="utf-8")
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo, folder_path=folder, commit_message="Upload LiVOS weights"
            )
        # HTTPError is that of whichever client the library uses; it has it without exporting it.
        except (hub.HTTPError, OSError) as error:  # type: ignore[attr-defined]
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WeightsError(
                f"{repo}: cannot upload ({reason})",
                "set HF_TOKEN to a token that may write there, and check the network",
            ) from None
    return str(commit.commit_url)
