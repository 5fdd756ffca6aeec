"""What is heard: known answers, and systems that cheat."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.types import SAMPLE_RATE
from voiceflow.audio.io import load_mono
from voiceflow.data.manifest import Utterance
from voiceflow.measures.heard import (
    Matching,
    Phones,
    PocketsphinxWords,
    bigrams,
    dictionary,
    steady,
    word_metrics,
    word_score,
)
from voiceflow.measures.scorer import Metric, Score, SetMetric, Sound, estimate, set_distance
from voiceflow.measures.speech import N_OTHERS, nearest
from voiceflow.measures.words import edits
from voiceflow.text.normalise import words_of

SPEAKERS = ("1089", "1995", "6829")


def test_edits_of_hand_made_rows() -> None:
    assert edits([], []) == 0
    assert edits(["A", "B"], []) == 2
    assert edits([], ["A", "B", "C"]) == 3
    assert edits(["A", "B", "C"], ["A", "X", "C", "D"]) == 2
    assert edits(list("kitten"), list("sitting")) == 3
    assert edits(list("a b"), list("ab")) == 1  # a space is a letter too


@pytest.mark.parametrize(
    ("said", "heard", "errors", "words"),
    [
        ("THE CAT SAT", "the cat sat", 0, 3),
        ("THE CAT SAT", "", 3, 3),
        ("THE CAT SAT", "a cat sat down", 2, 3),
        ("DON'T", "do not", 0, 2),
        ("COLOUR", "color", 0, 1),
        ("", "anything at all", 3, 0),
    ],
)
def test_words_and_letters(said: str, heard: str, errors: int, words: int) -> None:
    score = word_score(said, heard)
    assert (score["word_errors"], score["words"], score["hypothesis"]) == (errors, words, heard)


def test_the_rate_is_the_corpus_s() -> None:
    """Errors over words, not the mean of rates: (2 + 0) / (2 + 8)."""
    scores = [word_score("A B", "C D"), word_score("E F G H I J K L", "E F G H I J K L")]
    found = estimate(word_metrics("x")["WER (x)"], scores, ["1", "2"])
    assert found is not None
    assert (found.value, found.count) == (pytest.approx(0.2), 2)
    assert (found.low, found.high) == (0.0, 1.0)


def test_what_cannot_be_told_is_left_out_and_counted() -> None:
    metric = Metric.mean("x", "higher")
    scores: list[Score] = [{"x": 1.0}, {"x": None}, {}, {"x": 3.0}]
    found = estimate(metric, scores, list("abcd"))
    assert found is not None
    assert (found.value, found.count) == (2.0, 2)
    assert estimate(metric, [{"x": None}], ["a"]) is None


def test_sets_are_compared_whole() -> None:
    metric = SetMetric("v", lambda a, b: float(abs(a.mean() - b.mean())))
    made: list[Score] = [{"v": [1.0, 2.0]}, {"v": None}, {"v": [3.0, 4.0]}]
    original: list[Score] = [{"v": [0.0, 0.0]}, {"v": [0.0, 1.0]}]
    found = set_distance(metric, made, original)
    assert found is not None
    assert (found.value, found.count) == (2.25, 2)
    assert set_distance(metric, made[:1], original) is None


def test_rivals_are_the_nearest_in_length_and_never_the_text_itself() -> None:
    others = [f"{'A' * n} B" for n in range(1, 40)] + ["aaaaaaaaaaaa b"]
    found = nearest("AAAAAAAAAAAA B", others)
    lengths = sorted(abs(len(words[0]) - 12) for words in found)
    assert len(found) == N_OTHERS
    assert ["A" * 12, "B"] not in found
    assert lengths == sorted([*range(1, 10), *range(1, 11)])
    assert nearest("X", ["Y", "y", "Z"]) == [["Y"], ["Z"]]


def test_a_closed_language_model_sums_to_one() -> None:
    text = bigrams([["A", "B"], ["A", "C"], ["B"]])
    assert text.startswith("\\data\\\nngram 1=5\nngram 2=6\n")
    probabilities = [float(line.split()[0]) for line in text.splitlines() if " " in line
                     and line[0] == "-" and len(line.split()) == 3]  # fmt: skip
    assert all(p <= 0 for p in probabilities)
    singles = text.split("\\1-grams:\n")[1].split("\n\n")[0].splitlines()
    told = {line.split()[1]: 10 ** float(line.split()[0]) for line in singles}
    assert sum(v for word, v in told.items() if word != "<s>") == pytest.approx(1, abs=1e-3)
    weights = {line.split()[1]: 10 ** float(line.split()[2]) for line in singles}
    pairs: dict[str, dict[str, float]] = {}
    for line in text.split("\\2-grams:\n")[1].split("\n\n")[0].splitlines():
        log, first, second = line.split()
        pairs.setdefault(first, {})[second] = 10 ** float(log)
    for first, seconds in pairs.items():
        rest = sum(v for word, v in told.items() if word not in seconds and word != "<s>")
        assert sum(seconds.values()) + weights[first] * rest == pytest.approx(1, abs=2e-3)


def test_the_dictionary_of_a_closed_model() -> None:
    lines = dictionary([["THE", "CAT"], ["CAT"]]).splitlines()
    assert "cat K AE T" in lines
    assert [line.split()[0] for line in lines if line.startswith("the")][:2] == ["the", "the(2)"]


@dataclass(frozen=True)
class Real:
    """An utterance of a test speaker, another of the same, and the rest's texts."""

    sound: Sound
    prompt: np.ndarray


@pytest.fixture(scope="module")
def real(test_clean: Sequence[Utterance]) -> list[Real]:
    texts = [u.text for u in test_clean]
    found = []
    for speaker in SPEAKERS:
        first, second = [u for u in test_clean if u.speaker == speaker][:2]
        wave = load_mono(first.audio, SAMPLE_RATE)
        rivals = nearest(first.text, [t for t in texts if t != first.text])
        found.append(Real(
            Sound(first.id, wave, first.text, (0, len(wave)), rivals=tuple(map(tuple, rivals))),
            load_mono(second.audio, SAMPLE_RATE),
        ))  # fmt: skip
    return found


def altered(sound: Sound, wave: np.ndarray) -> Sound:
    return replace(sound, wave=wave.astype(np.float32), generated=(0, len(wave)))


def words_cut(sound: Sound, dropped: bool) -> Sound:
    """Without its second half's words, or with the longest word of the first half thrice."""
    alignment = PocketsphinxAligner().align(sound.wave, words_of(sound.text))
    words = alignment.spoken()
    edge = round(words[len(words) // 2].start * SAMPLE_RATE)
    if dropped:
        return altered(sound, sound.wave[:edge])
    longest = max(words[1 : len(words) // 2], key=lambda word: word.end - word.start)
    start, end = (round(t * SAMPLE_RATE) for t in (longest.start, longest.end))
    repeated = [sound.wave[:end], *[sound.wave[start:end]] * 3, sound.wave[end:]]
    return altered(sound, np.concatenate(repeated))


def rate(name: str, scorer: object, sounds: Sequence[Sound]) -> float:
    scores = scorer.score(sounds)  # type: ignore[attr-defined]
    found = estimate(scorer.metrics[name], scores, [s.id for s in sounds])  # type: ignore[attr-defined]
    assert found is not None
    return found.value


def test_cheats_are_seen(real: list[Real]) -> None:
    """Each is worse than the original where it should be."""
    original = [r.sound for r in real]
    cheats = {
        "the prompt copied": [altered(r.sound, r.prompt) for r in real],
        "silence": [altered(s, np.zeros_like(s.wave)) for s in original],
        "words dropped": [words_cut(s, dropped=True) for s in original],
        "a word repeated": [words_cut(s, dropped=False) for s in original],
    }
    words, phones = PocketsphinxWords(), Phones()
    wer = {name: rate("WER (pocketsphinx)", words, s) for name, s in cheats.items()}
    per = {name: rate("PER (ctc)", phones, s) for name, s in cheats.items()}
    best_wer = rate("WER (pocketsphinx)", words, original)
    best_per = rate("PER (ctc)", phones, original)
    assert best_wer < 0.35
    assert best_per < 0.35
    assert wer["silence"] >= 0.95
    assert wer["the prompt copied"] > 0.8
    assert wer["words dropped"] > best_wer + 0.2
    assert per["silence"] > 0.9
    assert per["the prompt copied"] > 0.6
    assert per["words dropped"] > best_per + 0.25
    assert per["a word repeated"] > best_per + 0.05
    assert wer["a word repeated"] > best_wer


def test_the_matching_test_knows_the_right_text(real: list[Real]) -> None:
    matching = Matching()
    [right] = matching.score([real[0].sound])
    [copied] = matching.score([altered(real[0].sound, real[0].prompt)])
    [alone] = matching.score([replace(real[0].sound, rivals=())])
    assert right["matched"] == 1
    assert isinstance(right["margin"], float)
    assert right["margin"] > 0
    assert copied["matched"] == 0
    assert alone == {"matched": None, "margin": None}


def test_a_closed_model_hears_what_it_knows(real: list[Real]) -> None:
    sounds = [r.sound for r in real]
    closed = PocketsphinxWords([s.text for s in sounds])
    assert rate("WER (pocketsphinx closed-lm)", closed, sounds) < 0.05
    assert closed.settings()["language_model"] == "bigrams of the trials' texts"


def test_a_path_that_is_paid_for_its_changes() -> None:
    """A frame's flicker is not worth two changes; a phone of four frames is."""
    best = torch.tensor([0, 0, 1, 0, 0, 2, 2, 2, 2, 0, 0])
    log_probs = torch.where(nn.functional.one_hot(best, 3) == 1, -0.1, -1.0)
    assert torch.unique_consecutive(best).tolist() == [0, 1, 0, 2, 0]
    assert steady(log_probs, 0.0).tolist() == [0, 1, 0, 2, 0]
    assert steady(log_probs, 1.0).tolist() == [0, 2, 0]
    assert steady(log_probs, 9.0).tolist() == [0]
    assert steady(log_probs[:1]).tolist() == [0]


def test_phones_of_a_gap(real: list[Real]) -> None:
    """Those said are found more than others, in the stretch of the gap alone."""
    sound = real[0].sound
    words = PocketsphinxAligner().align(sound.wave, words_of(sound.text)).spoken()
    word = max(words, key=lambda w: len(w.phones))
    span = (round(word.start * SAMPLE_RATE), round(word.end * SAMPLE_RATE))
    said = tuple(phone.symbol for phone in word.phones)
    phones = Phones()
    [right] = phones.score([replace(sound, generated=span, phones=said)])
    [nothing] = phones.score([replace(sound, generated=(0, 800), phones=said)])
    assert right["wanted"] == len(said)
    assert isinstance(right["found"], float)
    assert right["found"] >= len(said) / 2
    assert nothing["found"] == 0


def test_a_sound_too_short_for_a_frame() -> None:
    sound = Sound("x", np.zeros(10, np.float32), "WORD", (0, 10))
    [score] = Phones().score([sound])
    assert score["ctc_errors"] == score["phones"] == 3
