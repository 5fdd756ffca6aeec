"""The table of aligned phones beside unaligned letters: whose figures stand in which row."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from voiceflow.config import UserError
from voiceflow.files import write_json
from voiceflow.generation.sample import windows

WER = "WER (pocketsphinx)"


def result(system: str, errors: float, calibrated: bool) -> dict[str, Any]:
    """Twelve trials of four speakers, ten words each, so many of them wrong (give or take one)."""
    spread = (-1, 0, 1) * 4
    rows = [
        {"task": "listed", "system": name, "seed": seed, "trials": 12, "failed": 0, "nfe": None,
         "network_passes": None, "rtf": None, "figures": {
             WER: {"value": value / 10, "low": None, "high": None, "count": 12, "unit": "%",
                   "better": "lower"},
             "CER (pocketsphinx)": {"value": 9.0, "low": None, "high": None, "count": 12,
                                    "unit": "%", "better": "lower"},
         }}
        for name, seed, value in (("original", None, 1.0), (system, 0, errors))
        if calibrated or name == system
    ]  # fmt: skip
    trials = [
        {"id": f"t{i}", "task": "listed", "speaker": str(i % 4), "text": "", "sounds": {},
         "failed": {}, "scores": {
             "original": {"pocketsphinx": {"wrong": 1.0, "words": 10.0}},
             system: {"pocketsphinx": {"wrong": errors + spread[i], "words": 10.0}},
         }}
        for i in range(12)
    ]  # fmt: skip
    return {
        "voiceflow": "0", "date": "2026-11-26", "voice": {"voice": "mini", "outputs": system},
        "protocol": {"name": "librispeech-pc", "sha256": "x", "seed": 0, "trials": 12,
                     "speakers": 4},
        "scorers": {"pocketsphinx": {}}, "rows": rows, "trials": trials,
        "metrics": {WER: {"scorer": "pocketsphinx", "better": "lower", "unit": "%",
                          "columns": ["wrong", "words"]}},
    }  # fmt: skip


def test_the_table(repository: Path, tmp_path: Path) -> None:
    """Errors of each: 3 and 7, one fewer with the longer budget, one more with the second seed."""
    script = runpy.run_path(str(repository / "recipes" / "aligned_or_not" / "table.py"))
    for text, errors in (("aligned", 3), ("unaligned", 7)):
        for seed in (0, 1):
            for number in (0, 1):
                write_json(
                    tmp_path / f"measured-{text}-{seed}-{number}" / "results.json",
                    result(text, errors + seed - number, (text, seed, number) == ("aligned", 0, 0)),
                )
    lines = script["table"](tmp_path, (1000, 2000), (0, 1)).splitlines()
    rows = [line.split(" | ")[:2] for line in lines if " updates, seed " in line]
    assert rows == [
        [f"| {text}, {updates} updates, seed {seed}", f"{errors}0.0"]
        for updates, less in ((1000, 0), (2000, 1))
        for text, least in (("aligned phones", 3), ("unaligned letters", 7))
        for seed, errors in enumerate((least - less, least - less + 1))
    ]
    assert sum("original (calibration)" in line for line in lines) == 1
    assert not any("CER" in line for line in lines)
    assert lines[-2:] == [
        f"| {updates} | {WER} | {b}.0 % | {a}.0 % | -40.0 | -40.0 to -40.0 |"
        for updates, a, b in ((1000, 35, 75), (2000, 25, 65))
    ]


def test_no_text_is_cut_away_with_the_context(repository: Path) -> None:
    """Unaligned text stands in the first frames, far from the gap behind a prompt."""
    script = runpy.run_path(str(repository / "recipes" / "aligned_or_not" / "speak.py"))
    frames = round(100 * script["SECONDS"][1])
    mask = torch.arange(2 * frames) >= frames
    assert windows(mask, script["SETTINGS"].context_frames) == [slice(0, 2 * frames)]


def test_a_result_that_is_missing_is_named(repository: Path, tmp_path: Path) -> None:
    script = runpy.run_path(str(repository / "recipes" / "aligned_or_not" / "table.py"))
    with pytest.raises(UserError, match="measured-aligned-0-0"):
        script["table"](tmp_path, (1000,), (0,))
