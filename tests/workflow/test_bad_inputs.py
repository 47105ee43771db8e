"""Bad inputs given to the real workflow: one line each, an exit status that is not 0, no job, nothing written."""

import json
import subprocess
import sys
from pathlib import Path

import bad_inputs
import pytest


@pytest.fixture(scope="module")
def found() -> dict:
    script = Path(bad_inputs.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "--json"], capture_output=True, text=True, timeout=600, check=True
    )
    return json.loads(done.stdout)


def test_messages_are_those_of_the_golden_file(found):
    assert bad_inputs.as_text(found).splitlines() == bad_inputs.GOLDEN.read_text().splitlines()


def test_each_ends_in_one_line_before_any_job_and_leaves_nothing(found):
    assert len(found) >= 60
    for case, entry in found.items():
        assert entry["code"] != 0, case
        assert len(entry["errors"]) == 1, (case, entry["output"])
        assert not entry["left"] and "Traceback" not in entry["output"], (case, entry["output"])


def test_the_study_that_the_cases_change_is_a_good_one(tmp_path):
    from rangefinder import study

    (tmp_path / "good.yaml").write_text(bad_inputs.STUDY)
    assert len(study.load(tmp_path / "good.yaml").runs) == 8
