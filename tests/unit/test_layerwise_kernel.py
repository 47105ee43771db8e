"""The one-pass kernels against the formulas in float64: on a GPU where there is one, else in Triton's interpreter."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("triton")
GPU = torch.cuda.is_available()
SIZES = [(3, 5), (10,), (4096,), (4097,), (2, 3, 1, 1), (64, 70), (1,), (8, 4, 3, 3)]
if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
    # Triton reads this once, when it is imported: the tests below run in a process that has it set.
    def test_in_tritons_interpreter():
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
            env=os.environ | {"TRITON_INTERPRET": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout

else:
    from rangefinder import layerwise, layerwise_kernel, optimizers

    DEVICE = "cuda" if GPU else "cpu"

    def drawn(seed, channels_last=False):
        """Weights, gradients and buffers in float32."""
        random = np.random.default_rng(seed)
        layout = {4: torch.channels_last} if channels_last else {}
        return [
            [
                torch.tensor(random.normal(size=size), dtype=torch.float32, device=DEVICE).to(
                    memory_format=layout.get(len(size), torch.contiguous_format)
                )
                for size in SIZES
            ]
            for _ in range(3)
        ]

    def expected(params, grads, buffers, momentum, inner, outer, decay, nesterov):
        def of(factor, place):
            factor = factor.double() if isinstance(factor, torch.Tensor) else factor
            return factor[place] if isinstance(factor, torch.Tensor) and factor.ndim else factor

        result = []
        for place, (w, g, v) in enumerate(zip(params, grads, buffers, strict=True)):
            m, i, o = (of(factor, place) for factor in (momentum, inner, outer))
            gradient = i * (g.double() + decay * w.double())
            v = m * v.double() + gradient
            result.append((w.double() - o * (m * v + gradient if nesterov else v), v))
        return result

    def update(made, params, grads, buffers, **options):
        addresses = made.addresses(params, grads, buffers)
        assert addresses is not None
        made.update(addresses, **options)

    def vector(low, high):
        return torch.linspace(low, high, len(SIZES), device=DEVICE)

    @pytest.mark.parametrize("channels_last", [False, True])
    @pytest.mark.parametrize("nesterov", [False, True])
    @pytest.mark.parametrize(
        ("momentum", "inner", "outer"),
        [
            (0.9, vector(0.1, 2), 1.0),
            (0.9, vector(0.1, 2), torch.tensor(0.3, device=DEVICE)),
            (vector(0.2, 0.9), vector(0.1, 2), 1.0),
            (0.9, 1.0, vector(0.1, 0.5)),
            (0.0, torch.tensor(0.7, device=DEVICE), 1.0),
        ],
    )
    def test_it_is_the_formula(momentum, inner, outer, nesterov, channels_last):
        params, grads, buffers = drawn(1, channels_last)
        options = {"momentum": momentum, "inner": inner, "outer": outer, "decay": 0.01, "nesterov": nesterov}
        wanted = expected(params, grads, buffers, **options)
        before = [gradient.clone() for gradient in grads]
        update(layerwise_kernel.OnePass(params), params, grads, buffers, **options)
        for w, v, (new_w, new_v) in zip(params, buffers, wanted, strict=True):
            torch.testing.assert_close(w.double(), new_w, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(v.double(), new_v, rtol=1e-6, atol=1e-6)
        assert all(torch.equal(new, old) for new, old in zip(grads, before, strict=True))

    def test_gradients_elsewhere_are_found_at_every_step():
        params, grads, buffers = drawn(2)
        one_pass = layerwise_kernel.OnePass(params)
        options = {"momentum": 0.5, "inner": 1.0, "outer": 0.1, "decay": 0.0, "nesterov": False}
        for seed in (3, 3, 4):
            grads = drawn(seed)[1]
            wanted = expected(params, grads, buffers, **options)
            update(one_pass, params, grads, buffers, **options)
            for w, (new_w, _) in zip(params, wanted, strict=True):
                torch.testing.assert_close(w.double(), new_w, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("which", ["dtype", "layout", "gaps", "alignment"])
    def test_what_it_cannot_walk_is_left_alone(which):
        params, grads, buffers = drawn(5)
        if which == "dtype":
            grads[0] = grads[0].double()
        elif which == "layout":
            grads[-1] = grads[-1].to(memory_format=torch.channels_last)
        elif which == "gaps":
            params[1], grads[1], buffers[1] = (torch.zeros(20, device=DEVICE)[::2] for _ in range(3))
        else:
            grads[1] = torch.zeros(11, device=DEVICE)[1:]
        assert layerwise_kernel.OnePass(params).addresses(params, grads, buffers) is None

    def norms_of(params, grads, buffers):
        made = layerwise_kernel.OnePass(params)
        return made.norms(made.addresses(params, grads, buffers))

    @pytest.mark.parametrize("channels_last", [False, True])
    def test_norms_are_those_of_float64(channels_last):
        params, grads, buffers = drawn(7, channels_last)
        for found, tensors in zip(norms_of(params, grads, buffers), (params, grads), strict=True):
            wanted = [float(np.linalg.norm(tensor.double().cpu().numpy())) for tensor in tensors]
            assert found.tolist() == pytest.approx(wanted, rel=3e-7)

    def test_norms_of_more_blocks_than_are_added_at_once():
        size = layerwise_kernel.BLOCK * (2 * layerwise_kernel.SUMS + 1) + 8
        random = np.random.default_rng(8)
        tensors = [
            [torch.tensor(random.normal(size=n), dtype=torch.float32, device=DEVICE) for n in (size, 8)]
            for _ in range(3)
        ]
        for found, drawn_ in zip(norms_of(*tensors), tensors[:2], strict=True):
            wanted = [float(np.linalg.norm(tensor.double().cpu().numpy())) for tensor in drawn_]
            assert found.tolist() == pytest.approx(wanted, rel=3e-7)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_is_no_number_reaches_the_norm_of_its_tensor_alone(value):
        params, grads, buffers = drawn(9)
        grads[3][4096] = value
        weight_norms, grad_norms = (norms.cpu() for norms in norms_of(params, grads, buffers))
        assert weight_norms.isfinite().all()
        assert [place for place, norm in enumerate(grad_norms) if not norm.isfinite()] == [3]

    def test_norms_of_zeros_are_zero():
        params, grads, buffers = ([torch.zeros(5000, device=DEVICE)] for _ in range(3))
        assert [norm.item() for norm in norms_of(params, grads, buffers)] == [0.0, 0.0]

    @pytest.fixture
    def anew():
        layerwise._kernels.cache_clear()
        yield
        layerwise._kernels.cache_clear()

    def test_it_is_tried_out(anew, monkeypatch):
        monkeypatch.setattr(layerwise_kernel.try_out, "__defaults__", (DEVICE,))
        assert layerwise._kernels() is layerwise_kernel

    @pytest.mark.parametrize(
        ("method", "wrong"),
        [
            ("norms", lambda made, addresses: (torch.ones(1, device=DEVICE), torch.ones(1, device=DEVICE))),
            ("update", lambda made, addresses, **factors: None),
            ("addresses", lambda made, *lists: None),
        ],
    )
    def test_kernels_that_compute_something_else_are_not_used(anew, monkeypatch, caplog, method, wrong):
        monkeypatch.setattr(layerwise_kernel.OnePass, method, wrong)
        monkeypatch.setattr(layerwise_kernel.try_out, "__defaults__", (DEVICE,))
        assert layerwise._kernels() is None
        (record,) = caplog.records
        assert "Triton cannot be used: " in record.message

    def test_without_a_compiler_there_is_none(anew, monkeypatch, caplog):
        def no_compiler(*_arguments, **_options):
            raise RuntimeError("Failed to find C compiler")

        monkeypatch.setattr(layerwise_kernel.OnePass, "norms", no_compiler)
        monkeypatch.setattr(layerwise_kernel.try_out, "__defaults__", (DEVICE,))
        assert layerwise._kernels() is None and layerwise._kernels() is None
        assert [record.message for record in caplog.records] == [
            "layer-wise updates by multi-tensor operations, for Triton cannot be used: Failed to find C compiler"
        ]

    def lars(monkeypatch):
        """A LARS of one tensor that believes itself on a GPU."""
        weight = torch.nn.Parameter(torch.ones(16, device=DEVICE))
        weight.grad = torch.ones_like(weight)
        optimizer = optimizers.build({"name": "LARS"}, [("weight", weight)], lr=0.1)
        made = layerwise_kernel.OnePass([weight])
        monkeypatch.setattr(layerwise, "multi_tensor", lambda group, params: True)
        monkeypatch.setattr(type(optimizer), "_one_pass", lambda self, group, params: made)
        return optimizer, weight

    @pytest.mark.parametrize("method", ["norms", "update"])
    def test_what_goes_wrong_in_a_step_is_told(method, monkeypatch):
        def launch_fails(*_arguments, **_options):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        optimizer, _ = lars(monkeypatch)
        monkeypatch.setattr(layerwise_kernel.OnePass, method, launch_fails)
        with pytest.raises(RuntimeError, match="illegal memory access"):
            optimizer.step()

    def test_the_kernel_of_the_last_step_is_named(monkeypatch):
        optimizer, weight = lars(monkeypatch)
        optimizer.step()
        assert optimizers.kernel(optimizer) == "one-pass"
        weight.grad = torch.ones(32, device=DEVICE)[::2]  # gaps: it cannot walk that
        optimizer.step()
        assert optimizers.kernel(optimizer) == "foreach"
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        assert optimizers.kernel(optimizer) == "one-pass"

    @pytest.fixture
    def as_on_a_gpu(monkeypatch):
        """Without a GPU: steps go the way they go on one."""

        def one_pass(self, group, params):
            made = self.__dict__.setdefault("_passes", {})
            if group["foreach"] is not None:
                return None
            return made.setdefault(id(group), layerwise_kernel.OnePass(params))

        if not GPU:
            monkeypatch.setattr(layerwise, "multi_tensor", lambda group, params: True)
            monkeypatch.setattr(layerwise.LayerwiseSGD, "_one_pass", one_pass)

    @pytest.mark.parametrize(
        "spec",
        [
            {"name": "LARS", "weight_decay": 5e-4, "trust_coefficient": 0.02},
            {"name": "LARS", "weight_decay": 5e-4, "clip": True, "nesterov": True, "momentum": 0.9},
            {"name": "LARS", "weight_decay": 5e-4, "lr_outside": True},
            {"name": "LARS", "weight_decay": 5e-4, "exclude_from_adaptation": ["bias", "norm"]},
            {"name": "LARSWriteUp"},
            {"name": "LARSWriteUp", "revision": "later"},
        ],
    )
    def test_optimizers_use_it_and_agree_with_multi_tensor_operations(as_on_a_gpu, spec):
        found = {}
        for foreach in (None, True):
            weights, grads, _ = drawn(6)
            named = [(f"{place}.weight", torch.nn.Parameter(w)) for place, w in enumerate(weights)]
            optimizer = optimizers.build(spec, named, lr=0.1, capturable=True)
            for group in optimizer.param_groups:
                group["foreach"] = foreach
            for step in range(20):
                optimizers.set_lr(optimizer, 0.1 / (step + 1))
                for (_, p), g in zip(named, grads, strict=True):
                    p.grad = g * (step + 1)
                optimizer.step()
            assert optimizer.kernel == ("foreach" if foreach else "one-pass")
            found[foreach] = [p.detach() for _, p in named]
        for mine, theirs in zip(found[None], found[True], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
