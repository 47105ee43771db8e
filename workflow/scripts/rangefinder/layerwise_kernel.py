"""Norms and update of `layerwise` as one pass each over all tensors of a group on a GPU: Triton kernels.

Multi-tensor operations read and write every weight five times over, launch one kernel per tensor where factors differ,
and make a tensor of each norm, which costs the host more than a step by SGD. Here each block of elements looks up whose
it is, and reads weight, gradient and momentum once. Triton comes with torch where torch computes on CUDA.
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
# Sums of blocks that are added up at once.
SUMS = 256
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
    """Norms and update of the tensors of one parameter group; keeps on the device where they are.

    Args:
        params: float32 tensors on one device.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        self.device = params[0].device
        self.sizes = [p.numel() for p in params]
        blocks = torch.tensor([-(-size // BLOCK) for size in self.sizes])
        bounds = torch.cat([torch.zeros(1, dtype=torch.int64), blocks.cumsum(0)])
        owners = torch.repeat_interleave(torch.arange(len(params)), blocks)
        starts = (torch.arange(len(owners)) - bounds[owners]) * BLOCK
        self.blocks = len(owners)
        self.bounds = bounds.to(self.device)  # of each tensor's blocks, [tensors + 1]
        self.owners, self.starts = owners.to(self.device), starts.to(self.device)
        self.counts = torch.tensor(self.sizes).to(self.device)
        self.table = torch.zeros(3, len(params), dtype=torch.int64, device=self.device)
        self.known: list[int] | None = None

    def belongs_to(self, params: Sequence[Tensor]) -> bool:
        """Whether it was made for tensors of these sizes."""
        return self.sizes == [p.numel() for p in params]

    def addresses(
        self, params: Sequence[Tensor], grads: Sequence[Tensor], buffers: Sequence[Tensor]
    ) -> Tensor | None:
        """Where the tensors are: int64 [3, tensors] on the device. None if the kernels cannot walk them."""
        lists = (params, grads, buffers)
        pointers = [tensor.data_ptr() for tensors in lists for tensor in tensors]
        capturing = self.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        if pointers == self.known and not capturing:
            return self.table
        if not fits(*lists):
            return None
        if capturing:
            # The graph's own: its replays change nothing for steps outside.
            table = torch.zeros_like(self.table)
        else:
            table, self.known = self.table.zero_(), pointers
        # As arguments of kernels, since a copy from the host would wait, and cannot be captured.
        torch._foreach_add_(list(table.view(-1).unbind()), pointers)
        return table

    def norms(self, addresses: Tensor) -> tuple[Tensor, Tensor]:
        """Euclidean norms of the weights and of the gradients, float32 [tensors] each, without waiting.

        Each block's squares are summed, then each tensor's blocks, in an order that does not change.
        """
        sums = torch.empty(2, self.blocks, device=self.device)
        norms = torch.empty(2, len(self.sizes), device=self.device)
        ws, gs, _ = addresses
        _square_sums[(self.blocks,)](
            ws, gs, self.counts, self.owners, self.starts, sums, self.blocks, BLOCK=BLOCK, num_warps=WARPS
        )
        _roots[(len(self.sizes), 2)](sums, self.bounds, norms, self.blocks, len(self.sizes), SUMS=SUMS)
        weight_norms, grad_norms = norms
        return weight_norms, grad_norms

    def update(
        self,
        addresses: Tensor,
        *,
        momentum: Any,
        inner: Any,
        outer: Any,
        decay: float,
        nesterov: bool,
    ) -> None:
        """``v ← momentum·v + inner·(g + decay·w); w ← w − outer·v``, in place.

        Args:
            addresses: of the weights w, gradients g and buffers v.
            momentum, inner, outer: a number, or a float32 tensor on the device, 0-dim or [tensors].
            nesterov: ``w ← w − outer·(momentum·v + inner·(g + decay·w))`` with the new v.
        """
        ws, gs, vs = addresses
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


def try_out(device: str = "cuda") -> None:
    """Build the kernels, launch them on two blocks of ones, and look at what they computed.

    Raises:
        RuntimeError: something else than norms and update.
        Exception: whatever Triton, the C compiler it needs or the driver raises where they cannot be used.
    """
    size = BLOCK + ALIGNMENT
    params, grads, buffers = ([torch.ones(size, device=device)] for _ in range(3))
    made = OnePass(params)
    addresses = made.addresses(params, grads, buffers)
    if addresses is None:
        raise RuntimeError("tensors of this device do not lie as the kernels need them")
    norms = torch.stack(made.norms(addresses))
    made.update(addresses, momentum=0.5, inner=norms[0] / norms[1], outer=0.25, decay=1.0, nesterov=False)
    found = torch.cat([norms.flatten(), params[0], buffers[0]]).cpu()
    wanted = torch.cat([torch.full((2,), size**0.5), torch.full((size,), 0.375), torch.full((size,), 2.5)])
    if not torch.allclose(found, wanted, rtol=1e-6, atol=0.0):
        raise RuntimeError("its kernels compute something else than they should")


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
def _square_sums(ws, gs, counts, owners, starts, sums, blocks, BLOCK: tl.constexpr):
    block = tl.program_id(0)
    owner, start = tl.load(owners + block), tl.load(starts + block)
    count = tl.load(counts + owner)
    # Told here, of the load itself: the argument of a function would not keep it.
    places = tl.multiple_of(start, BLOCK) + tl.arange(0, BLOCK)
    w_at, g_at = _tensor(ws, owner) + places, _tensor(gs, owner) + places
    if start + BLOCK <= count:
        w, g = tl.load(w_at), tl.load(g_at)
    else:
        inside = places < count
        w, g = tl.load(w_at, mask=inside, other=0.0), tl.load(g_at, mask=inside, other=0.0)
    tl.store(sums + block, tl.sum(w * w))
    tl.store(sums + blocks + block, tl.sum(g * g))


@triton.jit
def _roots(sums, bounds, norms, blocks, tensors, SUMS: tl.constexpr):
    tensor, which = tl.program_id(0), tl.program_id(1)
    first, last = tl.load(bounds + tensor), tl.load(bounds + tensor + 1)
    total = tl.zeros([SUMS], dtype=tl.float32)
    for at in range(first, last, SUMS):
        places = at + tl.arange(0, SUMS)
        total += tl.load(sums + which * blocks + places, mask=places < last, other=0.0)
    tl.store(norms + which * tensors + tensor, tl.sqrt_rn(tl.sum(total)))


@triton.jit
def _tensor(addresses, owner):
    """Pointer to a tensor, aligned for loads of 16 bytes: `fits` has seen to it."""
    return tl.multiple_of(tl.load(addresses + owner).to(tl.pointer_type(tl.float32)), 16)


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
    w, g, v = _tensor(ws, owner), _tensor(gs, owner), _tensor(vs, owner)
    m, i, o = _factor(momentum, owner, MOMENTUM), _factor(inner, owner, INNER), _factor(outer, owner, OUTER)
    places = tl.multiple_of(start, BLOCK) + tl.arange(0, BLOCK)
    if start + BLOCK <= count:
        _block(w + places, g + places, v + places, places < count, m, i, o, decay, False, NESTEROV)
    else:
        _block(w + places, g + places, v + places, places < count, m, i, o, decay, True, NESTEROV)
