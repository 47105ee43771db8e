"""The tutorial, done by a machine: every file written, every command run, in the order of the page."""

import os
import subprocess
import time

import pages
from rangefinder import records
from workplace import ROOT

PAGE = ROOT / "docs/tutorial.md"


def test_the_tutorial_works_as_it_stands(tmp_path):
    place = pages.checkout(tmp_path / "rangefinder", ROOT)
    # `make demo` installs for minutes; here is an environment already.
    script = ["set -e", "make() { [ $# -gt 0 ]; }"]
    for number, block in enumerate(pages.blocks(PAGE)):
        if block.file:
            script.append(f"cat > {block.file} <<'END OF FILE'\n{block.text}END OF FILE")
        elif block.language == "sh":
            script += [block.text, f"echo $EPOCHREALTIME {number} >> {tmp_path}/times"]
    variables = {**os.environ, "RANGEFINDER_FAKE_GPUS": "0"}
    begun = time.time()
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=place,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    for line in (tmp_path / "times").read_text().splitlines():
        moment, number = line.split()
        print(f"block {number}: {float(moment) - begun:.1f} s")
        begun = float(moment)
    folder = place / "shapes/results/own-model"
    entry = records.read_json(folder / "lr_range/sgd/range.json", "range")
    assert entry["status"] == "ok" and entry["lr_min"]["value"] < entry["lr_max"]["value"]
    accuracies = [
        records.read_run(path)["run"]["results"]["final_test_accuracy"]
        for path in (folder / "runs").iterdir()
    ]
    assert len(accuracies) == 6 and min(accuracies) > 0.5  # of three classes
    assert "Which schedule?" in (folder / "report.html").read_text()


def test_its_files_are_those_of_the_examples():
    files = {block.file: block.text for block in pages.blocks(PAGE) if block.file}
    for name in ("make_shapes.py", "own-model.yaml"):
        assert files[f"config/studies/{name}"] == (ROOT / "config/examples" / name).read_text()
    own = files["config/studies/own.py"]
    assert own[own.index("def ") :] in (ROOT / "config/examples/own.py").read_text()
