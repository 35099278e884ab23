"""Small videos of every kind that ffmpeg makes, and what ffmpeg itself sees in them.

A recipe is drawn from the product of container, codec, colour, orientation, rate, streams and
timestamps. `python tests/video_zoo.py --count 500 --seed 1` runs more of them than the tests do,
and prints a table.
"""

from __future__ import annotations

import argparse
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from livos_cli.errors import LivosError
from livos_cli.video.reader import open_source

FFMPEG = shutil.which("ffmpeg")
# Of the display matrix: a b c d, for a point (x, y) that is shown at (x a + y c, x b + y d).
MATRICES = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [
    (0, b, c, 0) for b in (1, -1) for c in (1, -1)
]
# container -> codecs -> pixel formats
LOSSY = ["yuv420p", "yuv422p", "yuv444p"]
CONTAINERS: dict[str, dict[str, list[str]]] = {
    "mp4": {
        "libx264": [*LOSSY, "yuv420p10le", "yuv422p10le"],
        "libx265": ["yuv420p", "yuv420p10le", "yuv444p"],
        "mpeg4": ["yuv420p"],
        "libvpx-vp9": ["yuv420p", "yuv444p"],
        "libaom-av1": ["yuv420p", "yuv420p10le"],
        "mjpeg": ["yuvj420p", "yuvj444p"],
    },
    "mov": {
        "libx264": LOSSY,
        "prores_ks": ["yuv422p10le", "yuv444p10le"],
        "mjpeg": ["yuvj422p"],
        "png": ["rgb24", "rgba"],
        "qtrle": ["rgb24"],
    },
    "mkv": {
        "libx264": [*LOSSY, "yuv420p10le"],
        "ffv1": ["yuv420p", "yuv444p10le", "bgr0", "gray", "yuv422p"],
        "mpeg2video": ["yuv420p", "yuv422p"],
        "mjpeg": ["yuvj420p"],
        "libvpx": ["yuv420p"],
    },
    "webm": {"libvpx": ["yuv420p"], "libvpx-vp9": ["yuv420p", "yuv444p"]},
    "avi": {
        "mpeg4": ["yuv420p"],
        "mjpeg": ["yuvj420p", "yuvj422p"],
        "libx264": ["yuv420p"],
        "rawvideo": ["yuv420p"],
        "huffyuv": ["yuv422p", "rgb24"],
    },
    "ts": {"libx264": [*LOSSY, "yuv420p10le"], "mpeg2video": ["yuv420p"], "libx265": ["yuv420p"]},
    "flv": {"flv": ["yuv420p"], "libx264": ["yuv420p", "yuv444p"]},
    "mpg": {"mpeg2video": ["yuv420p"]},
    "wmv": {"wmv2": ["yuv420p"], "msmpeg4": ["yuv420p"]},
    "nut": {"ffv1": ["yuv420p", "gbrp"], "mpeg4": ["yuv420p"]},
    "ogv": {"libtheora": ["yuv420p", "yuv444p"]},
    "gif": {"gif": ["pal8"]},
    "apng": {"apng": ["rgb24", "rgba", "gray"]},
    "y4m": {"rawvideo": ["yuv420p", "yuv444p"]},
    "h264": {"libx264": ["yuv420p"]},
}
RATES = ["25", "30000/1001", "24000/1001", "50", "12", "1", "1000", "1/3", "variable"]
STREAMS = ["video", "with sound", "sound first", "still first", "small first", "two videos"]
TIMES = ["from zero", "late", "negative", "gap", "long gap", "again", "again with sound", "wrap"]
SOUND = {"mp4": "aac", "mov": "aac", "mkv": "aac", "ts": "mp2", "flv": "libmp3lame", "mpg": "mp2"}
SOUND |= {"avi": "libmp3lame", "webm": "libopus", "wmv": "wmav2", "nut": "mp2", "ogv": "libvorbis"}
TWO = {"still first", "small first", "two videos"}
SEVERAL = {"mp4", "mov", "mkv", "ts", "nut"}
JOINED = {"ts", "mpg"}  # files of which several, end to end, are one
ELEMENTARY = {"gif", "apng", "y4m", "h264"}  # nothing but pictures, at a rate


@dataclass(frozen=True)
class Recipe:
    """One video."""

    container: str
    codec: str
    pix_fmt: str
    matrix: str  # bt601, bt709 or untagged
    full: bool  # range
    orientation: int  # place in MATRICES
    rate: str
    streams: str
    times: str
    frames: int
    width: int
    height: int
    interlaced: bool

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in asdict(self).items())


def draw(rng: random.Random) -> Recipe:
    """A recipe that the container can hold; half of its properties are plain."""
    container = rng.choice(sorted(CONTAINERS))
    codec = rng.choice(sorted(CONTAINERS[container]))
    pix_fmt = rng.choice(CONTAINERS[container][codec])

    def often(plain: Any, others: list[Any]) -> Any:
        return plain if rng.random() < 0.5 else rng.choice(others)

    even = "420" in pix_fmt or "422" in pix_fmt or container in ("mpg", "wmv")
    width, height = often((96, 64), [(64, 96), (128, 72), (98, 66)] + ([] if even else [(97, 65)]))
    recipe = Recipe(
        container,
        codec,
        pix_fmt,
        often("untagged", ["bt601", "bt709"]),
        often(False, [True]),
        often(0, list(range(8))) if container in ("mp4", "mov") else 0,
        often("25", RATES),
        often("video", STREAMS),
        often("from zero", TIMES),
        rng.choice([1, 2, 8, 12, 24]),
        width,
        height,
        container in ("ts", "mp4", "mkv", "mpg") and rng.random() < 0.1,
    )
    return _possible(recipe)


def _possible(recipe: Recipe) -> Recipe:
    """What the container has no way to hold is made plain."""
    container, streams, times, rate = recipe.container, recipe.streams, recipe.times, recipe.rate
    if container in ELEMENTARY or (streams in TWO and container not in SEVERAL):
        streams = "video"
    if container in ELEMENTARY:
        times = "from zero"
        rate = "25" if rate in ("variable", "1000") or container == "h264" else rate
    if times.startswith("again"):
        if container not in JOINED:
            times = "from zero"
        elif times == "again with sound":
            streams = "with sound"
    if (times == "wrap" and container != "ts") or (
        times == "negative" and container not in ("mkv", "nut")
    ):
        times = "late"
    if recipe.codec in ("mpeg2video", "msmpeg4", "wmv2", "mpeg4", "flv", "libtheora") and rate in (
        "1000",
        "1/3",
        "12",
        "1",
    ):
        rate = "25"
    if container in ("avi", "mpg", "wmv", "ogv", "flv") and rate == "variable":
        rate = "25"
    if container in ("avi", "mpg", "wmv", "ogv") and "gap" in times:
        times = "from zero"
    interlaced = recipe.interlaced and recipe.codec in ("libx264", "mpeg2video")
    frames = max(8, recipe.frames) if times not in ("from zero", "late") else recipe.frames
    if interlaced:
        frames = max(8, frames)
    plain = recipe.pix_fmt.startswith(("rgb", "bgr", "gbr", "gray", "pal", "yuvj"))
    return replace(
        recipe,
        streams=streams,
        times=times,
        rate=rate,
        interlaced=interlaced,
        frames=frames,
        matrix="untagged" if plain else recipe.matrix,
        full=False if plain else recipe.full,
    )


def run(*arguments: object) -> bytes:
    """ffmpeg; raises CalledProcessError."""
    assert FFMPEG is not None
    command = [FFMPEG, "-hide_banner", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True, timeout=20).stdout


def make(recipe: Recipe, folder: Path) -> Path:
    """The video; raises CalledProcessError where this ffmpeg cannot make it."""
    path = folder / f"a.{recipe.container}"
    part = folder / f"part.{recipe.container}" if recipe.times.startswith("again") else path
    run(*_inputs(recipe), *_maps(recipe), *_coding(recipe), part)
    if part is not path:
        path.write_bytes(part.read_bytes() * 2)
    if recipe.orientation:
        turn(path, MATRICES[recipe.orientation])
    return path


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Set the display matrix of an MP4's video tracks: those with a width."""
    data = bytearray(path.read_bytes())
    place = data.find(b"tkhd")
    while place >= 0:
        at = place + 4 + (52 if data[place + 4] else 40)
        if struct.unpack_from(">I", data, at + 36)[0]:
            a, b, c, d = (n << 16 for n in matrix)
            struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
        place = data.find(b"tkhd", place + 4)
    path.write_bytes(data)


def _inputs(recipe: Recipe) -> list[object]:
    rate = "25" if recipe.rate == "variable" else recipe.rate
    size = f"{recipe.width}x{recipe.height}"
    num, _, den = rate.partition("/")
    seconds = max(0.2, recipe.frames * int(den or 1) / int(num) + 0.001)

    def pictures(source: str, frames: int) -> list[object]:
        return ["-f", "lavfi", "-i", f"{source},trim=end_frame={frames}"]

    # Chroma at hard edges is interpolated in more than one way.
    blur = ",gblur=sigma=6" if "10le" in recipe.pix_fmt else ""
    inputs = pictures(f"testsrc2=size={size}:rate={rate}{blur}", recipe.frames)
    if recipe.streams in ("with sound", "sound first") and recipe.container in SOUND:
        inputs += ["-f", "lavfi", "-t", f"{seconds:.3f}", "-i", "sine=frequency=440"]
    elif recipe.streams == "still first":
        inputs += pictures("color=red:size=96x64:rate=25", 1)
    elif recipe.streams == "small first":
        inputs += pictures(f"testsrc=size=48x32:rate={rate}", recipe.frames)
    elif recipe.streams == "two videos":
        inputs += pictures(f"testsrc=size={size}:rate={rate}", recipe.frames)
    return inputs


def _maps(recipe: Recipe) -> list[object]:
    """Streams in order, and when they are."""
    second = recipe.streams in ("still first", "small first")
    place = 1 if second else 0
    how: list[object] = []
    if recipe.streams == "video":
        how += ["-map", "0:v"]
    elif recipe.streams in ("with sound", "sound first"):
        sound = ["-map", "1:a", "-c:a", SOUND[recipe.container]]
        picture = ["-map", "0:v"]
        how += [*sound, *picture] if recipe.streams == "sound first" else [*picture, *sound]
        if recipe.container in ("mkv", "ogv"):
            how += ["-ar", "48000"]
    elif second:
        how += ["-map", "1:v", "-map", "0:v"]
    else:
        how += ["-map", "0:v", "-map", "1:v"]
    if recipe.streams == "small first":  # muxers mark the first as meant by default
        how += ["-disposition:v:0", 0, "-disposition:v:1", "default"]
    filters = [_stamps(recipe)]
    if recipe.interlaced:
        filters.append("setfield=tff")
    filters = [text for text in filters if text]
    if filters:
        how += [f"-filter:v:{place}", ",".join(filters)]
    if recipe.rate == "variable" or "gap" in recipe.times:
        how += ["-fps_mode", "passthrough"]
    if recipe.times == "late":
        how += ["-output_ts_offset", "3.2"]
    elif recipe.times == "negative":
        how += ["-output_ts_offset", "-0.2", "-avoid_negative_ts", "disabled"]
    elif recipe.times == "wrap":
        how += ["-output_ts_offset", "95443.4"]
    return how


def _stamps(recipe: Recipe) -> str:
    if recipe.rate == "variable":
        return "settb=1/1000,setpts=N*40+7*mod(N\\,3)+100*gte(N\\,5)"
    if recipe.times == "gap":
        return "setpts=PTS+gte(N\\,4)*2/TB"
    if recipe.times == "long gap":
        return "setpts=PTS+gte(N\\,4)*60/TB"
    return ""


def _coding(recipe: Recipe) -> list[object]:
    bframes = 0 if recipe.times == "negative" else 2  # of those, Matroska loses times before zero
    codec = "wrapped_avframe" if recipe.container == "y4m" else recipe.codec
    how: list[object] = ["-c:v", codec, "-pix_fmt", recipe.pix_fmt]
    how += {
        "libx264": ["-preset", "ultrafast", "-bf", bframes, "-g", 6, "-crf", 16],
        "libx265": ["-preset", "ultrafast", "-x265-params", "log-level=none:keyint=6"],
        "libvpx": ["-deadline", "realtime", "-cpu-used", 8, "-b:v", "1M"],
        "libvpx-vp9": ["-deadline", "realtime", "-cpu-used", 8, "-b:v", "1M"],
        "libaom-av1": ["-cpu-used", 8, "-usage", "realtime", "-b:v", "1M"],
    }.get(recipe.codec, ["-q:v", 3] if recipe.codec not in LOSSLESS else [])
    if recipe.interlaced:
        how += ["-flags", "+ildct+ilme"]
    if recipe.matrix != "untagged":
        space = {"bt601": "smpte170m", "bt709": "bt709"}[recipe.matrix]
        how += ["-colorspace", space, "-color_primaries", space, "-color_trc", space]
    if recipe.full:
        how += ["-color_range", "pc"]
    if recipe.container in ("mp4", "mov") and recipe.codec == "libx265":
        how += ["-tag:v", "hvc1"]
    return [*how, "-strict", "-2", "-metadata", "title=zoo"] + (
        ["-plays", 1] if recipe.container == "apng" else []
    )


LOSSLESS = {"ffv1", "rawvideo", "huffyuv", "png", "apng", "gif", "qtrle", "prores_ks"}


@dataclass
class Seen:
    """What a decoder makes of a video."""

    pictures: list[np.ndarray]  # (H, W, 3) uint8 RGB
    times: list[float]  # seconds from the first


def reference(path: Path, stream: int, *, as_is: bool = False) -> Seen:
    """All frames of video stream number `stream`, decoded by the program.

    With `as_is` at the file's own times: ffmpeg takes a gap within a transport stream for another
    stream, and crowds the frames after it together.
    """
    how = ["-map", f"0:v:{stream}", "-fps_mode", "passthrough", "-enc_time_base", -1]
    with tempfile.TemporaryDirectory() as folder:
        raw, log = Path(folder, "a.rgb"), Path(folder, "a.txt")
        run(
            *(["-copyts"] if as_is else []), "-i", path,
            *how, "-sws_flags", "bilinear", "-pix_fmt", "rgb24", "-f", "rawvideo", raw,
            *how, "-f", "framemd5", log,
        )  # fmt: skip
        text = log.read_text()
        data = np.fromfile(raw, np.uint8)
    base, size = 1.0, (0, 0)
    stamps = []
    for line in text.splitlines():
        if line.startswith("#tb"):
            num, den = line.split(":")[1].split("/")
            base = int(num) / int(den)
        elif line.startswith("#dimensions"):
            width, height = line.split(":")[1].split("x")
            size = int(height), int(width)
        elif not line.startswith("#"):
            stamps.append(int(line.split(",")[2]) * base)
    pictures = list(data.reshape(-1, *size, 3))
    return Seen(pictures, [stamp - stamps[0] for stamp in stamps])


def read(path: Path, **how: Any) -> tuple[Seen, list[str]]:
    """All frames as livos sees them, and its warnings."""
    with open_source(path, **how) as source:
        frames = [(frame.rgb, frame.time) for frame in source]
        return Seen([rgb for rgb, _ in frames], [time for _, time in frames]), source.warnings


# Mean difference of 0 to 255 that two conversions of the same picture may have: chroma is
# interpolated and rounded in more than one way. A wrong matrix, range or turn differs by more.
CLOSE = 2.0


SOON = 0.002  # seconds by which a frame may be early or late: some containers' clocks are coarse
JOINT = 0.03  # where files were joined: no packet of sound is cut, so a part may begin a bit later


def differences(got: Seen, want: Seen, *, soon: float = SOON) -> list[str]:
    """What differs from the reference."""
    found = []
    if len(got.pictures) != len(want.pictures):
        return [f"{len(got.pictures)} frames, not {len(want.pictures)}"]
    if got.pictures[0].shape != want.pictures[0].shape:
        return [f"shape {got.pictures[0].shape}, not {want.pictures[0].shape}"]
    off = [
        float(np.abs(a.astype(int) - b).mean())
        for a, b in zip(got.pictures, want.pictures, strict=True)
    ]
    if max(off) > CLOSE:
        found.append(f"pixels differ by {max(off):.1f} at frame {int(np.argmax(off))}")
    late = np.abs(np.array(got.times) - want.times)
    if late.max() > soon:
        found.append(f"time differs by {late.max():.3f} s at frame {int(late.argmax())}")
    return found


@dataclass
class Verdict:
    """How a video was read."""

    kind: str  # right, warned, refused or wrong; unmade if there is no reference
    why: str


def judge(recipe: Recipe, folder: Path) -> Verdict:
    """Make a video, read it, and compare."""
    try:
        path = make(recipe, folder)
        moving = recipe.streams in ("still first", "small first")
        if recipe.streams == "still first" and recipe.frames == 1:
            moving = False  # two stills
        want = reference(path, int(moving), as_is=recipe.times == "long gap")
        if recipe.times == "negative" and recipe.rate != "variable":
            # Times before zero are lost in Matroska; ffmpeg guesses them, and guesses unevenly.
            rate = Fraction(recipe.rate)
            want.times = [float(number / rate) for number in range(len(want.times))]
    except (subprocess.CalledProcessError, ValueError, IndexError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        return Verdict("unmade", said.decode(errors="replace").strip().splitlines()[-1][:120])
    try:
        got, warnings = read(path)
    except LivosError as error:
        one_line = "\n" not in error.message
        return Verdict("refused" if one_line else "wrong", f"{error.message} - {error.hint}")
    off = differences(got, want, soon=JOINT if recipe.times.startswith("again") else SOON)
    if off:
        return Verdict("wrong", "; ".join([*off, *warnings]))
    return Verdict("warned" if warnings else "right", "; ".join(warnings))


def sample(count: int, seed: int) -> Iterator[Recipe]:
    """Recipes, none twice."""
    rng, seen = random.Random(seed), set()
    while len(seen) < count:
        recipe = draw(rng)
        if recipe not in seen:
            seen.add(recipe)
            yield recipe


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the videos that are read wrong")
    parser.add_argument("--verbose", action="store_true", help="say why, for each warned, too")
    options = parser.parse_args()
    table: Counter[tuple[str, str]] = Counter()
    for number, recipe in enumerate(sample(options.count, options.seed)):
        with tempfile.TemporaryDirectory() as folder:
            try:
                verdict = judge(recipe, Path(folder))
            except Exception as error:
                verdict = Verdict("wrong", f"{type(error).__name__}: {error}")
            table[recipe.container, verdict.kind] += 1
            if verdict.kind == "wrong" or (options.verbose and verdict.kind != "right"):
                print(f"{number} {verdict.kind}: {verdict.why}\n    {recipe}", flush=True)
            if verdict.kind == "wrong" and options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                made = Path(folder) / f"a.{recipe.container}"
                if made.exists():
                    shutil.copy(made, options.keep / f"{number}.{recipe.container}")
    kinds = ["right", "warned", "refused", "wrong", "unmade"]
    print(f"{'':10}" + "".join(f"{kind:>9}" for kind in kinds))
    for container in [*sorted(CONTAINERS), ""]:
        row = [
            sum(n for (c, k), n in table.items() if k == kind and container in (c, ""))
            for kind in kinds
        ]
        print(f"{container or 'all':10}" + "".join(f"{n:9}" for n in row))
    return int(any(kind == "wrong" for _, kind in table))


if __name__ == "__main__":
    sys.exit(main())
