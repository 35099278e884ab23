"""What a video can be opened from: a file, standard input, a URL; bare pictures too."""

from __future__ import annotations

import os
import re
import select
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av

from livos_cli.errors import InputError
from livos_cli.memory import out_of_memory, too_little_memory
from livos_cli.options import RawVideo
from livos_cli.redact import HIDDEN, redact
from livos_cli.video.images import missing_hint

__all__ = [
    "PATIENCE",
    "Stdin",
    "check_content",
    "check_exists",
    "interruptible",
    "is_url",
    "open_container",
    "reason_of",
    "stem_of",
]

# Formats of files that hold what they show. Playlists and the like are none of them: they name
# other files, which would be read and end up in the result. Of each demuxer one name.
FORMATS = (
    "3dostr,4xm,aac,anm,apng,apv,asf,asf_o,av1,avi,avs2,avs3,bethsoftvid,bfi,bink,bmv,c93,"
    "cavsvideo,cdxl,cine,dhav,dirac,dsicin,dv,dxa,ea,evc,f4v,film_cpk,filmstrip,fits,flac,flic,"
    "flv,gdv,gif,gxf,h261,h263,h264,hevc,hnm,idcin,iff,image2,ipmovie,ipu,iv8,ivf,ivr,jpegxl_anim,"
    "jv,kux,live_flv,lmlm4,luodat,lvf,lxf,m4v,matroska,mjpeg,mjpeg_2000,mlv,mm,moflex,mov,mp3,mpeg,"
    "mpegts,mpegvideo,mpjpeg,mtv,mv,mvi,mxf,mxg,nsv,nut,nuv,obu,ogg,paf,pdv,pmp,psxstr,pva,r3d,"
    "rawvideo,rl2,rm,roq,rpl,sdr2,ser,sga,siff,simbiosis_imx,smjpeg,smk,smush,swf,thp,tiertexseq,"
    "tmv,txd,ty,usm,vc1,vc1test,vividas,vivo,vmd,vvc,wav,wc3movie,webp,wtv,xmv,yop,yuv4mpegpipe,"
    "bmp_pipe,cri_pipe,dds_pipe,dpx_pipe,exr_pipe,gem_pipe,gif_pipe,hdr_pipe,j2k_pipe,jpeg_pipe,"
    "jpegls_pipe,jpegxl_pipe,jpegxs_pipe,pam_pipe,pbm_pipe,pcx_pipe,pfm_pipe,pgm_pipe,pgmyuv_pipe,"
    "pgx_pipe,phm_pipe,photocd_pipe,pictor_pipe,png_pipe,ppm_pipe,psd_pipe,qdraw_pipe,qoi_pipe,"
    "sgi_pipe,sunrast_pipe,tiff_pipe,vbn_pipe,webp_pipe,xbm_pipe,xpm_pipe,xwd_pipe"
)
# What is here is read as it is: no other files, and no pattern in its name.
LOCAL = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "pattern_type": "none"}
PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<MPD", b"<SmoothStreamingMedia", b"v=0", b"[playlist]")
HEAD = 4096  # bytes that tell a playlist

PATIENCE = 20  # seconds without a byte from the network until it counts as gone


def is_url(source: str | Path) -> bool:
    """Whether it is a network stream rather than a file: `rtsp://…`, `tcp://…`, `https://…`."""
    # Of a batch, thousands are asked about: most are told apart without an expression.
    return (
        isinstance(source, str)
        and "://" in source
        and re.match(r"[a-z][a-z0-9+.-]+://", source) is not None
    )


def check_exists(source: str | Path) -> None:
    """Raises InputError if there is nothing to open at all."""
    path = Path(source)
    if str(source) == "-" or is_url(source):
        return
    if not path.exists():
        hint = missing_hint(path) or "check the path of the video"
        raise InputError(f"{path} does not exist", hint)
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)", "was it copied or downloaded completely?")


def _is_remote(label: str) -> bool:
    return "://" in label and not label.startswith("file:")


def check_content(path: Path) -> None:
    """Raises InputError for a file of which its first bytes tell that it cannot be used."""
    if not path.is_file():
        return  # a pipe: what is read of it is gone
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return  # said when it is opened
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(PLAYLISTS) or (text.startswith(b"<?xml") and b"<MPD" in text):
        raise InputError(
            f"{path} is a playlist: it names other files, which are not read",
            f"give those, or join them first: ffmpeg -i {path.name} -c copy joined.mkv",
        )
    # RIFF, its size, WEBP; then VP8X, its size, and flags.
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2:
        raise InputError(
            f"{path} is an animated WebP, which FFmpeg does not decode",
            f"convert it first, with ImageMagick say: magick {path.name} {path.stem}.gif",
        )


def stem_of(label: str) -> str:
    """What outputs of a stream are called: its URL's last part, or stdin."""
    # Without who signs in: that must not become a name.
    place = redact(label).split("://", 1)[-1].split("?")[0].removeprefix(f"{HIDDEN}@")
    tail = place.rstrip("/").rsplit("/", 1)[-1]
    return re.sub(r"[^\w.-]", "_", tail).rsplit(".", 1)[0] or "stream"


def open_container(place: Any, label: str, raw: RawVideo | None, *, live: bool) -> Any:
    """The container, or an InputError that says what is wrong."""
    how: dict[str, Any] = {"options": {} if _is_remote(label) else dict(LOCAL)}
    if raw is not None:
        how["format"] = "rawvideo"
        how["options"] |= {
            "video_size": f"{raw.width}x{raw.height}",
            "pixel_format": raw.pix_fmt,
            "framerate": raw.fps,
        }
    elif not live and "%" in Path(label).name:
        how["options"] = {"pattern_type": "none"}  # the file of this name, no others like it
    if "://" in label and live:
        how["timeout"] = (PATIENCE, PATIENCE)  # to open, and for each read
    try:
        return av.open(place, **how)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if out_of_memory(error):
            raise too_little_memory(f"to open {label}") from None
        if isinstance(error, PermissionError):
            raise InputError(f"{label} may not be read", "check its permissions") from None
        if isinstance(error, av.error.ArgumentError) and raw is None and not _is_remote(label):
            raise InputError(
                f"{label} is of a format that is not read as a video",
                "is it a video file? `ffprobe` shows what it is",
            ) from None
        hint = "is it a video file, and complete? `ffprobe` shows what it is"
        if raw is not None:
            hint = "check --size, --pix-fmt (FFmpeg's names) and --fps"
        elif live:
            hint = "pipe a streamable container (Matroska, MPEG-TS, fragmented MP4)"
            if "://" in label:
                hint = "is it running, and can this machine reach it?"
        raise InputError(f"{label} cannot be read as a video ({reason_of(error)})", hint) from None


def interruptible(work: Callable[[], None], cancel: Callable[[], None]) -> None:
    """Do what may wait for input in a thread of its own, and raise here what it raises.

    An interruption inside of a read that FFmpeg asked for would be taken for the input's end.

    Args:
        work: what to do.
        cancel: called on an interruption, to make the read return.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name="livos-open", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
    except BaseException:
        cancel()
        thread.join(2)
        raise
    if errors:
        raise errors[0]


class Stdin:
    """Standard input as a file object whose reading can be stopped from another thread."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        if sys.stdin is None:
            raise InputError("stdin is closed", "pipe a video into it")
        self._fd = sys.stdin.fileno()

    def read(self, size: int) -> bytes:
        # Windows cannot wait for pipes; there a closed run waits for the other end.
        while os.name != "nt" and not select.select([self._fd], [], [], 0.2)[0]:
            if self.stop.is_set():
                return b""
        return os.read(self._fd, size)


def reason_of(error: BaseException) -> str:
    """A library's error in few words, without paths and numbers of its own."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:120]
