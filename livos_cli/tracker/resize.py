"""Between a frame's size and the network's: reduce, pad, and let given masks decide."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from livos_cli.network.strips import STRIDE

__all__ = [
    "decide_ids",
    "id_type",
    "ids_in",
    "merge_mask",
    "matte_of",
    "padding_of",
    "downsample_ids",
    "downsample_image",
    "working_size",
]


def working_size(height: int, width: int, max_size: int) -> tuple[int, int]:
    """The size at which the network runs: shorter side at most `max_size`; -1 keeps the frame's.

    Frames are never upsampled.
    """
    shorter = min(height, width)
    if max_size < 0 or shorter <= max_size:
        return height, width
    scale = max_size / shorter
    return max(1, round(height * scale)), max(1, round(width * scale))


def padding_of(height: int, width: int) -> tuple[int, int, int, int]:
    """Left, right, top, bottom up to multiples of the stride, the smaller half first."""
    rows, columns = -height % STRIDE, -width % STRIDE
    return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


def downsample_image(image_HW3: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, h', w') uint8, or float32 in [0, 1]; antialiased."""
    image = image_HW3.permute(2, 0, 1)[None]
    if image.shape[-2:] == size:
        return image
    if image.device.type == "cpu":  # eight bits are enough, and four times less memory
        return _antialiased(image, size)
    return _antialiased(image.float(), size) / 255


def _antialiased(map_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear; on the CPU where a device cannot (Apple's, before PyTorch 2.7)."""
    try:
        return F.interpolate(map_BCHW, size=size, mode="bilinear", antialias=True)
    except NotImplementedError:
        there = F.interpolate(map_BCHW.cpu(), size=size, mode="bilinear", antialias=True)
        return there.to(map_BCHW.device)


def downsample_ids(ids_HW: Tensor, size: tuple[int, int]) -> Tensor:
    """Ids at the working size: each pixel's largest share, and no object lost altogether."""
    if ids_HW.shape == size:
        return ids_HW
    best = torch.zeros(size, device=ids_HW.device)
    downsampled = torch.zeros(size, dtype=torch.int64, device=ids_HW.device)
    small = []
    for object_id in ids_in(ids_HW):
        share = _antialiased((ids_HW == object_id).float()[None, None], size)[0, 0]
        wins = share > best
        downsampled = torch.where(wins, object_id, downsampled)
        best = torch.maximum(best, share)
        small.append((object_id, share))
    for object_id, share in small:
        if object_id and not bool((downsampled == object_id).any()):
            downsampled = torch.where(share >= share.max(), object_id, downsampled)
    return downsampled


def ids_in(mask_HW: Tensor) -> list[int]:
    """All different values, in order."""
    if mask_HW.device.type == "cpu" and mask_HW.numel():
        least, most = (int(edge) for edge in torch.aminmax(mask_HW))
        if least >= 0 and most < 1 << 16:  # sorting 8 million pixels would take a third of a second
            return torch.bincount(mask_HW.flatten()).nonzero()[:, 0].tolist()
    found: list[int] = mask_HW.unique().tolist()
    return found


def merge_mask(prob: Tensor, given_HW: Tensor, ids: list[int]) -> Tensor:
    """Let a given mask decide where it says something.

    Every channel is 0 where the mask is on. New objects are appended one-hot. A corrected object
    is on where given and off elsewhere, where its probability goes to the background.
    """
    on = given_HW != 0
    old = prob.shape[0] - 1
    prob = prob.masked_fill(on, 0)
    seen = set(ids_in(given_HW))
    added = []
    for channel, object_id in enumerate(ids, start=1):
        exact = (given_HW == object_id).float()
        if channel > old:
            added.append(exact)
        elif object_id in seen:
            prob[0] += prob[channel]
            prob[channel] = exact
    return torch.cat([prob, torch.stack(added)]) if added else prob


def id_type(ids: list[int]) -> type:
    """What holds these ids: uint8 where it can."""
    return np.uint8 if all(0 < i <= 255 for i in ids) else np.int64


def decide_ids(
    prob: Tensor, ids: list[int], size: tuple[int, int], given_HW: Tensor | None
) -> np.ndarray:
    """Ids at full size, from probabilities at the working size, a channel at a time.

    Args:
        prob: (N + 1, h', w') float32, background first.
        ids: N of them, in the order of the channels.
        size: (H, W) of the frame.
        given_HW: the mask that was given for it.

    Returns:
        (H, W), 0 for background; uint8 while all ids are 1 to 255, else int64.
    """
    if prob.device.type == "cpu":
        channels = _likeliest_on_cpu(prob.numpy(), size)
    else:
        channels = _likeliest(prob, size).cpu().numpy()
    decided = named(channels, np.array([0, *ids], id_type(ids)))
    if given_HW is not None:
        given = given_HW.cpu().numpy()
        for object_id in ids_in(given_HW):
            if object_id:
                # A corrected object is where the mask says, and nowhere else.
                decided[decided == object_id] = 0
                decided[given == object_id] = object_id
    return decided


def named(channels: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Each channel's index replaced by its id."""
    if names.dtype != np.uint8 or channels.dtype != np.uint8:
        return names[channels]
    table = np.zeros(256, np.uint8)
    table[: len(names)] = names
    return cv2.LUT(channels, table)


def _likeliest(prob: Tensor, size: tuple[int, int]) -> Tensor:
    """The index of the channel that is largest at full size, the first of equal ones.

    uint8, or int64 from 256 objects on.
    """
    dtype = torch.uint8 if len(prob) <= 256 else torch.int64
    decided = torch.zeros(size, dtype=dtype, device=prob.device)
    best = None
    for index, channel in enumerate(prob):
        if channel.shape != size:
            channel = F.interpolate(channel[None, None], size=size, mode="bilinear")[0, 0]
        if best is None:
            best = channel
            continue
        decided.masked_fill_(channel > best, index)
        best = torch.maximum(best, channel)
    return decided


def _likeliest_on_cpu(prob: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As `_likeliest`, in a fraction of the time."""
    height, width = size

    def enlarged(channel: np.ndarray) -> np.ndarray:
        if channel.shape == size:
            return channel
        return cv2.resize(channel, (width, height), interpolation=cv2.INTER_LINEAR)

    if len(prob) == 2:  # the difference is linear, too: one map less to enlarge
        return (enlarged(prob[1] - prob[0]) > 0).view(np.uint8)
    decided = np.zeros(size, np.uint8 if len(prob) <= 256 else np.int64)
    best = enlarged(prob[0])
    for index in range(1, len(prob)):
        channel = enlarged(prob[index])
        np.copyto(decided, index, where=channel > best)
        best = cv2.max(best, channel)
    return decided


def matte_of(
    prob: Tensor, ids: list[int], size: tuple[int, int], given_HW: Tensor | None
) -> np.ndarray:
    """How likely a pixel belongs to any object, (H, W) uint16, 65535 for certain.

    Args: as of `decide_ids`.
    """
    sure = prob[0]
    if given_HW is not None and prob.shape[-2:] != size:
        # As `merge_mask`: a corrected object is off where the mask does not have it.
        seen = set(ids_in(given_HW))
        for object_id, channel in zip(ids, prob[1:], strict=True):
            if object_id in seen:
                sure = sure + channel
    if sure.shape != size:
        sure = F.interpolate(sure[None, None], size=size, mode="bilinear")[0, 0]
        if given_HW is not None:
            sure = sure.masked_fill(given_HW != 0, 0)
    matte = ((1 - sure) * 65535).round_().clamp_(0, 65535).to(torch.int32)
    return matte.cpu().numpy().astype(np.uint16)
