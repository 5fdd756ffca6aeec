"""The ctc aligner: borders in seconds from posteriors, reasons, batches; and real speech."""

import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from voiceflow.alignment.ctc import CtcAligner
from voiceflow.alignment.types import SAMPLE_RATE, AlignmentError
from voiceflow.audio.features import FeatureSpec
from voiceflow.audio.io import load_mono
from voiceflow.config import UserError
from voiceflow.text.lexicon import Lexicon
from voiceflow.text.phones import PhoneTable

TABLE = PhoneTable.english()
BASES = TABLE.bases()
LEXICON = Lexicon({
    "HE": [("HH", "IY")],
    "A": [("AH",), ("EY",)],
    "IS": [("IH", "Z")],
})  # fmt: skip


class Says(nn.Module):
    """In the recogniser's place: posteriors that say the given phones, one for each output."""

    stride = 2

    def __init__(self, *heard: Sequence[str], sure: float = 9.0) -> None:
        super().__init__()
        self.heard = heard
        self.sure = sure

    def frames(self, lengths: Tensor) -> Tensor:
        return (lengths + 1) // 2

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        out = torch.zeros(len(mel), int(self.frames(lengths).max()), len(BASES))
        for i, heard in enumerate(self.heard):
            for j, phone in enumerate(heard):
                out[i, j, BASES.index(phone)] = self.sure
        return out.log_softmax(2)


def aligner(*heard: Sequence[str], sure: float = 9.0) -> CtcAligner:
    return CtcAligner(Says(*heard, sure=sure), TABLE, FeatureSpec(), LEXICON)  # type: ignore[arg-type]


def audio(outputs: int) -> np.ndarray:
    """Noise of so many outputs of 20 ms; the last frame is the centred one at the end."""
    n = round(SAMPLE_RATE * 0.02 * (outputs - 1))
    return np.random.default_rng(0).normal(0, 0.1, n).astype(np.float32)


HEARD = "SIL SIL HH HH IY IY IY SIL IH Z Z SIL".split()


def test_borders_lie_between_outputs() -> None:
    found = aligner(HEARD).align(audio(12), ["HE", "IS"], "u")
    words = [(w.text, round(w.start, 3), round(w.end, 3)) for w in found.words]
    assert words == [
        ("", 0.0, 0.03),
        ("HE", 0.03, 0.13),
        ("", 0.13, 0.15),
        ("IS", 0.15, 0.21),
        ("", 0.21, 0.22),
    ]
    ends = [(p.symbol, round(p.end, 3)) for p in found.words[1].phones]
    assert ends == [("HH", 0.07), ("IY", 0.13)]
    assert found.seconds == pytest.approx(0.22)
    assert found.score == pytest.approx(0.0, abs=1e-5)


def test_the_pronunciation_that_is_heard_is_kept() -> None:
    for said in ("AH", "EY"):
        found = aligner(["SIL", said, said, "SIL"]).align(audio(4), ["A"], "u")
        assert [p.symbol for p in found.spoken()[0].phones] == [said]


def test_a_wrong_transcript_scores_lower_than_the_right_one() -> None:
    right = aligner(HEARD).align(audio(12), ["HE", "IS"], "u").score
    wrong = aligner(HEARD).align(audio(12), ["IS", "A"], "u").score
    assert right is not None
    assert wrong is not None
    assert wrong < right - 1


def test_an_utterance_is_aligned_in_a_batch_as_alone_and_errors_stay_its_own() -> None:
    short = ["IH", "Z", "SIL"]
    # The network hears those alone that have words: one, two, crowded.
    one, empty, two, crowded = aligner(HEARD, short, []).align_batch(
        [audio(12), audio(12), audio(3), audio(3)],
        [["HE", "IS"], [], ["IS"], ["HE", "IS"]],
        ["one", "empty", "two", "crowded"],
    )
    assert "empty: the transcript holds no word" in str(empty)
    assert "crowded: 2 words do not fit into 0.04 s" in str(crowded)
    assert isinstance(empty, AlignmentError)
    assert isinstance(crowded, AlignmentError)
    assert one == aligner(HEARD).align(audio(12), ["HE", "IS"], "one")
    assert two == aligner(short).align(audio(3), ["IS"], "two")


@pytest.mark.parametrize(
    ("words", "outputs", "reason"),
    [
        ([], 5, "u: the transcript holds no word"),
        (["HE"], 1, "u: 0 samples of audio are too few"),
        (["1"], 5, "u: no pronunciation for '1'"),
    ],
)
def test_what_cannot_be_aligned_has_its_reason(
    words: list[str], outputs: int, reason: str
) -> None:
    with pytest.raises(AlignmentError, match=reason):
        aligner(HEARD).align(audio(outputs), words, "u")


def test_a_lexicon_of_other_phones_is_named() -> None:
    foreign = Lexicon({"HE": [("HH", "QQ")]})
    made = CtcAligner(Says(HEARD), TABLE, FeatureSpec(), foreign)  # type: ignore[arg-type]
    with pytest.raises(AlignmentError, match="has no phone QQ"):
        made.align(audio(12), ["HE"], "u")


def test_an_aligner_travels_to_other_processes() -> None:
    made = aligner(HEARD)
    again = pickle.loads(pickle.dumps(made))
    assert again.align(audio(12), ["HE", "IS"], "u") == made.align(audio(12), ["HE", "IS"], "u")


def test_a_voice_without_an_aligner_is_named(tiny_voice: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_voice, tmp_path / "voice"))
    config = yaml.safe_load((copy / "config.yaml").read_text())
    (copy / "config.yaml").write_text(yaml.safe_dump({**config, "aligner": None}))
    with pytest.raises(UserError, match="has no aligner network: train one with"):
        CtcAligner.of_voice(copy)
    assert CtcAligner.of_voice(tiny_voice).name == "ctc"


def test_the_bundled_voice_aligns_real_speech_as_mfa_does(speech_dir: Path) -> None:
    from data_prep import librispeech
    from voiceflow.alignment.mfa import MfaAligner
    from voiceflow.data.manifest import Utterance
    from voiceflow.measures.alignment import compare, summarise
    from voiceflow.text.normalise import words_of

    reference = MfaAligner(speech_dir / "LibriSpeech-alignments")
    items = librispeech.read(speech_dir / "LibriSpeech", "train-clean-100")
    utterances = [u for u in items if isinstance(u, Utterance) and u.id in reference][::60]
    waves = [load_mono(u.audio, SAMPLE_RATE) for u in utterances]
    words = [words_of(u.text) for u in utterances]
    found = CtcAligner.of_voice("mini").align_batch(waves, words, [u.id for u in utterances])
    phones: list[float] = []
    for utterance, wave, transcript, alignment in zip(utterances, waves, words, found, strict=True):
        assert not isinstance(alignment, AlignmentError)
        phones += compare(reference.align(wave, transcript, utterance.id), alignment).phones
    borders = summarise(phones)
    assert borders.borders > 300
    assert borders.median_seconds <= 0.015
    assert borders.within_50_ms > 0.88
