"""The recurrent state of one video, and the step from frame to frame. No input, no output."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from livos_kernels import decide_masks
from torch import Tensor

from livos_cli.device import give_back_memory
from livos_cli.memory import out_of_memory
from livos_cli.network.layers import upsample
from livos_cli.network.livos import Features, LiVOS, Memory
from livos_cli.network.strips import STRIDE
from livos_cli.tracker.certainty import Certainty, describe
from livos_cli.tracker.cuda_graph import Result, StepGraph
from livos_cli.tracker.inputs import frame_tensor, mask_tensor
from livos_cli.tracker.resize import (
    decide_ids,
    downsample_ids,
    downsample_image,
    id_type,
    ids_in,
    matte_of,
    merge_mask,
    named,
    padding_of,
    working_size,
)
from livos_cli.tracker.saved_state import check_state, load_memory, save_memory
from livos_cli.tracker.strip_height import StripHeight

__all__ = ["Tracker"]

# Frames after which a CPU's freed memory goes back to the system. Over 1,394 frames the peak then
# grew by 0.15 % after frame 100, not by 1.8 %, in the same time (docs/notes/performance.md).
TIDY_EVERY = 25


class Tracker:
    """Follows objects through one video, one frame a call, in constant memory.

    Args:
        model: what `livos_cli.load_model` gave.
        max_size: shorter side, in pixels, at which the network runs; larger frames are downsampled
            for it and its probabilities upsampled again. None: the size the weights were trained
            for; -1: the frame's own.
        chunk_objects: objects encoded and decoded at a time, 0 for all. Bounds memory with many
            objects; the result is the same.
        memory_budget: bytes that the network may use, weights counted. Where a frame needs more
            it is computed in horizontal strips; the result is the same to rounding. None: a share
            of what the device has free at the first frame.
        graphs: replay the work of a frame that brings no mask as one CUDA graph, captured again
            when size or objects change. The result is the same to the bit. None: on CUDA, where
            the memory is enough for it.

    Examples:
        >>> import numpy as np
        >>> from livos_cli import Tracker, load_model
        >>> tracker = Tracker(load_model("lite", device="cpu"), max_size=48)
        >>> frame, mask = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
        >>> mask[10:30, 10:30] = 7
        >>> tracker.step(frame, mask).shape
        torch.Size([2, 48, 64])
        >>> tracker.object_ids
        [7]
    """

    def __init__(
        self,
        model: LiVOS,
        *,
        max_size: int | None = None,
        chunk_objects: int = 0,
        memory_budget: int | None = None,
        graphs: bool | None = None,
    ) -> None:
        if chunk_objects < 0:
            raise ValueError(f"chunk_objects must be 0 (all) or more, not {chunk_objects}")
        self.model = model.eval()
        self.max_size = model.config.size if max_size is None else max_size
        if self.max_size != -1 and self.max_size < STRIDE:
            raise ValueError(f"max_size must be -1 or at least {STRIDE}, not {self.max_size}")
        self.chunk_objects = chunk_objects
        self._strips = StripHeight(self.model, memory_budget, chunk_objects)
        self._rows_now = 0
        self._frames = 0
        self._graphs = self.model.device.type == "cuda" if graphs is None else graphs
        self._graph: StepGraph | None = None
        self._ids: list[int] = []
        self._memory: Memory | None = None
        self._frame_size: tuple[int, int] | None = None
        calibration = self.model.calibration
        self._certainty = None if calibration is None else Certainty(calibration)
        self._likely: list[float] = []  # of the last frame, an object each

    def twin(self) -> Tracker:
        """A fresh tracker with the same network and settings."""
        return Tracker(
            self.model,
            max_size=self.max_size,
            chunk_objects=self.chunk_objects,
            memory_budget=self._strips.given,
            graphs=self._graphs,
        )

    @property
    def object_ids(self) -> list[int]:
        """Ids of the objects followed, in the order of the channels of `step`'s result."""
        return list(self._ids)

    @property
    def certainty(self) -> dict[int, float]:
        """How likely each object's mask in the last frame is right: J of 0.7 or more, as estimated.

        Objects of which nothing can be said are left out: those without a pixel, and all where the
        weights have no calibration (`examples/calibrate_certainty.py` makes one).
        """
        pairs = zip(self._ids, self._likely, strict=False)
        return {object_id: likely for object_id, likely in pairs if not math.isnan(likely)}

    @property
    def signs(self) -> dict[int, np.ndarray]:
        """What `certainty` was made of, by object: `certainty.Certainty.terms`."""
        if self._certainty is None:
            return {}
        return dict(zip(self._ids, self._certainty.signs, strict=False))

    @property
    def strip_rows(self) -> int:
        """Height in pixels of the strips that the last frame was computed in; 0 for no strips."""
        return self._rows_now * STRIDE

    @torch.inference_mode()
    def step(self, frame: np.ndarray | Tensor, mask: np.ndarray | Tensor | None = None) -> Tensor:
        """Take the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB. Every frame has the size of the first.
            mask: (H, W) integers, 0 for nothing given. Ids not seen before enter as new objects;
                known ids are corrected: their prediction is replaced by what is given, and they
                are followed from there on by what masks have shown of them, not by what was
                predicted before. Known ids that do not appear go on as predicted.

        Returns:
            (N + 1, H, W) float32 probabilities on the model's device: background, then the
            objects in the order of `object_ids`. Before the first mask, background alone.

        Raises:
            ValueError: a frame or mask of the wrong shape or type.
            InputError: the frame does not fit the memory budget.
        """
        prob, given = self._advance(frame, mask)
        height, width = self._size()
        if prob.shape[-2:] != (height, width):
            prob = F.interpolate(prob[None], size=(height, width), mode="bilinear")[0]
            prob = self._merge_mask(prob, given)
        return prob

    @torch.inference_mode()
    def step_ids(
        self, frame: np.ndarray | Tensor, mask: np.ndarray | Tensor | None = None
    ) -> np.ndarray:
        """Like `step`, but decided: the id of the likeliest object at every pixel.

        Needs far less memory: no full-size map an object in float32.

        Returns:
            (H, W), 0 for background; uint8 while all ids are 0 to 255, else int64.
        """
        result, given = self._advance(frame, mask, decide=True)
        if result.dtype == torch.uint8:
            names: np.ndarray = np.array([0, *self._ids], id_type(self._ids))
            return named(result.cpu().numpy(), names)
        return decide_ids(result, self._ids, self._size(), given)

    @torch.inference_mode()
    def step_alpha(
        self, frame: np.ndarray | Tensor, mask: np.ndarray | Tensor | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Like `step_ids`, and with it how likely a pixel belongs to any object.

        Returns:
            Ids as from `step_ids`; and (H, W) uint16, 65535 times one less the probability of
            background that `step` gives.
        """
        prob, given = self._advance(frame, mask)
        shape = (self._ids, self._size(), given)
        return decide_ids(prob, *shape), matte_of(prob, *shape)

    @torch.inference_mode()
    def step_soft(
        self, frame: np.ndarray | Tensor, mask: np.ndarray | Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Like `step`, but at the size at which the network runs.

        Returns:
            (N + 1, h', w') float32 probabilities, as from `step`; and the mask, (H, W) int64, if
            there is one. `resize.decide_ids` and `resize.matte_of` take both.
        """
        return self._advance(frame, mask)

    def drop(self, ids: Iterable[int]) -> None:
        """Stop following these objects and free their memory.

        Raises:
            ValueError: an id that is not followed.
        """
        gone = set(ids)
        if unknown := sorted(gone - set(self._ids)):
            raise ValueError(f"not followed: {', '.join(map(str, unknown))}")
        keep = [i for i, object_id in enumerate(self._ids) if object_id not in gone]
        self._ids = [self._ids[i] for i in keep]
        if self._certainty is not None:
            self._certainty.keep(keep)
            self._likely = [self._likely[i] for i in keep] if self._likely else []
        if self._memory is None:
            return
        if not keep:
            self._memory = None
            return
        self._memory = self._memory.only(keep)

    def state_dict(self) -> dict[str, Tensor]:
        """All that is needed to resume later: a tracker that loads it continues bit for bit.

        CPU tensors only, so that any tensor format holds it. Its size does not depend on the
        number of frames seen.
        """
        state = {
            "ids": torch.tensor(self._ids, dtype=torch.int64),
            "frame_size": torch.tensor(self._frame_size or (0, 0), dtype=torch.int64),
            "max_size": torch.tensor(self.max_size, dtype=torch.int64),
        }
        if self._memory is not None:
            state |= save_memory(self._memory)
        if self._certainty is not None:
            for name, tensor in self._certainty.state_dict().items():
                state[f"certainty.{name}"] = tensor
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Resume where `state_dict` was taken, with the same weights and precision.

        Raises:
            ValueError: a state that does not fit this tracker's model or size, or is damaged; the
                tracker stays as it was.
        """
        check_state(state, self.model, self.max_size)
        ids = [int(i) for i in state["ids"]]
        memory = load_memory(state, self.model)
        height, width = (int(n) for n in state["frame_size"])
        self._ids, self._memory, self._likely = ids, memory, []
        if self._certainty is not None:
            own = {k.removeprefix("certainty."): v for k, v in state.items() if "certainty." in k}
            self._certainty.load_state_dict(own, len(ids))
        self._frame_size = (height, width) if height else None

    def _size(self) -> tuple[int, int]:
        assert self._frame_size is not None
        return self._frame_size

    def _advance(
        self,
        frame: np.ndarray | Tensor,
        mask: np.ndarray | Tensor | None,
        *,
        decide: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute a frame; where memory is short, once more with half as many rows at a time.

        Returns:
            (N + 1, h', w') float32 probabilities at the working size; or, if `decide` and
            nothing more is to be done with them, (h', w') uint8 channels. And the given mask at
            full size.
        """
        image, given = self._check(frame, mask)
        size = working_size(*self._size(), self.max_size)
        padded = F.pad(downsample_image(image, size), padding_of(*size))
        decide = decide and given is None and size == self._size() and len(self._ids) < 256
        height, width = (side // STRIDE for side in padded.shape[-2:])
        seen = [] if given is None else [i for i in ids_in(given) if i]
        rows = self._strips.rows(height, width, len({*self._ids, *seen}))
        try:
            result = self._compute(padded, given, size, rows, decide=decide, seen=seen)
        except Exception as error:  # of PyTorch, or of another runtime, which has its own types
            if not out_of_memory(error):
                raise
            result = None
        if result is None:  # outside of `except`, whose traceback holds on to the frame's tensors
            self._graph = None
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            rows = self._strips.halve(rows, height)
            result = self._compute(padded, given, size, rows, decide=decide, seen=seen)
        self._frames += 1
        if self._frames % TIDY_EVERY == 0:
            give_back_memory(self.model.device)
        left, _, top, _ = padding_of(*size)
        return result[..., top : top + size[0], left : left + size[1]], given

    def _compute(
        self,
        image: Tensor,
        given: Tensor | None,
        size: tuple[int, int],
        rows: int,
        *,
        decide: bool,
        seen: list[int],
    ) -> Tensor:
        """All of a frame, padded; renews the memory. `seen`: ids of the given mask, without 0."""
        self._rows_now = rows
        graphs = self._graphs and not rows
        if not (graphs and self._strips.fits_twice(image.shape[-2:], len(self._ids))):
            self._graph = None  # its buffers would lie beside those of strips
        elif given is None and self._memory is not None:
            return self._replay(image, self._memory, decide=decide)
        features, result, soft, memory = self._read(image, self._memory, rows, decide=decide)
        ids, described = list(self._ids), None
        if given is not None and seen:
            if known := [ids.index(i) for i in seen if i in ids]:
                assert memory is not None
                memory = self.model.restart(features, memory, known)
            if new := [i for i in seen if i not in ids]:
                memory = self.model.add_objects(features, memory, len(new))
                ids += new
            result = merge_mask(result, F.pad(downsample_ids(given, size), padding_of(*size)), ids)
            soft = self._soft(result)
        if memory is not None:
            memory = self._write(features, memory, soft, rows)
            if seen:
                memory = memory.mark_given([ids.index(i) for i in seen])
            described = self._describe(features, soft)
        # Only now, so that an error above leaves the tracker as it was.
        self._memory, self._ids = memory, ids
        self._judge(described, [ids.index(i) for i in seen])
        return result

    def _between(self, rows: int) -> Callable[[], None]:
        """What to do between the stages of a frame that is computed so many rows at a time.

        In strips memory is short: what one stage is done with must not lie idle in the next.
        """
        return partial(give_back_memory, self.model.device) if rows else lambda: None

    def _read(
        self, image: Tensor, memory: Memory | None, rows: int, *, decide: bool
    ) -> tuple[Features, Tensor, Tensor, Memory | None]:
        """-> features, what `_advance` returns, soft masks (1, N, H, W), memory."""
        features = self.model.encode_image(image, rows)
        between = self._between(rows)
        between()
        if memory is None:
            result = torch.ones(1, *image.shape[-2:], device=self.model.device)
            return features, result, result[None, 1:], None
        chunk = 1 if rows else self.chunk_objects
        log_odds, memory = self.model.read(
            features, memory, chunk=chunk, rows=rows, between=between
        )
        if decide:
            soft, decided = decide_masks(log_odds, dtype=self._soft_type)
            return features.without_skips(), decided[0], soft, memory
        result = upsample(log_odds)[0].softmax(dim=0)
        return features.without_skips(), result, self._soft(result), memory

    @property
    def _soft_type(self) -> torch.dtype:
        """Of the soft masks that are remembered, whatever else a frame's result is wanted for.

        On a GPU the network's: there they are what is read and written most.
        """
        return torch.float32 if self.model.device.type == "cpu" else self.model.dtype

    def _soft(self, prob: Tensor) -> Tensor:
        """(N + 1, H, W) probabilities -> soft masks (1, N, H, W)."""
        return prob[None, 1:].to(self._soft_type)

    def _write(self, features: Features, memory: Memory, soft: Tensor, rows: int) -> Memory:
        between = self._between(rows)
        between()
        chunk = 1 if rows else self.chunk_objects
        memory = self.model.write(features, memory, soft, chunk=chunk, rows=rows, between=between)
        between()
        return memory

    def _describe(self, features: Features, soft: Tensor) -> Tensor | None:
        return None if self._certainty is None else describe(features.image, soft)

    def _judge(self, described: Tensor | None, given: list[int]) -> None:
        self._likely = []
        if described is not None and self._certainty is not None:
            self._likely = self._certainty.see(described, given)

    def _replay(self, image: Tensor, memory: Memory, *, decide: bool) -> Tensor:
        """A frame without a mask, on static buffers."""
        if self._graph is None or not self._graph.fits(image, memory, decide=decide):
            # Not by a circle of references: a graph's memory goes when its tracker goes.
            mine = weakref.ref(self)

            def step(image: Tensor, memory: Memory) -> tuple[Result, Memory]:
                tracker = mine()
                assert tracker is not None
                features, result, soft, read = tracker._read(image, memory, 0, decide=decide)
                assert read is not None
                new = tracker._write(features, read, soft, 0)
                return (result, tracker._describe(features, soft)), new

            self._graph = None  # its buffers go before the new ones come
            self._graph = StepGraph(step, image, memory, decide=decide)
        result, described = self._graph.run(image, memory)
        self._memory = self._graph.memory
        self._judge(described, [])
        assert result is not None
        return result

    def _merge_mask(self, prob: Tensor, given: Tensor | None) -> Tensor:
        return prob if given is None else merge_mask(prob, given, self._ids)

    def _check(
        self, frame: np.ndarray | Tensor, mask: np.ndarray | Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        image = frame_tensor(frame, self._frame_size)
        size, device = (int(image.shape[0]), int(image.shape[1])), self.model.device
        given = None if mask is None else mask_tensor(mask, size, device)
        self._frame_size = size
        return image.to(device), given
