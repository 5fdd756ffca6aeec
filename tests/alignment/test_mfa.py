"""TextGrids: gaps, silences, unknown words, stress; and the aligner that finds them by id."""

from pathlib import Path

import numpy as np
import pytest
from praatio import textgrid

from voiceflow.alignment.mfa import MfaAligner
from voiceflow.alignment.textgrid import read_textgrid
from voiceflow.alignment.types import AlignmentError
from voiceflow.config import UserError

Entries = list[tuple[float, float, str]]


def write(path: Path, words: Entries, phones: Entries, seconds: float, prefix: str = "") -> None:
    grid = textgrid.Textgrid(0, seconds)
    for name, entries in (("words", words), ("phones", phones)):
        grid.addTier(textgrid.IntervalTier(prefix + name, entries, 0, seconds))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)


HE_SAID_WORDS = [(0.2, 0.5, "he"), (0.5, 0.9, "said")]
HE_SAID_PHONES = [
    (0.0, 0.2, "sil"),
    (0.2, 0.3, "HH"),
    (0.3, 0.5, "IY1"),
    (0.5, 0.6, "S"),
    (0.6, 0.8, "EH1"),
    (0.8, 0.9, "D"),
    (0.9, 1.0, "sp"),
]


@pytest.mark.parametrize("prefix", ["", "4088 - "])
@pytest.mark.parametrize(("stress", "vowels"), [(True, ["IY1", "EH1"]), (False, ["IY", "EH"])])
def test_gaps_become_silence(tmp_path: Path, stress: bool, vowels: list[str], prefix: str) -> None:
    write(tmp_path / "a.TextGrid", HE_SAID_WORDS, HE_SAID_PHONES, 1.2, prefix)
    alignment = read_textgrid(tmp_path / "a.TextGrid", stress)
    assert [(w.text, w.start, w.end) for w in alignment.words] == [
        ("", 0.0, 0.2),
        ("HE", 0.2, 0.5),
        ("SAID", 0.5, 0.9),
        ("", 0.9, 1.2),
    ]
    assert [w.phones[1].symbol for w in alignment.spoken()] == vowels
    assert alignment.seconds == 1.2


def test_silences_inside_and_beside_words(tmp_path: Path) -> None:
    words = [(0.0, 0.1, "sil"), (0.1, 0.4, "a"), (0.4, 0.6, "sp"), (0.6, 1.0, "<unk>")]
    phones = [(0.1, 0.2, "AH0"), (0.25, 0.4, "sp"), (0.6, 1.0, "spn")]
    write(tmp_path / "a.TextGrid", words, phones, 1.0)
    alignment = read_textgrid(tmp_path / "a.TextGrid")
    assert [w.text for w in alignment.words] == ["", "A", "", "<UNK>"]
    assert [(p.symbol, p.start, p.end) for w in alignment.spoken() for p in w.phones] == [
        ("AH", 0.1, 0.4),
        ("SPN", 0.6, 1.0),
    ]


def test_a_word_without_phones_is_unknown_speech(tmp_path: Path) -> None:
    write(tmp_path / "a.TextGrid", [(0.0, 0.5, "a")], [(0.5, 1.0, "sil")], 1.0)
    assert read_textgrid(tmp_path / "a.TextGrid").spoken()[0].phones[0].symbol == "SPN"


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "a.TextGrid").write_text("no such thing")
    with pytest.raises(AlignmentError, match="TextGrid"):
        read_textgrid(tmp_path / "a.TextGrid")
    with pytest.raises(AlignmentError, match="TextGrid"):
        read_textgrid(tmp_path / "absent.TextGrid")
    grid = textgrid.Textgrid(0, 1)
    grid.addTier(textgrid.IntervalTier("words", [(0, 1, "a")], 0, 1))
    grid.save(str(tmp_path / "b.TextGrid"), format="long_textgrid", includeBlankSpaces=True)
    with pytest.raises(AlignmentError, match="phones"):
        read_textgrid(tmp_path / "b.TextGrid")


def samples(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * 16000), np.float32)


def test_the_aligner_takes_the_transcripts_words(tmp_path: Path) -> None:
    words = [(0.0, 0.3, "<unk>"), (0.3, 0.6, "cosette"), (0.6, 0.7, "s")]
    phones = [(0.0, 0.3, "spn"), (0.3, 0.6, "K"), (0.6, 0.7, "S")]
    write(tmp_path / "x" / "1-2-3.TextGrid", words, phones, 1.0)
    aligner = MfaAligner(tmp_path)
    alignment = aligner.align(samples(0.99), ["ZOOF", "COSETTE'S"], "1-2-3")
    assert [w.text for w in alignment.words] == ["ZOOF", "COSETTE'S", ""]
    assert [p.symbol for p in alignment.words[1].phones] == ["K", "S"]
    assert alignment.seconds == alignment.words[-1].end == 0.99
    assert "1-2-3" in aligner and "9" not in aligner


def test_what_does_not_fit_is_refused_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "a.TextGrid", HE_SAID_WORDS, HE_SAID_PHONES, 1.0)
    aligner = MfaAligner(tmp_path)
    for words in (["HE"], ["HE", "SAID", "NO"], ["SHE", "SAID"], ["HES", "AID"]):
        with pytest.raises(AlignmentError, match="TextGrid"):
            aligner.align(samples(1), words, "a")
    with pytest.raises(AlignmentError, match=r"1\.00 s.*2\.00 s"):
        aligner.align(samples(2), ["HE", "SAID"], "a")
    with pytest.raises(AlignmentError, match=r"no b\.TextGrid"):
        aligner.align(samples(1), ["HE", "SAID"], "b")
    with pytest.raises(UserError, match="TextGrids"):
        MfaAligner(tmp_path / "absent")
