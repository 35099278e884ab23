"""Small real files, made with real encoders, for the tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from livos_cli.training.procedural import render
from livos_cli.video.colour import BT2020, KNOWS_BT2020, in_bt2020


def scene(height: int, width: int, frames: int, objects: int = 1, seed: int = 0) -> list[Any]:
    """(rgb, ids) a frame."""
    rng = np.random.default_rng(seed)
    return list(render(rng, height, width, frames, objects, radius=(0.2, 0.25)))


def write_video(
    path: Path,
    images: list[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pts: list[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    rate: Fraction = Fraction(25),
    options: dict[str, str] | None = None,
    rotation: int = 0,
    tone: bool = False,
    sound: str = "aac",
    tone_format: str = "fltp",
    matrix: int | None = None,
    full_range: bool = False,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode RGB images; `tone` adds sound, `rotation` a display matrix."""
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", format=container, options=container_options or {}) as out:
        stream: Any = out.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = stream.codec_context.time_base = time_base
        if rotation:
            stream.set_display_rotation(rotation)
        if matrix is not None:
            stream.codec_context.colorspace = matrix
            stream.codec_context.color_range = 2 if full_range else 1
        audio: Any = out.add_stream(sound, rate=48000) if tone else None
        if audio is not None:
            audio.layout = "mono"
        for index, image in enumerate(images):
            frame: Any = av.VideoFrame.from_ndarray(image, format="rgb24")
            if matrix is not None:
                if matrix in BT2020 and not KNOWS_BT2020:
                    frame = in_bt2020(image)
                frame = frame.reformat(
                    format=pix_fmt, dst_colorspace=matrix, dst_color_range=2 if full_range else 1
                )
                frame.colorspace = matrix
            frame.pts = pts[index] if pts else index
            frame.time_base = time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if audio is not None:
            seconds = (pts[-1] if pts else len(images)) * time_base
            for index in range(int(seconds * 48000) // 1024):
                wave = np.sin(np.arange(1024) / 20 + index).astype(np.float32)[None] * 0.1
                if tone_format == "s16":
                    wave = (wave * 32767).astype(np.int16)
                piece: Any = av.AudioFrame.from_ndarray(wave, format=tone_format, layout="mono")
                piece.sample_rate, piece.pts = 48000, index * 1024
                piece.time_base = Fraction(1, 48000)
                out.mux(audio.encode(piece))
            out.mux(audio.encode(None))
    return path


def write_png(path: Path, array: np.ndarray, format: str) -> Path:
    """One PNG: format gray, gray16be, rgb24, rgba, or pal8 with the DAVIS palette."""
    from livos_cli.masks.palette import DAVIS_PALETTE

    picture: Any
    if format == "pal8":
        palette = np.full((256, 4), 255, np.uint8)
        palette[:, 1:] = DAVIS_PALETTE
        both: Any = (np.ascontiguousarray(array), palette)
        picture = av.VideoFrame.from_ndarray(both, format="pal8")
    else:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format=format)
    encoder: Any = av.CodecContext.create("png", "w")
    encoder.width, encoder.height = picture.width, picture.height
    encoder.pix_fmt, encoder.time_base = format, Fraction(1, 25)
    picture.pts = 0
    packets = [*encoder.encode(picture), *encoder.encode(None)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes(packet) for packet in packets))
    return path


def decode(path: Path, format: str = "gray") -> list[np.ndarray]:
    """Every frame of a video."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format=format) for frame in container.decode(video=0)]


def times(path: Path) -> list[Fraction]:
    """Presentation times of every frame, seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def files(folder: Path) -> dict[str, bytes]:
    """All files under a folder, by their path in it."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def visible(name: str) -> bool:
    """Whether no part of a path is hidden."""
    return not any(part.startswith(".") for part in Path(name).parts)
