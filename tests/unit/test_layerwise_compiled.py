"""The one-pass kernels compiled as for a GPU, which takes none: whether they read memory 16 bytes at a time."""

import re

import pytest

pytest.importorskip("triton")
from rangefinder import layerwise_kernel
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

HOPPER = GPUTarget("cuda", 90, 32)
ADDRESSES = dict.fromkeys(("counts", "owners", "starts"), "*i64")
OPTIONS = {"MOMENTUM": 0, "INNER": 2, "OUTER": 0, "NESTEROV": False}
SIXTEEN_BYTES = 4  # numbers of float32


@pytest.mark.parametrize(
    ("kernel", "arguments", "constants", "tensors", "written"),
    [
        (
            "_square_sums",
            {"ws": "*i64", "gs": "*i64", **ADDRESSES, "sums": "*fp32", "blocks": "i32"},
            {},
            2,
            0,
        ),
        (
            "_update",
            {"ws": "*i64", "gs": "*i64", "vs": "*i64", **ADDRESSES}
            | {"momentum": "fp32", "inner": "*fp32", "outer": "fp32", "decay": "fp32"},
            OPTIONS,
            3,
            2,
        ),
    ],
)
def test_blocks_are_read_and_written_16_bytes_at_a_time(kernel, arguments, constants, tensors, written):
    constants = {**constants, "BLOCK": layerwise_kernel.BLOCK}
    signature = arguments | dict.fromkeys(constants, "constexpr")
    places = {(list(signature).index(name),): value for name, value in constants.items()}
    source = ASTSource(getattr(layerwise_kernel, kernel), signature, places)
    code = compile(source, target=HOPPER, options={"num_warps": layerwise_kernel.WARPS}).asm["ptx"]
    # A full block's; those of a tensor's last block, which are masked, are not.
    for_each = layerwise_kernel.BLOCK // (32 * layerwise_kernel.WARPS) // SIXTEEN_BYTES
    assert len(re.findall(r"ld\.global\.v4\.", code)) == tensors * for_each
    assert len(re.findall(r"st\.global\.v4\.", code)) == written * for_each
