"""Copy synthesis, measured."""

from pathlib import Path

import pytest
import torch

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError, VocoderConfig, load_group
from voiceflow.data.manifest import Utterance
from voiceflow.files import read_json
from voiceflow.measures.vocoders import ORIGINAL, measure_vocoders
from voiceflow.models.vocoder import Vocoder
from voiceflow.vocoders.griffin_lim import GriffinLim
from voiceflow.vocoders.neural import NeuralVocoder

pytest.importorskip("pesq")
pytest.importorskip("speechmos")
SPEC = FeatureSpec.named("voicebox16k")


def test_vocoders_beside_the_originals(
    test_clean: list[Utterance], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An original is perfect, Griffin-Lim good, an untrained network bad; more work, more speed."""
    shortest = sorted(test_clean, key=lambda u: (u.seconds or 0, u.id))[:2]
    torch.manual_seed(0)
    network = Vocoder(load_group(VocoderConfig, "vocoder", "tiny"), SPEC)
    rows = measure_vocoders(
        SPEC, {"griffin-lim": GriffinLim(SPEC, n_iterations=8),
               "untrained": NeuralVocoder(network, SPEC)},
        shortest, threads=[1], out=tmp_path / "vocoders.json",
    )  # fmt: skip
    original, griffin_lim, untrained = (row.figures for row in rows)
    assert original["PESQ"].value == pytest.approx(4.64, abs=0.01)
    assert original["STOI"].value == pytest.approx(1)
    assert original["STFT distance"].value == 0
    assert original["PESQ"].value > griffin_lim["PESQ"].value + 0.5
    assert griffin_lim["STOI"].value > 0.9 > untrained["STOI"].value
    assert griffin_lim["log-mel error"].value < 0.3 < untrained["log-mel error"].value
    assert griffin_lim["STFT distance"].value < untrained["STFT distance"].value
    assert [row.parameters > 0 for row in rows] == [False, False, True]
    assert all(row.speed[1] > 1 for row in rows[1:])
    told = read_json(tmp_path / "vocoders.json")
    assert [row["name"] for row in told["rows"]] == [ORIGINAL, "griffin-lim", "untrained"]
    said = capsys.readouterr().out
    assert "2 utterances of" in said
    assert "| original | 4.644 | 1.000 |" in said


def test_no_utterances() -> None:
    with pytest.raises(UserError, match="no utterances to vocode"):
        measure_vocoders(SPEC, {}, [])


def test_words_apart_is_a_difference_of_rates_with_its_interval() -> None:
    """Two more errors in 40 words are five points; equal errors are none, exactly."""
    from voiceflow.measures.vocoders import words_apart

    ours = [{"word_errors": 1.0, "words": 10.0} for _ in range(4)]
    others = [{"word_errors": 1.5, "words": 10.0} for _ in range(4)]
    speakers = ["a", "a", "b", "b"]
    assert "less that of x: +5.0 points (+5.0 to +5.0)" in words_apart(
        ours, others, speakers, "x", "y"
    )
    assert "+0.0 points (+0.0 to +0.0)" in words_apart(ours, ours, speakers, "x", "y")


def test_an_unknown_measure() -> None:
    from voiceflow.measures.vocoders import measure_vocoders

    utterance = Utterance("u", "a.wav", "A", "s")
    with pytest.raises(UserError, match="no measure 'taste': there are quality, distance, pitch"):
        measure_vocoders(SPEC, {}, [utterance], kinds=["taste"])
