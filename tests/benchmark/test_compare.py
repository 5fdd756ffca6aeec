"""Two results beside each other: paired differences, and why some cannot be compared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voiceflow.benchmark.compare import compare_results, differences
from voiceflow.config import UserError


def result(
    name: str = "voice-0", shift: float = 0.0, sha256: str = "x", version: str = "1", n: int = 40
) -> dict[str, Any]:
    """Forty trials of ten speakers whose errors are known."""
    random = np.random.default_rng(0)
    trials = [
        {"id": f"t{i}", "task": "cross-sentence", "speaker": str(i % 10), "text": "",
         "sounds": {}, "scores": {name: {
             "other": {"word_errors": 1.0, "words": 1.0},
             "pocketsphinx": {"word_errors": float(e) + shift, "words": 10.0},
         }}}
        for i, e in enumerate(random.integers(0, 5, n))
    ]  # fmt: skip
    return {
        "protocol": {"name": "voicebox", "sha256": sha256, "seed": 0, "trials": n},
        "scorers": {"pocketsphinx": {"version": version}},
        "metrics": {"WER (pocketsphinx)": {"scorer": "pocketsphinx", "better": "lower",
                                           "unit": "%", "columns": ["word_errors", "words"]}},
        "rows": [{"task": "cross-sentence", "system": name, "seed": 0}],
        "trials": trials,
    }  # fmt: skip


def test_a_paired_difference_is_known_where_the_figures_are_not() -> None:
    """One error more in each trial: 10 points, with no spread at all."""
    [row] = differences(result(), result("other-0", shift=1.0))
    assert row["difference"] == pytest.approx(0.1)
    assert (row["low"], row["high"]) == (pytest.approx(0.1), pytest.approx(0.1))
    assert row["b_is_better"] is False
    [back] = differences(result(shift=1.0), result())
    assert back["b_is_better"] is True
    assert back["trials"] == 40


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (result(sha256="y"), "other lists of trials"),
        (result(version="2"), "scorer pocketsphinx was another: version"),
        ({**result(), "scorers": {"hubert": {}}}, "no scorer in common"),
        ({**result(), "protocol": {**result()["protocol"], "name": "infill"}},
         "protocols voicebox and infill"),
    ],
)  # fmt: skip
def test_what_is_not_comparable_says_why(other: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=f"cannot be compared: .*{reason}"):
        differences(result(), other)


def test_no_result(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(UserError, match=r"is not the results\.json of a benchmark"):
        compare_results(tmp_path, tmp_path)
