"""The embedded aligner on real speech."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from voiceflow.alignment.mfa import MfaAligner
from voiceflow.alignment.pocketsphinx import PocketsphinxAligner
from voiceflow.alignment.types import AlignmentError
from voiceflow.measures.alignment import compare, summarise
from voiceflow.text.phones import ARPABET

CHAPTER = "LibriSpeech/train-clean-100/5652/19215"
ID = "5652-19215-0011"  # holds a name and a possessive that the dictionary lacks


def utterance(folder: Path, id: str) -> tuple[np.ndarray, list[str]]:
    lines = (folder / f"{id.rpartition('-')[0]}.trans.txt").read_text().splitlines()
    transcript = dict(line.split(maxsplit=1) for line in lines)[id]
    path = next(p for p in folder.glob(f"{id}.*"))
    wave, rate = soundfile.read(path, dtype="float32")
    assert rate == 16000
    return wave, transcript.split()


@pytest.fixture(scope="module")
def aligner() -> PocketsphinxAligner:
    return PocketsphinxAligner()


def test_borders_agree_with_mfa(speech_dir: Path, aligner: PocketsphinxAligner) -> None:
    wave, words = utterance(speech_dir / CHAPTER, ID)
    alignment = aligner.align(wave, words, ID)
    assert [word.text for word in alignment.spoken()] == words
    assert alignment.seconds == len(wave) / 16000
    assert {p.symbol for w in alignment.words for p in w.phones} <= {*ARPABET, "SIL"}
    reference = MfaAligner(speech_dir / "LibriSpeech-alignments").align(wave, words, ID)
    differences = compare(reference, alignment)
    assert summarise(differences.words).median_seconds <= 0.02
    assert abs(summarise(differences.phones).offset_seconds) <= 0.01


def test_the_result_depends_on_the_utterance_alone(
    speech_dir: Path, aligner: PocketsphinxAligner
) -> None:
    folder = speech_dir / CHAPTER
    wave, words = utterance(folder, ID)
    other, other_words = utterance(folder, "5652-19215-0025")
    first = aligner.align(wave, words, ID)
    aligner.align(other, other_words, "other")
    assert aligner.align(wave, words, ID) == first
    assert pickle.loads(pickle.dumps(aligner)).align(wave, words, ID) == first


def test_the_right_transcript_scores_best(speech_dir: Path, aligner: PocketsphinxAligner) -> None:
    folder = speech_dir / "LibriSpeech/test-clean/1089/134686"
    wave, words = utterance(folder, "1089-134686-0032")
    right = aligner.score(wave, words)
    for id in ("1089-134686-0002", "1089-134686-0008", "1089-134686-0015"):
        assert aligner.score(wave, utterance(folder, id)[1]) < right
    assert aligner.score(wave, [*words[:5], *words[6:]]) < right
    assert aligner.score(wave, words) == right


def test_words_that_do_not_fit_are_refused(aligner: PocketsphinxAligner) -> None:
    noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32) * 0.01
    with pytest.raises(AlignmentError, match=r"u1.*last of 60 words"):
        aligner.align(noise, ["EXTRAORDINARY"] * 60, "u1")
    assert aligner.score(noise, ["EXTRAORDINARY"] * 60) == -math.inf
    with pytest.raises(AlignmentError, match="no word"):
        aligner.align(noise, [], "u2")
    with pytest.raises(AlignmentError, match="NON-WORD"):
        aligner.align(noise, ["NON-WORD"], "u3")
    with pytest.raises(AlignmentError, match=r"u[45].*too few"):
        aligner.align(noise[:100], ["A"], "u4")
    with pytest.raises(AlignmentError, match=r"u[45].*too few"):
        aligner.align(noise[:0], ["A"], "u5")
