"""How much of a text a recording says, and where a continuation begins."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from voiceflow.alignment.frames import to_frames
from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.pronunciation import english_lexicon
from voiceflow.alignment.types import SAMPLE_RATE, Alignment, AlignmentError, Phone, Word
from voiceflow.audio.features import FeatureSpec, LogMel
from voiceflow.config import UserError
from voiceflow.generation.continuation import LEAST_RANKED, lay_out_continuation, said_of
from voiceflow.generation.infill import Layout
from voiceflow.generation.plan import Gap, Slot, lay_out
from voiceflow.text.lexicon import Lexicon
from voiceflow.text.phones import SILENCE, positioned, with_ghost_silences

SAID = {"RED": ("R", "EH", "D"), "OX": ("AA", "K", "S"), "A": ("AH",), "BE": ("B", "IY")}
LEXICON = Lexicon({word: [phones] for word, phones in SAID.items()})
LOG_MEL = LogMel(FeatureSpec())
HOP = LOG_MEL.spec.hop
PHONE, EDGE, PAUSE = 8, 20, 15  # frames of a phone, of the silence at the ends, of a "|"


class Reader:
    """An aligner of a recording that says `said`: words, and "|" where there is a pause."""

    name = "reader"

    def __init__(self, said: str, edges: tuple[int, int] = (EDGE, EDGE), best: float = -3.0):
        clock, self.best, self.asked = edges[0], best, list[int]()
        made = [Word.silence(0.0, clock / 100)] if clock else []
        for token in said.split():
            begin = clock
            if token == "|":
                clock += PAUSE
                made.append(Word.silence(begin / 100, clock / 100))
                continue
            phones = []
            for symbol in SAID[token]:
                phones.append(Phone(symbol, clock / 100, (clock + PHONE) / 100))
                clock += PHONE
            made.append(Word(token, begin / 100, clock / 100, tuple(phones)))
        if edges[1]:
            made.append(Word.silence(clock / 100, (clock + edges[1]) / 100))
        self.alignment = Alignment(tuple(made), made[-1].end, -1.0)
        self.words = [word.text for word in self.alignment.spoken()]

    @property
    def wave(self) -> np.ndarray:
        n = round(self.alignment.seconds * SAMPLE_RATE)
        return (0.1 * np.random.default_rng(0).normal(size=n)).astype(np.float32)

    def score(self, wave: np.ndarray, words: list[str]) -> float:
        self.asked.append(len(words))
        if len(words) > len(self.words) + 9:
            return -math.inf
        return self.best - abs(len(words) - len(self.words)) / 4

    def align(self, wave: np.ndarray, words: list[str], id: str) -> Alignment:
        if words != self.words:
            raise AlignmentError(f"{id}: not what is said")
        return self.alignment


def laid_out(
    said: str, text: str, prefix: float | None, edges: tuple[int, int] = (EDGE, EDGE)
) -> Layout:
    reader = Reader(said, edges)
    return lay_out_continuation(reader.wave, text.split(), prefix, reader, LEXICON, LOG_MEL, "it")


@pytest.mark.parametrize("n_said", [1, 2, 3, 5, 8, 13, 21, 34, 55])
@pytest.mark.parametrize("n_more", [0, 1, 30])
def test_the_number_of_words_with_the_best_score(n_said: int, n_more: int) -> None:
    words = (["RED", "OX"] * 50)[: n_said + n_more]
    reader = Reader(" ".join(words[:n_said]))
    count, alignment = said_of(reader.wave, words, reader, "it")
    assert (count, alignment) == (n_said, reader.alignment)
    assert len(reader.asked) == len(set(reader.asked)) <= 34
    if n_more == 0:  # that all is said needs little asking
        assert len(reader.asked) <= 2


def test_texts_whose_beginning_is_not_said() -> None:
    reader = Reader("RED OX", best=LEAST_RANKED - 0.01)
    with pytest.raises(UserError, match=r"it: no beginning of the text seems to be .*score -5.71"):
        said_of(reader.wave, ["RED", "OX", "BE"], reader, "it")
    reader = Reader("RED OX")
    with pytest.raises(UserError, match=r"no beginning of the text .*from the first word"):
        said_of(reader.wave, ["A"], reader, "it")  # scored well and yet not aligned


# Frames: silence 0:20, RED 20:44, OX 44:68 (R EH D, AA K S of 8 each), silence 68:89.
def test_the_prefix_ends_at_the_nearest_phone_edge() -> None:
    for prefix, edge in ((0.44, 44), (0.47, 44), (0.49, 52), (0.60, 60)):
        layout = laid_out("RED OX", "RED OX", prefix)
        assert layout.gaps == [Gap(edge, 89, None)]
        assert layout.cuts == [(edge * HOP - HOP // 2, 88 * HOP)]
        kept = [s for s in layout.slots if s.gap is None]
        assert sum(s.frames for s in kept) == edge
        assert [s.phone for s in layout.slots] == with_ghost_silences([SAID["RED"], SAID["OX"]])


def test_a_ghost_silence_at_the_edge_is_kept() -> None:
    layout = laid_out("RED OX", "RED OX", 0.44)
    kept = [s for s in layout.slots if s.gap is None]
    assert kept == [Slot(SILENCE, EDGE), *(Slot(p, PHONE) for p in positioned(SAID["RED"])),
                    Slot(SILENCE, 0)]  # fmt: skip


@pytest.mark.parametrize("prefix", [None, 0.60])
def test_what_is_not_said_comes_after_what_is(prefix: float | None) -> None:
    layout = laid_out("RED OX", "RED OX BE A", prefix)
    assert [s.phone for s in layout.slots] == with_ghost_silences(
        SAID[w] for w in ("RED", "OX", "BE", "A")
    )
    edge = 89 if prefix is None else 60
    assert layout.gaps == [Gap(edge, 89, None)]
    new = [s.phone for s in layout.slots if s.gap == 0]
    assert new == (["B_B", "IY_E", SILENCE, "AH_S", SILENCE] if prefix is None else
                   ["S_E", SILENCE, "B_B", "IY_E", SILENCE, "AH_S", SILENCE])  # fmt: skip


def test_without_silence_at_the_end_a_ghost_silence_stands_between() -> None:
    layout = laid_out("RED OX", "RED OX BE", None, edges=(EDGE, 0))
    assert [s.phone for s in layout.slots].count(SILENCE) == 4
    assert [s.phone for s in layout.slots] == with_ghost_silences(
        SAID[w] for w in ("RED", "OX", "BE")
    )


def test_the_plan_keeps_the_prefix_and_adds_what_the_words_take() -> None:
    layout = laid_out("RED | OX", "RED OX BE", 0.44)

    def five_each(phones: list[str], frames: Tensor, mask: Tensor) -> Tensor:
        return torch.full((len(phones),), 5.0)

    plan = lay_out(layout.slots, layout.gaps, layout.mel, five_each)  # type: ignore[arg-type]
    [(first, last)] = plan.gaps
    assert first == 44
    assert last - first == 5 * sum(1 for s in layout.slots if s.gap == 0)
    assert torch.equal(plan.context[:44], layout.mel[:44])
    assert not plan.mask[:44].any()
    assert plan.mask[44:].all()


@pytest.mark.parametrize(
    ("text", "prefix", "why"),
    [
        ("RED OX", 99.0, r"a prefix of 99 s is not within the recording's 0.88 s"),
        ("RED OX", 0.0, "a prefix of 0 s is not within"),
        ("RED OX", -1.0, "a prefix of -1 s is not within"),
        ("RED OX", math.nan, "a prefix of nan s is not within"),
        ("RED OX", 0.05, r"first 0.05 s hold 0.00 s of speech in whole phones, .* longer prefix"),
        ("RED OX", 0.28, r"first 0.28 s hold 0.08 s of speech .* at least 0.1 s"),
        ("RED OX", None, r"already says the whole text \(2 words\): give the text that shall"),
        ("RED OX", 0.88, "already says the whole text"),
        ("BE A", 0.5, "no beginning of the text seems to be"),
    ],
)
def test_continuations_that_cannot_be(text: str, prefix: float | None, why: str) -> None:
    with pytest.raises(UserError, match=f"it: .*{why}"):
        laid_out("RED OX", text, prefix)


# --- real speech

@pytest.fixture(scope="module")
def aligner() -> PocketsphinxAligner:
    return PocketsphinxAligner()


def read(speech_dir: Path, id: str) -> tuple[np.ndarray, list[str]]:
    speaker, chapter, _ = id.split("-")
    folder = speech_dir / "LibriSpeech/test-clean" / speaker / chapter
    if not (folder / f"{id}.flac").is_file():
        pytest.skip(f"no real speech: {folder}/{id}.flac is absent")
    lines = (folder / f"{speaker}-{chapter}.trans.txt").read_text().splitlines()
    wave, _ = soundfile.read(folder / f"{id}.flac", dtype="float32")
    return wave, next(line.split()[1:] for line in lines if line.startswith(id))


@pytest.mark.parametrize(("id", "count"), [("1089-134686-0032", 4), ("237-126133-0012", 3)])
def test_how_much_real_speech_says(
    speech_dir: Path, aligner: PocketsphinxAligner, id: str, count: int
) -> None:
    wave, words = read(speech_dir, id)
    end = round(aligner.align(wave, words, id).spoken()[count - 1].end * SAMPLE_RATE)
    found, alignment = said_of(wave[:end], words, aligner, id)
    assert found == count
    assert [w.text for w in alignment.spoken()] == words[:count]


def test_texts_that_real_speech_does_not_say(
    speech_dir: Path, aligner: PocketsphinxAligner
) -> None:
    wave, _ = read(speech_dir, "1089-134686-0032")
    _, other = read(speech_dir, "260-123286-0005")
    with pytest.raises(UserError, match="no beginning of the text seems to be"):
        said_of(wave[: 2 * SAMPLE_RATE], other, aligner, "it")


def test_a_prefix_of_real_speech_that_says_only_the_beginning(
    speech_dir: Path, aligner: PocketsphinxAligner
) -> None:
    """The last words are not squeezed into the recording, though an alignment would fit."""
    wave, words = read(speech_dir, "1089-134686-0032")
    prefix = len(wave) / SAMPLE_RATE
    layout = lay_out_continuation(wave, [*words, "TO", "DAY"], prefix, aligner, english_lexicon(),
                                  LOG_MEL, "it")  # fmt: skip
    assert [s.phone for s in layout.slots if s.gap == 0][:1] == ["T_B"]
    framed = to_frames(aligner.align(wave, words, "it"), len(layout.mel), LOG_MEL.spec.hop_seconds)
    kept = [(s.phone, s.frames) for s in layout.slots if s.gap is None]
    assert kept == list(zip(framed.phones, framed.durations, strict=True))
