"""Damaged configurations, studies and records: a short form of tests/torture/fuzz_readers.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "torture"))
import fuzz_readers


def test_readers_refuse_damage_in_one_line_or_read_it():
    found = fuzz_readers.fuzz(400, seed=20)
    assert found.uncaught == []
    assert sum(found.results.values()) == 400
    # The damage reaches both ends of every reader: some of it is refused, some is none.
    for reader in fuzz_readers.READERS:
        assert found.results[f"{reader}: refused"] > 0, found.results
