"""Pictures: written whole, as wide as the sound is long, with what was asked for in them."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError
from voiceflow.pictures.spectrogram import Panel, _band_of, infill_picture

SPEC = FeatureSpec()
PHONES = [
    ("SIL", 0.0, 0.2),
    ("HH_B", 0.2, 0.5),
    ("AH_E", 0.5, 1.1),
    ("SIL", 1.1, 1.1),
    ("L_S", 1.1, 2),
]


def draw(path: Path, n_before: int = 200, n_after: int = 230, **changes) -> np.ndarray:
    """The picture's pixels (height, width, 4) for a mel of noise."""
    rng = np.random.default_rng(0)
    before, after = (rng.normal(-5, 2, size=(n, SPEC.n_mels)) for n in (n_before, n_after))
    given = {
        "phones_before": PHONES,
        "phones_after": PHONES,
        "spans_before": [(0.5, 1.1)],
        "spans_after": [(0.5, 1.1)],
        "title": "a title",
        **changes,
    }
    panels = [
        Panel("before", before, given["phones_before"], given["spans_before"]),
        Panel("after", after, given["phones_after"], given["spans_after"]),
    ]
    infill_picture(path, panels, SPEC, given["title"])
    pixels: np.ndarray = matplotlib.image.imread(path)
    return pixels


def test_a_picture_grows_with_the_sound(tmp_path: Path) -> None:
    short, long = draw(tmp_path / "a.png"), draw(tmp_path / "b.png", 1000, 900)
    assert long.shape[1] > 2 * short.shape[1]
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a.png", "b.png"]
    very_long = draw(tmp_path / "c.png", 2500, 2500)
    assert very_long.shape[1] < 2500 * 2


def test_a_panel_alone_is_half_as_high(tmp_path: Path) -> None:
    both = draw(tmp_path / "a.png", 200, 200)
    infill_picture(tmp_path / "b.png", [Panel("made", np.zeros((200, SPEC.n_mels)))], SPEC, "one")
    alone = matplotlib.image.imread(tmp_path / "b.png")
    assert 0.5 < alone.shape[0] / both.shape[0] < 0.7
    assert alone.shape[1] == both.shape[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"phones_after": PHONES[:1]},
        {"spans_before": [], "spans_after": []},
        {"spans_after": [(1.1, 2.0)]},
        {"title": "another"},
    ],
)
def test_phones_spans_and_title_are_seen(tmp_path: Path, changes: dict) -> None:
    usual, other = draw(tmp_path / "a.png"), draw(tmp_path / "b.png", **changes)
    assert np.any(usual != other)


def test_phones_of_no_length_and_silence_names_are_not_drawn(tmp_path: Path) -> None:
    usual = draw(tmp_path / "a.png")
    without = draw(tmp_path / "b.png", phones_after=[PHONES[0], *PHONES[1:3], PHONES[4]])
    np.testing.assert_array_equal(usual, without)


def test_the_same_picture_twice(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_bands_are_where_librosa_has_them() -> None:
    from librosa import mel_frequencies

    centres = mel_frequencies(SPEC.n_mels + 2, fmin=SPEC.f_min, fmax=SPEC.f_max)[1:-1]
    for band in (0, 20, 79):
        assert _band_of(centres[band], SPEC) == pytest.approx(band, abs=1e-6)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"a\.png: cannot be written"):
        draw(tmp_path / "file" / "a.png")
