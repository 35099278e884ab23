"""Kinds that carry the picture, or the probability: overlay, alpha, matte, cutout."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from livos_cli.errors import OutputError
from livos_cli.outputs.encoder import Encoding, VideoSink
from livos_cli.outputs.mask_video import FFV1_OPTIONS, FileAFrame, aspect_warning, grey_picture
from livos_cli.outputs.overlay import draw_overlay
from livos_cli.outputs.sink import Decided, Job, Stdout, cannot_write
from livos_cli.video.colour import from_rgb, picture_of, planar, rgb_of, with_alpha
from livos_cli.video.source import Frame, SourceInfo

__all__ = ["AlphaPngs", "AlphaVideo", "Cutout", "MatteVideo", "OverlayVideo", "composite"]

CPU_AVX_512F = 13  # OpenCV's number of it
# x264's AVX-512 code for its look-ahead gives other bits from run to run (seen with x264 in PyAV
# 18.1 on AMD Zen 4); without it, encoding the same pictures twice gives the same file.
WITHOUT_AVX512 = "asm=mmx2,sse,sse2,sse3,ssse3,sse4.1,sse4.2,avx,fma3,bmi1,bmi2,avx2"

ROWS = 256  # rows that are composited at a time: the sums need 32 bits


def _h264(name: str, info: SourceInfo) -> tuple[Encoding, list[str]]:
    """H.264 in the source's depth. 4:2:0 needs even sides; an odd size takes 4:4:4."""
    even = info.width % 2 == 0 and info.height % 2 == 0
    deep = info.depth > 8
    pix_fmt = ("yuv420p" if even else "yuv444p") + ("10le" if deep else "")
    warnings = []
    if not even:
        warnings.append(
            f"{name}: {info.width}x{info.height} is odd, so the colour is 4:4:4; "
            "some players and editors do not open that"
        )
    if deep:
        warnings.append(f"{name}: H.264 of 10 bits, as the source; not every player opens that")
    options = {"crf": "18", "preset": "veryfast"}
    if cv2.checkHardwareSupport(CPU_AVX_512F):
        options["x264-params"] = WITHOUT_AVX512
    return Encoding("mp4", "libx264", pix_fmt, options, sound=True, colour=True), warnings


class OverlayVideo(VideoSink):
    """H.264: the objects tinted and outlined over the video, with its sound."""

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        self._how, warnings = _h264(path.name, job.info)
        super().__init__(path, job.info, self._how)
        self.warnings += warnings
        self._job = job

    def picture(self, frame: Frame, decided: Decided) -> Any:
        rgb = rgb_of(frame, self._info)
        drawn = draw_overlay(rgb, decided.ids, self._job.look, self._job.names)
        return from_rgb(drawn, self._how.pix_fmt, self._info)


class Cutout(VideoSink):
    """H.264: the objects alone, on one colour, with the video's sound."""

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        self._how, warnings = _h264(path.name, job.info)
        super().__init__(path, job.info, self._how)
        self.warnings += warnings
        self._background = job.options.background

    def picture(self, frame: Frame, decided: Decided) -> Any:
        assert decided.matte is not None
        rgb = composite(rgb_of(frame, self._info), decided.matte, self._background)
        return from_rgb(rgb, self._how.pix_fmt, self._info)


def composite(rgb: np.ndarray, matte: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Lay a picture over a colour.

    Args:
        rgb: (H, W, 3) uint8 or uint16.
        matte: (H, W) uint16, 65535 where the picture is.
        background: RGB, 0 to 255 each.

    Returns:
        Like `rgb`; blended as the values are, without going to linear light.
    """
    scale = 257 if rgb.dtype == np.uint16 else 1
    colour = np.array(background, np.uint32) * scale
    out = np.empty_like(rgb)
    for top in range(0, rgb.shape[0], ROWS):
        rows = slice(top, top + ROWS)
        on = matte[rows, :, None].astype(np.uint32)
        # At most 65535 squared and a half: 32 bits hold it.
        out[rows] = (rgb[rows] * on + colour * (65535 - on) + 32767) // 65535
    return out


PRORES = Encoding(
    "mov",
    "prores_ks",
    "yuva444p10le",
    {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"},
    sound=True,
    colour=True,
)
VP9 = Encoding(
    "webm",
    "libvpx-vp9",
    "yuva420p",
    # Alternate reference frames and alpha exclude each other in libvpx.
    {"crf": "20", "b": "0", "auto-alt-ref": "0", "deadline": "good", "cpu-used": "4"}
    | {"row-mt": "1"},
    sound=True,
    colour=True,
)


class AlphaVideo(VideoSink):
    """Straight (not premultiplied) colour, and the probability as alpha: ProRes 4444 or VP9."""

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        self._how = VP9 if job.options.alpha_codec == "vp9" else PRORES
        super().__init__(path, job.info, self._how)
        if self._how is VP9 and job.info.depth > 8:
            self.warnings.append(
                f"{path.name}: VP9 with alpha has 8 bits, the source {job.info.depth}; "
                "--alpha-codec prores keeps 10"
            )

    def picture(self, frame: Frame, decided: Decided) -> Any:
        assert decided.matte is not None
        picture = picture_of(frame, self._how.pix_fmt.replace("yuva", "yuv"), self._info)
        bits = 8 if self._how is VP9 else 10
        return with_alpha(picture, _reduce(decided.matte, bits))

    def finish(self, trailing_audio: Iterable[Any] = ()) -> None:
        super().finish(trailing_audio)
        self._check_alpha()

    def _check_alpha(self) -> None:
        """Decode all of it again: editors are less forgiving than the container."""
        target = self._partial.target
        assert isinstance(target, Path)
        try:
            frames, clear = _decode_alpha(target, "libvpx-vp9" if self._how is VP9 else "prores")
        except (av.error.FFmpegError, OSError) as error:
            raise cannot_write(self._partial.path, error) from None
        self._partial.check(frames)
        if clear:
            raise OutputError(
                f"{self._partial.path}: {clear} frames came out without alpha; nothing was kept",
                "please report this, with the output of `livos info`",
            )


def _decode_alpha(path: Path, decoder: str) -> tuple[int, int]:
    """How many frames a file decodes to, and how many of them have no alpha plane."""
    # FFmpeg's own VP9 decoder leaves alpha out: the codec is chosen by name.
    context: Any = av.CodecContext.create(decoder, "r")
    context.thread_type = "AUTO"
    frames = clear = 0
    with av.open(str(path.absolute())) as container:
        stream: Any = container.streams.video[0]
        context.extradata = stream.codec_context.extradata
        context.codec_tag = stream.codec_context.codec_tag
        context.width, context.height = stream.width, stream.height
        packets: list[Any] = []
        for packet in container.demux(video=0):
            packets = context.decode(packet if packet.size else None)
            frames += len(packets)
            clear += sum(not p.format.name.startswith("yuva") for p in packets)
    return frames, clear


class AlphaPngs(FileAFrame):
    """A folder of RGBA PNGs, straight colour; 16 bits where the source has more than 8."""

    def content(self, frame: Frame, decided: Decided) -> bytes:
        assert decided.matte is not None
        rgb = rgb_of(frame, self._job.info)
        deep = rgb.dtype == np.uint16
        alpha = decided.matte if deep else _reduce(decided.matte, 8)
        return cv2.imencode(".png", np.dstack([rgb[..., ::-1], alpha]))[1].tobytes()


class MatteVideo(VideoSink):
    """The probability of any object, grey: FFV1 of 8 or 16 bits, or ProRes of 10."""

    def __init__(self, path: Path | Stdout, job: Job) -> None:
        codec = job.options.matte_codec
        self._bits = {"ffv1": 8, "ffv1-16": 16, "prores": 10}[codec]
        if codec == "prores":
            how = Encoding("mov", "prores_ks", "yuv422p10le", {"profile": "hq", "vendor": "apl0"})
        else:
            pix_fmt = "gray16le" if self._bits == 16 else "gray"
            how = Encoding("matroska", "ffv1", pix_fmt, FFV1_OPTIONS)
        super().__init__(path, job.info, how)
        if codec != "prores":
            self.warnings += aspect_warning(path.name, job.info)

    def picture(self, frame: Frame, decided: Decided) -> Any:
        assert decided.matte is not None
        if self._bits != 10:
            return grey_picture(_reduce(decided.matte, self._bits))
        height, width = decided.matte.shape
        # Limited range, as editors expect of ProRes: black is 64, white 940.
        luma = 64 + (decided.matte.astype(np.uint32) * 876 + 32767) // 65535
        grey = np.full((height, (width + 1) // 2), 512, np.uint16)
        picture = planar("yuv422p10le", [luma.astype(np.uint16), grey, grey])
        picture.color_range, picture.colorspace = ColorRange.MPEG, Colorspace.ITU709
        return picture


def _reduce(matte: np.ndarray, bits: int) -> np.ndarray:
    """16 bits to fewer, rounded; full range stays full range."""
    if bits == 16:
        return matte
    top = (1 << bits) - 1
    reduced = (matte.astype(np.uint32) * top + 32767) // 65535
    return reduced.astype(np.uint8 if bits == 8 else np.uint16)
