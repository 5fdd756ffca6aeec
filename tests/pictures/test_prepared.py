"""Pictures of prepared data: written, with sound or without, and nothing over anything else."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import soundfile
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from typer.testing import CliRunner

from voiceflow.alignment.frames import FramedAlignment, FramedWord
from voiceflow.audio.features import FeatureSpec
from voiceflow.cli.app import app
from voiceflow.config import UserError, UserNote
from voiceflow.data.inspect import find_utterance, statistics
from voiceflow.data.manifest import Utterance
from voiceflow.data.shards import PreparedUtterance
from voiceflow.pictures import prepared as module
from voiceflow.pictures.prepared import (
    _Cell,
    _cells,
    _lines,
    _stacked,
    statistics_picture,
    utterance_picture,
)

SPEC = FeatureSpec()


def utterance(n_words: int = 6, audio: str = "", frames: int = 12) -> PreparedUtterance:
    """Words `HH IY`, `frames` each phone, a pause of 30 frames after every second word."""
    phones, durations, words = ["SIL"], [10], []
    for number in range(n_words):
        words.append(FramedWord(f"WORD{number}", len(phones), 2))
        phones += ["HH_B", "IY_E", "SIL"]
        durations += [frames, frames, 30 * (number % 2)]
    framed = FramedAlignment(tuple(phones), tuple(durations), tuple(words))
    n_frames = sum(durations)
    mel = np.random.default_rng(0).normal(-5, 2, (n_frames, SPEC.n_mels)).astype(np.float16)
    told = Utterance("u", audio, "words", "s")
    return PreparedUtterance(told, n_frames * SPEC.hop_seconds, mel, framed, None)


def draw(path: Path, row: PreparedUtterance) -> np.ndarray:
    utterance_picture(path, row, SPEC)
    pixels: np.ndarray = matplotlib.image.imread(path)
    return pixels


@pytest.fixture
def recording(tmp_path: Path) -> str:
    wave = np.random.default_rng(0).normal(0, 0.1, 6 * SPEC.sample_rate)
    soundfile.write(tmp_path / "u.wav", wave, SPEC.sample_rate)
    return str(tmp_path / "u.wav")


def test_with_the_recording_and_without(tmp_path: Path, recording: str) -> None:
    with_wave = draw(tmp_path / "a.png", utterance(audio=recording))
    with pytest.warns(UserNote, match=r"gone\.wav does not exist"):
        without = draw(tmp_path / "b.png", utterance(audio=str(tmp_path / "gone.wav")))
    with pytest.warns(UserNote, match="the manifest names no recording"):
        draw(tmp_path / "c.png", utterance())
    assert with_wave.shape[0] > without.shape[0]
    assert with_wave.shape[1] == without.shape[1]


@pytest.mark.filterwarnings("ignore::voiceflow.config.UserNote")
def test_a_longer_one_has_more_lines(tmp_path: Path) -> None:
    short, long = draw(tmp_path / "a.png", utterance(6)), draw(tmp_path / "b.png", utterance(30))
    assert long.shape[0] > 2 * short.shape[0]
    assert long.shape[1] < 2000


def test_lines_cover_all_and_end_between_words() -> None:
    row = utterance(40)
    lines = _lines(row, SPEC.hop_seconds)
    assert len(lines) > 1
    assert lines[0][0] == 0
    assert lines[-1][1] == pytest.approx(len(row.mel) * SPEC.hop_seconds)
    assert [end for _, end in lines[:-1]] == [start for start, _ in lines[1:]]
    words, _ = _cells(row, SPEC.hop_seconds)
    assert {start for start, _ in lines[1:]} <= {word.start for word in words if word.name}
    assert max(end - start for start, end in lines) < 6


def test_a_word_longer_than_a_line() -> None:
    row = utterance(1, frames=800)
    assert _lines(row, SPEC.hop_seconds) in ([(0, 16.1)], [(0, 0.1), (0.1, 16.1)])


def test_names_that_would_touch_are_stacked() -> None:
    wide = [_Cell("HH", 0, 0.5), _Cell("", 0.5, 0.6), _Cell("IY", 0.6, 1.0)]
    assert _stacked(wide, 3.0) == ([0, 0, 0], 1)
    narrow = [_Cell("HH", 0.01 * i, 0.01 * (i + 1)) for i in range(3)]
    assert _stacked(narrow, 3.0) == ([0, 1, 2], 3)


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts of a figure that cover the same pixels."""
    figure.canvas.draw()
    beyond = {label for ax in figure.axes for label in (*unseen(ax.xaxis), *unseen(ax.yaxis))}
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    # Text's own extent: an annotation's would be made wider by its arrow.
    boxes = [(t.get_text(), Text.get_window_extent(t)) for t in texts if t not in beyond]
    assert len(boxes) > 20
    return [
        (a, b)
        for (a, left), (b, right) in combinations(boxes, 2)
        if left.x0 < right.x1 and right.x0 < left.x1 and left.y0 < right.y1 and right.y0 < left.y1
    ]


def unseen(axis: Axis) -> list[Text]:
    """The names of ticks beyond the ends of an axis, which matplotlib keeps and does not draw."""
    low, high = sorted(axis.get_view_interval())
    ticks = (*axis.get_major_ticks(), *axis.get_minor_ticks())
    return [
        label for t in ticks if not low <= t.get_loc() <= high for label in (t.label1, t.label2)
    ]


@pytest.mark.filterwarnings("ignore::voiceflow.config.UserNote")
@pytest.mark.parametrize("frames", [1, 3, 12])
def test_no_name_lies_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: Path, frames: int
) -> None:
    pages: list[Figure] = []
    monkeypatch.setattr(module, "write_page", lambda figure, path: pages.append(figure))
    utterance_picture(tmp_path / "a.png", utterance(24, frames=frames), SPEC)
    found = replace(statistics(prepared), rejected={"a" * 300: 2, "b": 1})
    statistics_picture(tmp_path / "b.png", found)
    assert [overlapping(page) for page in pages] == [[], []]


@pytest.mark.filterwarnings("ignore::voiceflow.config.UserNote")
def test_phones_without_frames_are_seen(tmp_path: Path) -> None:
    row = utterance(2)
    durations = list(row.alignment.durations)
    durations[1] += durations[2]
    durations[2] = 0
    changed = replace(row, alignment=replace(row.alignment, durations=tuple(durations)))
    red = [
        int(np.sum((p[..., 0] > 0.7) & (p[..., 1] < 0.15) & (p[..., 2] < 0.2)))
        for p in (draw(tmp_path / "a.png", row)[:150], draw(tmp_path / "b.png", changed)[:150])
    ]
    assert red[0] == 0
    assert red[1] > 5


def test_figures(tmp_path: Path, prepared: Path) -> None:
    found = statistics(prepared)
    statistics_picture(tmp_path / "a.png", found)
    with_rejected = replace(found, rejected=Counter({"too $long$": 3, "x" * 300: 1}))
    statistics_picture(tmp_path / "b.png", replace(with_rejected, scores=-found.seconds))
    statistics_picture(tmp_path / "c.png", replace(found, pauses=np.array([9])))
    plain, rejected, no_pauses = (
        matplotlib.image.imread(tmp_path / f"{name}.png") for name in "abc"
    )
    assert rejected.shape[0] > plain.shape[0]
    assert plain.shape == no_pauses.shape
    assert np.any(plain != no_pauses)


def test_the_verbs_draw(tmp_path: Path, prepared: Path) -> None:
    for words in (["show", str(prepared), "u-1-03"], ["stats", str(prepared)]):
        out = tmp_path / f"{words[0]}.png"
        with pytest.warns(UserNote) if words[0] == "show" else nullcontext():
            shown = CliRunner().invoke(app, ["data", *words, "--out", str(out)])
        assert shown.exit_code == 0
        assert f"written: {out}" in shown.output
        assert matplotlib.image.imread(out).shape[1] > 800
    assert find_utterance(prepared, "u-1-03").utterance.id == "u-1-03"


def test_a_name_that_is_no_picture(tmp_path: Path, prepared: Path) -> None:
    shown = CliRunner().invoke(app, ["data", "stats", str(prepared), "--out", "a.pdf"])
    assert isinstance(shown.exception, UserError)
    assert shown.output == ""
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"a\.png: cannot be written"):
        statistics_picture(tmp_path / "file" / "a.png", statistics(prepared))
