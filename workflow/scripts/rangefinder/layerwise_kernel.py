"""The update of `layerwise` as one pass over all tensors of a group on a GPU: a Triton kernel, a factor per tensor.

Multi-tensor operations read and write every weight five times over, and launch one kernel per tensor where factors
differ. Here each block of elements looks up whose it is, and reads weight, gradient and momentum once. Triton comes
with torch where torch computes on CUDA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Elements per program: 16 for each of 256 threads, in loads of 16 bytes.
BLOCK, WARPS = 4096, 8
ALIGNMENT = 16


def fits(params: Sequence[Tensor], grads: Sequence[Tensor], buffers: Sequence[Tensor]) -> bool:
    """Whether these are tensors that the kernel can walk: float32, aligned, dense, and the three laid out alike."""
    return all(
        p.numel() == g.numel() == v.numel()
        and _layout(p) == _layout(g) == _layout(v)
        and _is_dense(p)
        and all(t.dtype == torch.float32 and t.data_ptr() % ALIGNMENT == 0 for t in (p, g, v))
        for p, g, v in zip(params, grads, buffers, strict=True)
    )


def _layout(tensor: Tensor) -> list[tuple[int, int]]:
    """Stride and size of every dimension that has more than one element."""
    return [(stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size != 1]


def _is_dense(tensor: Tensor) -> bool:
    """Whether its elements fill its memory without gaps, in whatever order."""
    expected = 1
    for stride, size in sorted(_layout(tensor)):
        if stride != expected:
            return False
        expected *= size
    return True


class OnePass:
    """The update of the tensors of one parameter group; keeps on the device where they are.

    Args:
        params: float32 tensors on one device.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.device = params[0].device
        self.sizes = [p.numel() for p in params]
        blocks = [-(-size // BLOCK) for size in self.sizes]
        owners = torch.repeat_interleave(torch.arange(len(params)), torch.tensor(blocks))
        firsts = torch.tensor([0, *blocks[:-1]]).cumsum(0)
        starts = (torch.arange(len(owners)) - firsts[owners]) * BLOCK
        self.blocks = len(owners)
        self.owners, self.starts = owners.to(self.device), starts.to(self.device)
        self.counts = torch.tensor(self.sizes).to(self.device)
        self.table = torch.zeros(3, len(params), dtype=torch.int64, device=self.device)
        self.known: list[int] | None = None

    def belongs_to(self, params: Sequence[Tensor]) -> bool:
        """Whether it was made for tensors of these sizes."""
        return self.sizes == [p.numel() for p in params]

    def _addresses(self, *lists: Sequence[Tensor]) -> Tensor | None:
        """Where the tensors are: int64 [3, tensors] on the device. None if the kernel cannot walk them."""
        pointers = [tensor.data_ptr() for tensors in lists for tensor in tensors]
        capturing = self.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        if pointers == self.known and not capturing:
            return self.table
        if not fits(*lists):
            return None
        if capturing:
            table = torch.zeros_like(
                self.table
            )  # the graph's own: its replays change nothing for steps outside
        else:
            table, self.known = self.table.zero_(), pointers
        # As arguments of kernels, since a copy from the host would wait, and cannot be captured.
        torch._foreach_add_(list(table.view(-1).unbind()), pointers)
        return table

    def __call__(
        self,
        params: Sequence[Tensor],
        grads: Sequence[Tensor],
        buffers: Sequence[Tensor],
        *,
        momentum: Any,
        inner: Any,
        outer: Any,
        decay: float,
        nesterov: bool,
    ) -> bool:
        """``v ← momentum·v + inner·(g + decay·w); w ← w − outer·v``, in place.

        Args:
            momentum, inner, outer: a number, or a float32 tensor on the device, 0-dim or [tensors].
            nesterov: ``w ← w − outer·(momentum·v + inner·(g + decay·w))`` with the new v.

        Returns:
            False, and nothing is changed, if the tensors are none that the kernel can walk.
        """
        table = self._addresses(params, grads, buffers)
        if table is None:
            return False
        ws, gs, vs = table
        _update[(self.blocks,)](
            ws,
            gs,
            vs,
            self.counts,
            self.owners,
            self.starts,
            momentum,
            inner,
            outer,
            float(decay),
            MOMENTUM=_kind(momentum),
            INNER=_kind(inner),
            OUTER=_kind(outer),
            NESTEROV=nesterov,
            BLOCK=BLOCK,
            num_warps=WARPS,
        )
        return True


def try_out(device: str = "cuda") -> None:
    """Build the kernel and launch it on a few elements.

    Raises:
        Exception: whatever Triton, the C compiler it needs or the driver raises where it cannot be used.
    """
    params, grads, buffers = ([torch.zeros(ALIGNMENT, device=device)] for _ in range(3))
    OnePass(params)(
        params, grads, buffers, momentum=0.0, inner=params[0][:1], outer=1.0, decay=0.0, nesterov=False
    )


def _kind(factor: Any) -> int:
    """0 for a number, 1 for a tensor of one number, 2 for one number per tensor."""
    return 1 + min(factor.ndim, 1) if isinstance(factor, Tensor) else 0


@triton.jit
def _factor(factor, owner, KIND: tl.constexpr):
    if KIND == 0:
        value = factor
    elif KIND == 1:
        value = tl.load(factor)
    else:
        value = tl.load(factor + owner)
    return value


@triton.jit
def _block(
    w_at, g_at, v_at, mask, momentum, inner, outer, decay, MASKED: tl.constexpr, NESTEROV: tl.constexpr
):
    if MASKED:
        w, g, v = tl.load(w_at, mask=mask), tl.load(g_at, mask=mask), tl.load(v_at, mask=mask)
    else:
        w, g, v = tl.load(w_at), tl.load(g_at), tl.load(v_at)
    gradient = inner * (g + decay * w)
    v = momentum * v + gradient
    step = v
    if NESTEROV:
        step = momentum * v + gradient
    w = w - outer * step
    if MASKED:
        tl.store(v_at, v, mask=mask)
        tl.store(w_at, w, mask=mask)
    else:
        tl.store(v_at, v)
        tl.store(w_at, w)


@triton.jit
def _update(
    ws,
    gs,
    vs,
    counts,
    owners,
    starts,
    momentum,
    inner,
    outer,
    decay,
    MOMENTUM: tl.constexpr,
    INNER: tl.constexpr,
    OUTER: tl.constexpr,
    NESTEROV: tl.constexpr,
    BLOCK: tl.constexpr,
):
    block = tl.program_id(0)
    owner, start = tl.load(owners + block), tl.load(starts + block)
    count = tl.load(counts + owner)
    # Aligned for loads of 16 bytes: `fits` has seen to it.
    w = tl.multiple_of(tl.load(ws + owner).to(tl.pointer_type(tl.float32)), 16)
    g = tl.multiple_of(tl.load(gs + owner).to(tl.pointer_type(tl.float32)), 16)
    v = tl.multiple_of(tl.load(vs + owner).to(tl.pointer_type(tl.float32)), 16)
    m, i, o = _factor(momentum, owner, MOMENTUM), _factor(inner, owner, INNER), _factor(outer, owner, OUTER)
    places = tl.multiple_of(start, BLOCK) + tl.arange(0, BLOCK)
    if start + BLOCK <= count:
        _block(w + places, g + places, v + places, places < count, m, i, o, decay, False, NESTEROV)
    else:
        _block(w + places, g + places, v + places, places < count, m, i, o, decay, True, NESTEROV)
