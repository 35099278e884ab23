"""One video and its project, open: what there is to see."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from livos_cli.errors import OutputError, UsageError
from livos_cli.files.lock import locked
from livos_cli.interactive.clicks import ClickPredictor, load_networks
from livos_cli.masks.reference_masks import ReferenceMasks
from livos_cli.masks.single_mask import frame_of_single
from livos_cli.network.clicks import ClickNet
from livos_cli.network.livos import LiVOS
from livos_cli.options import SegmentOptions
from livos_cli.outputs.sink import DOUBTFUL
from livos_cli.pipeline.fingerprint import exactly, of_run, of_source
from livos_cli.ui.chain import Chain
from livos_cli.ui.events import Events
from livos_cli.ui.marks import Marks, marks_file, read_marks
from livos_cli.ui.pictures import Pictures
from livos_cli.ui.project import Project
from livos_cli.ui.tracked import Tracked
from livos_cli.video.address import Address
from livos_cli.video.random_access import open_random_access
from livos_cli.weights.load import load_located
from livos_cli.weights.locate import sha256_of

__all__ = ["Network", "OpenProject", "members", "shown"]

PREDICTORS = 2  # frames whose features are kept for clicks


def shown(name: object) -> str:
    """A name as text; bytes that are none are replaced."""
    return os.fsencode(str(name)).decode(errors="replace")


def members(ids: np.ndarray, wanted: Iterable[int]) -> np.ndarray:
    """Which pixels of (H, W) uint8 are of one of these objects: (H, W) bool."""
    table = np.zeros(256, np.uint8)
    table[[i for i in wanted if i]] = 1
    return np.asarray(cv2.LUT(ids, table)).view(bool)


@dataclass(frozen=True)
class Network:
    """What tracks."""

    weights: str
    device: str
    precision: str
    max_size: int | None


class OpenProject:
    """An open project. All methods can be called from any thread.

    Args:
        video: path of a file or a folder of images.
        folder: of the project.
        network: what tracks.
        masks: key masks of another tool that begin a new project.

    Raises:
        LivosError: the video or a mask cannot be used, or the project is open elsewhere.
    """

    def __init__(
        self, video: str, folder: Path, network: Network, masks: Path | None = None
    ) -> None:
        self.video_path, self.network, self.events = video, network, Events()
        self.changing = threading.RLock()  # what is changed in the project
        # Called before masks or ends change: whoever reads them stops, or this raises.
        self.before_change: Callable[[], None] = lambda: None
        self._stack = ExitStack()
        with ExitStack() as stack:
            self.video = open_random_access(video)
            stack.callback(self.video.close)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"cannot make {folder} ({error.strerror})", "give another place with -o"
                ) from None
            stack.enter_context(locked(folder))
            self.info, self.count = self.video.info, self.video.count
            self.project = Project(folder, video, self.info)
            self._stamp = of_source(Path(video))
            self.warnings = list(self.project.warnings)
            if masks is not None:
                self._import(masks)
            self.tracked = Tracked(self.project.own / "tracked")
            small = (
                self.project.own / "small" / hashlib.sha256(self._stamp.encode()).hexdigest()[:16]
            )
            self.pictures = Pictures(
                self.video, small, lambda n: self.events.tell("thumb", frame=n)
            )
            stack.callback(self.pictures.close)
            self._stack = stack.pop_all()
        self._predictors: OrderedDict[int, ClickPredictor] = OrderedDict()
        self._clicking = threading.Lock()
        self._loading = threading.Lock()
        self._loaded: tuple[LiVOS, str] | None = None
        self._clicks: tuple[LiVOS, ClickNet] | None = None

    def close(self) -> None:
        """Let go of everything; nothing is lost."""
        self.events.close()
        self._stack.close()

    @contextmanager
    def editing(self) -> Iterator[None]:
        """While the project is changed: nobody else does, and key masks are as they are on disk."""
        with self.changing:
            project = self.project
            before = project.keys, project.settings
            project.refresh()
            if before != (project.keys, project.settings):
                self.tell_change(None)
            yield

    # What is shown

    def model(self) -> tuple[LiVOS, str]:
        """The network that tracks, and the digest of its file; loaded when it is first wanted."""
        with self._loading:
            if self._loaded is None:
                own = self.network
                model, path = load_located(own.weights, device=own.device, precision=own.precision)
                self._loaded = model, sha256_of(path)
            return self._loaded

    @property
    def options(self) -> SegmentOptions:
        """How it is tracked."""
        return SegmentOptions(max_size=self.network.max_size, trust_mask=True)

    @property
    def limits(self) -> tuple[int, int]:
        """First frame of the range, and the one after its last."""
        first, end = self.project.settings.range or (0, self.count)
        return max(0, first), min(end, self.count)

    def chain(self) -> Chain | None:
        """The chain of the project as it is; None while there is no mask."""
        model, digest = self.model()
        inputs = of_run(self._stamp, self.options, digest, matte=False, exact=exactly(model))
        with self.changing:
            project = self.project
            try:
                return Chain.of(inputs, project.keys, project.settings.drops, self.limits)
            except UsageError:
                return None

    def ids(self, frame: int) -> np.ndarray:
        """What is shown in a frame, (H, W) uint8: up to date, or the best there is."""
        with self.changing:
            chain, key = self.chain(), self.project.key(frame)
        link = None
        if chain is not None and chain.first <= frame < chain.end:
            link = chain.at(frame)
        newest = self.tracked.newest(frame, link)
        found = None if newest is None else self.tracked.read(newest, frame)
        if found is not None and newest == link:
            return found.ids
        ids = np.zeros((self.info.height, self.info.width), np.uint8)
        if found is not None:  # it may show what was removed since
            ids = found.ids.copy()
            known = {one.id for one in self.project.settings.objects}
            if gone := {int(i) for i in np.flatnonzero(found.areas)} - known - {0}:
                ids[members(ids, gone)] = 0
        if key is not None:
            if found is None:
                return key.copy()
            ids[members(ids, self.project.objects_of(frame))] = 0
            cv2.copyTo(key, key, ids)
        return ids

    def told(self) -> dict[str, Any]:
        """The project as the page shows it."""
        project, info = self.project, self.info
        settings, history = project.settings, project.history
        undo, redo = history.undoable, history.redoable
        return {
            "video": shown(Path(self.video_path).resolve().name),
            "folder": shown(project.folder),
            "width": info.width,
            "height": info.height,
            "aspect": float(info.sample_aspect_ratio or 1),
            "frames": self.count,
            "rate": float(info.rate),
            "range": list(self.limits),
            "objects": [vars(one) for one in settings.objects],
            "drops": [[drop.object_id, drop.frame] for drop in settings.drops],
            "keys": list(project.keys),
            "locked": list(settings.locked),
            "undo": None if undo is None else undo.label,
            "redo": None if redo is None else redo.label,
            "doubtful": DOUBTFUL,
            "weights": self.network.weights,
        }

    def timeline(self) -> dict[str, Any]:
        """Of every frame: is there a result, and its numbers."""
        return self.tracked.told(self.chain(), self.count)

    def marks(self, frame: int) -> dict[int, Marks]:
        """What was marked on a frame, by object."""
        return read_marks(self._marks_path(frame))

    def _marks_path(self, frame: int) -> Path:
        return self.project.folder / self._marks_name(frame)

    def _marks_name(self, frame: int) -> str:
        return marks_file(self.project.own, self.project.folder, frame)

    # For what changes it

    def check_frame(self, frame: int) -> None:
        """Raises UsageError where there is no such frame."""
        if not 0 <= frame < self.count:
            raise UsageError(f"there is no frame {frame}", f"there are {self.count}")

    def _predictor(self, frame: int) -> ClickPredictor:
        with self._clicking:
            predictor = self._predictors.pop(frame, None)
            if predictor is None:
                if self._clicks is None:
                    self._clicks = load_networks(self.network.weights)
                predictor = ClickPredictor(*self._clicks, self.pictures.exact(frame))
            self._predictors[frame] = predictor
            while len(self._predictors) > PREDICTORS:
                self._predictors.popitem(last=False)
            return predictor

    def prepare(self, frame: int) -> None:
        """Compute a frame's features, so that the first click on it is quick."""
        self.check_frame(frame)
        self._predictor(frame)

    def changed(self, label: str, **what: Any) -> None:
        """One step, told to the pages; arguments as of `Project.change`."""
        settings = what.get("settings") or self.project.settings
        if "masks" in what or settings.drops != self.project.settings.drops:
            self.before_change()
        self.project.change(label, **what)
        self.tell_change(what.get("frame"))

    def tell_change(self, frame: int | None) -> None:
        """Tell the pages that something was changed."""
        self.events.tell("project", frame=frame, project=self.told())

    def _import(self, masks: Path) -> None:
        """Begin a project with the masks of another tool."""
        if self.project.keys:
            raise UsageError(
                f"{self.project.masks} holds key masks already", "remove -m, or give another -o"
            )
        names = self.info.image_names
        first = 0
        if masks.is_file():
            first = frame_of_single(masks, Address.of(self.video_path).stem, names) or 0
        ids, said = self._read_masks(masks, names, (first,))
        self.project.change(f"masks of {masks.name}", masks=ids)
        self.warnings += said

    def _read_masks(
        self, path: Path, names: tuple[str, ...] | None, single: tuple[int]
    ) -> tuple[Iterator[tuple[int, np.ndarray | None]], list[str]]:
        """Frame and mask, one at a time; and what is to be said."""
        keys = ReferenceMasks(path, names)
        width, height = self.info.width, self.info.height
        _, said = keys.scan(width, height, trust=True)
        frames = keys.frames or single
        for frame in frames:
            self.check_frame(frame)

        def read() -> Iterator[tuple[int, np.ndarray | None]]:
            for frame in frames:
                found = keys.at(frame, first=True, width=width, height=height)
                yield frame, None if found is None else found.astype(np.uint8)

        return read(), said
