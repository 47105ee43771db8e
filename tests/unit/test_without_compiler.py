"""torch's optimizers without torch's compiler: not imported, and the same numbers to the bit."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import io, json, sys
import torch
from rangefinder import optimizers

def trained(make):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(8, 8, dtype=torch.float64), torch.nn.Linear(8, 1, dtype=torch.float64)]
    model = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1])
    named = list(model.named_parameters())
    optimizer = make(named)
    x, found = torch.linspace(-1, 1, 32, dtype=torch.float64).reshape(4, 8), []
    for step in range(4):
        optimizer.zero_grad(set_to_none=True)
        loss = model(x).square().mean()
        loss.backward()
        assert optimizer.step() is None
        found.append(loss.item().hex())
        if step == 1:
            state = io.BytesIO()
            torch.save(optimizer.state_dict(), state)
            state.seek(0)
            optimizer.load_state_dict(torch.load(state))
    assert all(p.grad_fn is None for _, p in named)
    return found

def names():
    for name in optimizers.OPTIMIZERS:
        yield name, {"foreach": False} if name == "Adafactor" else {}

results = {}
for name, arguments in names():
    if name == "Muon":
        continue  # takes matrices only
    if "ours" in sys.argv:
        results[name] = trained(lambda named: optimizers.build({"name": name, **arguments}, named, lr=1e-3))
    elif not name.startswith("LA"):
        kind = getattr(torch.optim, name)
        fused = {"fused": True} if name in ("SGD", "Adam", "AdamW", "Adagrad") else {}
        results[name] = trained(lambda named: kind([p for _, p in named], lr=1e-3, **fused, **arguments))
print(json.dumps({"results": results, "compiler": "torch._dynamo" in sys.modules}))
"""


def outcome(*arguments):
    command = [sys.executable, "-c", PROGRAM, *arguments]
    environment = {"PYTHONPATH": str(ROOT / "workflow/scripts"), "OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def test_every_optimizer_computes_as_torchs_own_and_the_compiler_is_not_imported():
    ours, theirs = outcome("ours"), outcome("theirs")
    assert theirs["compiler"]  # else this test says nothing
    assert not ours["compiler"]
    assert {name: ours["results"][name] for name in theirs["results"]} == theirs["results"]
    assert len(theirs["results"]) >= 11 and {"LARS", "LAMB"} <= set(ours["results"])
