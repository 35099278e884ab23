"""Reading the frame, first half: the readout joins the pixel feature, then meets the objects."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livos_cli.network.config import LiVOSConfig
from livos_cli.network.convolve import convolve
from livos_cli.network.layers import (
    AttentionResBlock,
    Fuser,
    PositionalEncoding,
    aggregate,
    joined,
    merge,
)

__all__ = ["ObjectTransformer", "PixelFuser", "Readout"]

# What was read of every object at every pixel, (B, N, V, h, w), known by what any linear map of its
# channels makes of it: weights (E, V) -> (B, N, E, h, w).
Readout = Callable[[Tensor], Tensor]


class PixelFuser(nn.Module):
    """Readout, sensory memory, last masks and pixel feature -> one map an object.

    Its first two convolutions have nothing between them, so they are computed as one.
    """

    joined_weight: Tensor | None
    joined_bias: Tensor | None

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__()
        self.fuser = Fuser(config.pixel, config.value, config.embed)
        self.conv = nn.Conv2d(config.sensory + 2, config.value, 1)
        self.register_buffer("joined_weight", None, persistent=False)
        self.register_buffer("joined_bias", None, persistent=False)

    def fold(self) -> None:
        """Join the weights for good: they will not be trained any more."""
        self.joined_weight, self.joined_bias = self._joined()

    def _joined(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of both convolutions as one, float32."""
        then = self.fuser.y_transform
        with torch.autocast(then.weight.device.type, enabled=False):
            after = then.weight[:, :, 0, 0].float()
            weight = after @ self.conv.weight[:, :, 0, 0].float()
            bias = after @ _bias(self.conv).float() + _bias(then).float()
        return weight[:, :, None, None], bias

    def forward(
        self,
        pixel_BCHW: Tensor,
        readout: Readout,
        sensory_BNSHW: Tensor,
        mask_BNHW: Tensor,
        others_BNHW: Tensor,
    ) -> Tensor:
        """-> (B, N, embed, h, w). Masks: the last frame's, averaged to h x w."""
        sensory = merge(sensory_BNSHW)
        masks = [m.flatten(0, 1).unsqueeze(1).to(sensory.dtype) for m in (mask_BNHW, others_BNHW)]
        weight, bias = self.joined_weight, self.joined_bias
        if weight is None or bias is None:
            weight, bias = (both.to(sensory.dtype) for both in self._joined())
        seen = F.conv2d(joined([sensory, *masks], weight.shape[1]), weight, bias)
        seen = seen.unflatten(0, sensory_BNSHW.shape[:2])
        seen += readout(self.fuser.y_transform.weight[:, :, 0, 0])  # in place: keeps the layout
        return self.fuser.join(pixel_BCHW, seen)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


class Attention(nn.Module):
    """Multi-head attention with torch.nn.MultiheadAttention's tensor names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(B, Lq, C), (B, Lk, C), (B, Lk, C) -> (B, Lq, C).

        Args:
            q: queries, with their positions added.
            k: keys, with their positions added.
            v: values.
            allowed: bool (B, 1, Lq, Lk), True where a query may look.
        """
        heads_q, heads_k, heads_v = (
            F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, weight, bias in zip(
                (q, k, v), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True
            )
        )
        out = F.scaled_dot_product_attention(heads_q, heads_k, heads_v, attn_mask=allowed)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class QueriesReadPixels(nn.Module):
    """Cross-attention, queries to pixels. The residual is the normalised input (published so)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cross_attn = Attention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, queries: Tensor, query_pos: Tensor, pixels: Tensor, pixel_pos: Tensor, allowed: Tensor
    ) -> Tensor:
        x = self.norm(queries)
        return self.cross_attn(x + query_pos, pixels + pixel_pos, pixels, allowed) + x


class QueriesReadQueries(nn.Module):
    """Self-attention of the queries, with the same residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor, query_pos: Tensor) -> Tensor:
        x = self.norm(queries)
        return self.self_attn(x + query_pos, x + query_pos, x) + x


class FeedForward(nn.Module):
    """Normalise, widen, narrow, add."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear2(F.relu(self.linear1(self.norm(x))))


class PixelsReadQueries(nn.Module):
    """Cross-attention, pixels to queries; nothing normalised."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cross_attn = Attention(width, heads)

    def forward(
        self, pixels: Tensor, pixel_pos: Tensor, queries: Tensor, query_pos: Tensor
    ) -> Tensor:
        return self.cross_attn(pixels + pixel_pos, queries + query_pos, queries) + pixels


class PixelFeedForward(nn.Module):
    """A residual block on the pixels as a map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = AttentionResBlock(width)

    def forward(self, pixels: Tensor, height: int, width: int) -> Tensor:
        return as_sequence(self.conv(as_map(pixels, height, width)))


def as_map(pixels: Tensor, height: int, width: int) -> Tensor:
    """(B, P, C) -> (B, C, h, w)."""
    return merge(pixels.transpose(1, 2).unflatten(2, (height, width)).unsqueeze(1))


def as_sequence(pixels: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, P, C)."""
    return pixels.flatten(2).transpose(1, 2)


class Block(nn.Module):
    """Queries read pixels, each other, then pixels read queries."""

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__()
        width, heads = config.embed, config.heads
        self.read_from_pixel = QueriesReadPixels(width, heads)
        self.self_attn = QueriesReadQueries(width, heads)
        self.ffn = FeedForward(width, config.feed_forward)
        self.read_from_query = PixelsReadQueries(width, heads)
        self.pixel_ffn = PixelFeedForward(width)

    def forward(
        self,
        queries: Tensor,
        query_pos: Tensor,
        pixels: Tensor,
        pixel_pos: Tensor,
        allowed: Tensor,
        size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        queries = self.read_from_pixel(queries, query_pos, pixels, pixel_pos, allowed)
        queries = self.self_attn(queries, query_pos)
        queries = self.ffn(queries)
        pixels = self.read_from_query(pixels, pixel_pos, queries, query_pos)
        return queries, self.pixel_ffn(pixels, *size)


def _embedding(count: int, width: int) -> nn.Embedding:
    """As nn.Embedding draws it; on the device `meta`, where checkpoints are checked, nothing is.

    Drawing there would import parts of PyTorch that take up to a second and 100 MB of every start.
    """
    weight = torch.empty(count, width)
    return nn.Embedding(count, width, _weight=weight if weight.is_meta else weight.normal_())


class ObjectTransformer(nn.Module):
    """Object queries, initialised from the object memory, refine each object's map."""

    def __init__(self, config: LiVOSConfig) -> None:
        super().__init__()
        width = config.embed
        self.query_init = _embedding(config.queries, width)
        self.query_emb = _embedding(config.queries, width)
        self.summary_to_query_init = nn.Linear(width, width)
        self.summary_to_query_emb = nn.Linear(width, width)
        self.pixel_init_proj = nn.Conv2d(width, width, 1)
        self.pixel_emb_proj = nn.Conv2d(width, width, 1)
        self.spatial_pe = PositionalEncoding(width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.transformer_blocks))
        self.mask_pred = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(width, 1, 1))
            for _ in range(config.transformer_blocks + 1)
        )

    def forward(
        self, pixel_BNCHW: Tensor, memory_BNQC: Tensor, collect: list[Tensor] | None = None
    ) -> Tensor:
        """-> (B, N, embed, h, w).

        Args:
            pixel_BNCHW: what `PixelFuser` gave.
            memory_BNQC: object memory, (B, N, Q, embed + 1) float32: sums, then areas.
            collect: if given, receives the mask logits (B, N, h, w) before the first and after
                every block; training supervises them.
        """
        batch, objects, _, height, width = pixel_BNCHW.shape
        dtype = pixel_BNCHW.dtype
        sums, areas = memory_BNQC[..., :-1], memory_BNQC[..., -1:]
        values = (sums / (areas + 1e-4)).to(dtype).flatten(0, 1)
        queries = self.query_init.weight + self.summary_to_query_init(values)
        query_pos = self.query_emb.weight + self.summary_to_query_emb(values)
        feature = merge(pixel_BNCHW)
        pixels = as_sequence(convolve(self.pixel_init_proj, feature))
        position = self.spatial_pe(height, width)
        pixel_pos = as_sequence(convolve(self.pixel_emb_proj, feature))
        pixel_pos = pixel_pos + position.to(pixel_pos.dtype)
        del feature, pixel_BNCHW, position
        for index, block in enumerate(self.blocks):
            logits = self._predict(index, pixels, batch, height, width)
            if collect is not None:
                collect.append(logits)
            queries, pixels = block(
                queries, query_pos, pixels, pixel_pos, self._allowed(logits), (height, width)
            )
        if collect is not None:
            collect.append(self._predict(len(self.blocks), pixels, batch, height, width))
        return as_map(pixels, height, width).unflatten(0, (batch, objects))

    def _predict(self, index: int, pixels: Tensor, batch: int, height: int, width: int) -> Tensor:
        logits = self.mask_pred[index](as_map(pixels, height, width))
        return logits.squeeze(1).unflatten(0, (batch, -1))

    def _allowed(self, logits_BNHW: Tensor) -> Tensor:
        """Which pixels each query may look at, bool (B * N, 1, Q, P)."""
        log_odds = aggregate(logits_BNHW.detach().float().sigmoid())
        # Ties are common, where the clamp saturates, and count for every object that ties.
        foreground = (log_odds[:, 1:] >= log_odds.amax(dim=1, keepdim=True)).flatten(2)
        sides = torch.stack([foreground, ~foreground], dim=2).flatten(0, 1)
        sides = sides | ~sides.any(dim=-1, keepdim=True)
        return sides.repeat_interleave(self.query_init.num_embeddings // 2, dim=1).unsqueeze(1)
