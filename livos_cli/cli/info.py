"""livos info: what a bug report needs."""

from __future__ import annotations

import json
import platform

from livos_cli.cli.common import Json, human, say


def info(as_json: Json = False) -> None:
    """Versions, devices, codecs, weights: for bug reports."""
    from importlib import metadata

    import av
    import torch

    from livos_cli.device import bfloat16_gain, device_name, resolve_device, resolve_precision
    from livos_cli.version import VERSION
    from livos_cli.weights.hub import drive_cache
    from livos_cli.weights.registry import HUB_VARIABLE, REGISTRY

    device = resolve_device("auto")
    packages = (
        "torch", "av", "numpy", "opencv-python", "huggingface-hub", "safetensors", "typer",
        "onnxruntime", "openvino",
    )  # fmt: skip
    versions: dict[str, str] = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    versions["torch"] = torch.__version__  # which says for what it was built
    codecs = {}
    for name in ("ffv1", "libx264", "png"):
        try:
            av.Codec(name, "w")
            codecs[name] = True
        except av.codec.codec.UnknownCodecError:
            codecs[name] = False
    found = {}
    for name, entry in REGISTRY.items():
        if entry.file is not None:
            found[name] = "built in" if entry.file.is_file() else "missing: reinstall livos"
        elif entry.mirror:
            found[name] = f"from {entry.mirror}"
        else:
            found[name] = "downloaded" if drive_cache(entry).is_file() else "not downloaded"
    gpus = [
        f"{torch.cuda.get_device_name(i)}, "
        f"{human(torch.cuda.get_device_properties(i).total_memory)}"
        for i in range(torch.cuda.device_count())
    ]
    facts: dict[str, object] = {
        "livos": VERSION,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": f"{device_name(torch.device('cpu'))}, "
        f"{torch.backends.cpu.get_cpu_capability()}"
        f", {bfloat16_gain():.1f} times as fast in bf16 as in fp32",
        "memory": human(_physical_memory()),
        "gpus": gpus,
        "default": f"{device}, {str(resolve_precision('auto', device)).split('.')[1]}",
        "packages": versions,
        "ffmpeg": av.ffmpeg_version_info,
        "encoders": codecs,
        "weights": found,
        HUB_VARIABLE: next((e.mirror for e in REGISTRY.values() if e.mirror), None),
    }
    if as_json:
        print(json.dumps(facts))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for name, what in value.items():
                shown = {True: "yes", False: "missing"}.get(what, what)
                say(f"  {name:22}{shown}")
        elif isinstance(value, list):
            say(f"{key + ':':16}{'; '.join(value) or 'none'}")
        else:
            say(f"{key + ':':16}{'not set' if value is None else value}")


def _physical_memory() -> int | None:
    import os

    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
