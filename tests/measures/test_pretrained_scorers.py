"""Pretrained scorers: untrained networks of their classes, written here, go the whole way."""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.measures.untrained import (
    CONVOLUTIONS,
    SYMBOLS,
    WHISPERS,
    extractor,
    hubert,
    noise,
    save,
    sound,
    transformers,
)
from voiceflow.config import UserError
from voiceflow.measures.hub import batches, frames, shortest
from voiceflow.measures.pretrained_voices import Wav2Vec2Vectors, WavLMSpeaker
from voiceflow.measures.pretrained_words import HubertWords, WhisperWords, in_capitals
from voiceflow.measures.scorer import Metric, Scorer, SetMetric, Sound
from voiceflow.measures.unispeech import UniSpeechSpeaker

pytestmark = pytest.mark.usefixtures("offline")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def hubert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hubert(tmp_path_factory.mktemp("models") / "hubert")


@pytest.fixture(scope="module")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of 2 s, of letters alone."""
    torch.manual_seed(0)
    letters = [chr(i) for i in range(33, 127)] + ["Ġ"]
    tokenizer = transformers.WhisperTokenizer(
        vocab={c: i for i, c in enumerate(letters)}, merges=[]
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(WHISPERS)})
    end = tokenizer.eos_token_id
    start, english, transcribe, plain = tokenizer.convert_tokens_to_ids(list(WHISPERS))
    network = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(
            vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
            decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=100, max_target_positions=24,
            pad_token_id=end, bos_token_id=end, eos_token_id=end, decoder_start_token_id=start,
        )
    )  # fmt: skip
    # Large enough for what is heard to depend on the sound.
    for weight in network.parameters():
        weight.data.mul_(8)
    network.generation_config = transformers.GenerationConfig(
        is_multilingual=True, lang_to_id={"<|en|>": english}, task_to_id={"transcribe": transcribe},
        no_timestamps_token_id=plain, decoder_start_token_id=start, eos_token_id=end,
        pad_token_id=end, bos_token_id=end, max_length=24, return_timestamps=False,
    )  # fmt: skip
    return save(
        tmp_path_factory.mktemp("models") / "whisper", network, tokenizer,
        transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def wavlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.WavLMConfig(
        **CONVOLUTIONS, num_buckets=32, max_bucket_distance=64, use_weighted_layer_sum=True,
        tdnn_dim=(8, 8, 8, 8, 16), xvector_output_dim=8,
    )  # fmt: skip
    network = transformers.WavLMForXVector(config)
    for weight in network.parameters():
        weight.data.mul_(4)  # untrained, it hears next to nothing
    return save(tmp_path_factory.mktemp("models") / "wavlm", network, extractor(False))


@pytest.fixture(scope="module")
def wav2vec2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**{**CONVOLUTIONS, "num_hidden_layers": 7})
    network = transformers.Wav2Vec2Model(config)
    return save(tmp_path_factory.mktemp("models") / "wav2vec2", network, extractor(False))


@pytest.fixture(scope="module")
def scorers(
    hubert_folder: Path, whisper_folder: Path, wavlm_folder: Path, unispeech_folder: Path,
    wav2vec2_folder: Path,
) -> list[Scorer]:  # fmt: skip
    return [
        HubertWords(str(hubert_folder)),
        WhisperWords(str(whisper_folder)),
        WavLMSpeaker(str(wavlm_folder)),
        UniSpeechSpeaker(str(unispeech_folder)),
        Wav2Vec2Vectors(str(wav2vec2_folder)),
    ]


def test_settings_and_columns(scorers: list[Scorer]) -> None:
    names = []
    for scorer in scorers:
        settings = scorer.settings()
        assert json.loads(json.dumps(settings)) == settings
        assert settings["commit"] is None and len(settings["fingerprint"]) == 16
        assert settings["transformers"] == transformers.__version__
        assert settings["dtype"] == "float32"
        prompt = noise(1.0, 1)
        (score,) = scorer.score([sound(noise(1.0, 0), "one two", prompt=prompt)])
        json.dumps(score)
        for name, metric in scorer.metrics.items():
            names.append(name)
            columns = metric.columns if isinstance(metric, Metric) else (metric.column,)
            assert set(columns) <= set(score)
    assert names == [
        "WER (hubert)", "CER (hubert)", "WER (whisper)", "WER (whisper, mean of utterances)",
        "SIM-o (wavlm)", "SIM-r (wavlm)", "SIM-o (unispeech)", "SIM-r (unispeech)",
        "FSD (wav2vec2)",
    ]  # fmt: skip


@pytest.mark.parametrize("norm", ["layer", "group"])
def test_what_hubert_hears_does_not_depend_on_the_batch(norm: str, tmp_path: Path) -> None:
    other: dict[str, Any] = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
    folder = str(hubert(tmp_path / "hubert", **(other if norm == "group" else {})))
    together, alone = HubertWords(folder), HubertWords(folder, batch_seconds=0)
    assert together.padded is (norm == "layer")
    waves = [noise(s, i) for i, s in enumerate((0.5, 1.7, 0.0, 1.0, 0.5, 0.02))]
    one = [alone.logits([wave])[0] for wave in waves]
    assert [len(x) for x in one] == [24, 84, 0, 49, 24, 0]
    for found, expected in zip(together.logits(waves), one, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    sounds = [sound(wave, "a b") for wave in waves]
    assert together.score(sounds) == alone.score(sounds)
    assert len({str(s["hypothesis"]) for s in together.score(sounds)}) > 3


def test_errors_of_hubert(tmp_path: Path) -> None:
    scorer = HubertWords(str(hubert(tmp_path / "hubert", always="E")))
    wave = noise(0.5, 0)
    some, right, nothing = scorer.score([sound(wave, "“E”, e_b’s"), sound(wave, "e."), sound(wave)])
    assert some == {
        "word_errors": 2, "words": 3, "character_errors": 6, "characters": 7, "hypothesis": "E",
    }  # fmt: skip
    assert right["word_errors"] == 0 and right["words"] == 1
    assert (nothing["word_errors"], nothing["words"], nothing["characters"]) == (1, 0, 0)
    (unheard,) = scorer.score([sound(wave[:399], "two words")])
    assert unheard["hypothesis"] == "" and unheard["word_errors"] == 2
    assert unheard["character_errors"] == 9


def test_a_double_letter_needs_a_blank(hubert_folder: Path) -> None:
    scorer = HubertWords(str(hubert_folder))
    path = ["|", "E", "E", "<pad>", "E", "|", "|", "'", "S", "<pad>"]
    logits = F.one_hot(torch.tensor([SYMBOLS.index(s) for s in path]), len(SYMBOLS))
    scorer.logits = lambda waves: [logits]  # type: ignore[method-assign]
    (score,) = scorer.score([sound(noise(0.1, 0), "EE 'S")])
    assert score["hypothesis"] == "EE 'S" and score["character_errors"] == 0


def test_capitals() -> None:
    assert in_capitals(" It’s “well-known” — by 2,_yes.\n") == "IT'S WELL KNOWN BY 2 YES"
    assert in_capitals("…") == ""


def test_what_whisper_hears_does_not_depend_on_the_batch(whisper_folder: Path) -> None:
    together = WhisperWords(str(whisper_folder))
    alone = WhisperWords(str(whisper_folder), batch_seconds=0)
    sounds = [sound(noise(s, i), "one two") for i, s in enumerate((0.5, 1.7, 2.0, 1.0))]
    assert together.score(sounds) == alone.score(sounds)
    heard = {str(score["hypothesis"]) for score in together.score(sounds)}
    assert len(heard) > 1 and not any("<|" in text for text in heard)
    assert together.settings()["decoding"] == {
        "search": "greedy", "language": "en", "task": "transcribe"
    }  # fmt: skip


def test_errors_of_whisper(whisper_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = WhisperWords(str(whisper_folder))
    monkeypatch.setattr(scorer, "_hear", lambda waves: ["Two colours!"] * len(waves))
    wave = noise(2.0, 0)
    found = scorer.score([
        sound(wave, "2 colors and one"), sound(wave), sound(wave[:0], "a b"),
        sound(noise(2.1, 0), "two"),
    ])  # fmt: skip
    errors = [(s["word_errors"], s["words"], s["wer"], s["hypothesis"]) for s in found]
    assert errors == [
        (2, 4, 0.5, "Two colours!"), (2, 0, None, "Two colours!"), (2, 2, 1, ""),
        (None, None, None, None),
    ]  # fmt: skip
    assert found[3]["reason"] == "longer than 2 s" and "reason" not in found[0]


@pytest.mark.parametrize("name", ["wavlm", "unispeech"])
def test_likeness(name: str, scorers: list[Scorer]) -> None:
    scorer = scorers[2 if name == "wavlm" else 3]
    a, b, c = noise(1.0, 0), noise(1.3, 1), noise(1.0, 2)
    whole = Sound("trial", np.concatenate([b, a]), "", (len(b), len(b) + len(a)), a, b)
    other = Sound("trial", a, "", (0, len(a)), c)
    found = scorer.score([whole, other])
    assert found[0]["sim_o"] == pytest.approx(1, abs=1e-5)
    assert found[1]["sim_r"] is None
    for value in (found[0]["sim_r"], found[1]["sim_o"]):
        assert isinstance(value, float) and -1 <= value < 1 - 1e-6
    assert found == [pytest.approx(scorer.score([s])[0], abs=1e-4) for s in (whole, other)]
    # A voice is not louder.
    louder = scorer.score([sound(a * 2, prompt=c)])[0]["sim_o"]
    assert louder == pytest.approx(found[1]["sim_o"], abs=1e-2)


@pytest.mark.parametrize("name", ["wavlm", "unispeech"])
def test_where_there_is_no_likeness(name: str, scorers: list[Scorer]) -> None:
    scorer = scorers[2 if name == "wavlm" else 3]
    assert isinstance(scorer, WavLMSpeaker | UniSpeechSpeaker)
    least = scorer.shortest
    a, long = noise(1.0, 0)[:least], noise(1.0, 0)
    sounds = [
        sound(a),
        sound(a[:-1], prompt=long),
        sound(long, prompt=a[:-1], prompt_resynthesis=a[:0]),
        sound(long, prompt=np.zeros_like(long)),
        sound(np.zeros_like(long), prompt=long),
    ]
    assert scorer.score(sounds) == [{"sim_o": None, "sim_r": None}] * len(sounds)
    (found,) = scorer.score([sound(a, prompt=a, prompt_resynthesis=long)])
    assert found["sim_o"] == pytest.approx(1, abs=1e-5) and isinstance(found["sim_r"], float)
    assert least == (shortest(scorer._network.config, 16) if name == "wavlm" else 720)


@pytest.mark.parametrize("place", [2, 4])
def test_vectors_do_not_depend_on_the_batch(place: int, scorers: list[Scorer]) -> None:
    scorer = scorers[place]
    assert isinstance(scorer, WavLMSpeaker | Wav2Vec2Vectors)
    waves = [noise(s, i) for i, s in enumerate((0.5, 1.7, 0.5, 1.0, 0.5))]
    for found, wave in zip(scorer.vectors(waves), waves, strict=True):
        (alone,) = scorer.vectors([wave])
        assert found is not None and alone is not None
        np.testing.assert_allclose(found, alone, atol=1e-4 * np.abs(alone).max())


def test_the_layer_and_the_distance(
    wav2vec2_folder: Path, scorers: list[Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, wave = scorers[4], noise(1.0, 0)
    network = transformers.Wav2Vec2Model.from_pretrained(wav2vec2_folder).eval()
    outputs: list[Tensor] = []
    network.encoder.layers[5].register_forward_hook(lambda _, __, out: outputs.append(
        out[0] if isinstance(out, tuple) else out
    ))  # fmt: skip
    with torch.inference_mode():
        network(torch.tensor((wave - wave.mean()) / wave.std())[None])
    told, short = scorer.score([sound(wave), sound(wave[:399])])
    np.testing.assert_allclose(np.array(told["vector"]), outputs[0][0].mean(0), atol=1e-4)
    assert short == {"vector": None}

    from voiceflow.measures import frechet

    monkeypatch.setattr(frechet, "frechet_distance", lambda a, b, components: float(components))
    metric = scorer.metrics["FSD (wav2vec2)"]
    assert isinstance(metric, SetMetric) and metric.distance(np.eye(4), np.eye(4)) == 128


def test_receptive_field() -> None:
    config = transformers.HubertConfig()
    assert [frames(config, n) for n in (0, 399, 400, 719, 720, 16000)] == [0, 0, 1, 1, 2, 49]
    assert [shortest(config, n) for n in (1, 2, 49)] == [400, 720, 15760]


def test_batches() -> None:
    lengths = [3, 5, 3, 9, 3]
    assert list(batches(lengths, 10, padded=True)) == [[3], [1, 0], [2, 4]]
    assert list(batches(lengths, 10, padded=False)) == [[3], [1], [0, 2, 4]]
    assert list(batches(lengths, 0, padded=True)) == [[3], [1], [0], [2], [4]]
    assert list(batches([], 10, padded=True)) == []


@pytest.mark.parametrize("kind", [HubertWords, WhisperWords, WavLMSpeaker, Wav2Vec2Vectors])
def test_a_hub_that_cannot_be_reached(kind: Any) -> None:
    with pytest.raises(UserError, match=r"'some/model@v1' .* `hf download some/model"):
        kind("some/model@v1")
    with pytest.raises(UserError, match="model '/no/such/folder' is no folder here"):
        kind("/no/such/folder")


def test_a_model_in_the_cache_of_the_hub(hubert_folder: Path, offline: Path) -> None:
    cached = offline / "models--some--model"
    shutil.copytree(hubert_folder, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    settings = HubertWords("some/model").settings()
    assert (settings["model"], settings["commit"]) == ("some/model", COMMIT)
    assert settings["fingerprint"] is None
    assert HubertWords(f"some/model@{COMMIT}").settings()["commit"] == COMMIT


@pytest.mark.parametrize("kind", [HubertWords, WhisperWords, WavLMSpeaker, Wav2Vec2Vectors])
def test_pickled_weights_are_not_opened(kind: Any, tmp_path: Path) -> None:
    for name in ("config.json", "generation_config.json", "pytorch_model.bin"):
        (tmp_path / name).write_text("{}")
    told = r"no model.safetensors but pytorch_model.bin: pickled .*save_pretrained\('FOLDER'\)"
    with pytest.raises(UserError, match=re.escape(str(tmp_path)) + ".*" + told):
        kind(str(tmp_path))


def test_folders_that_are_not_whole(
    hubert_folder: Path, whisper_folder: Path, wav2vec2_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "hubert"
    for name in ("vocab.json", "config.json"):
        shutil.copytree(hubert_folder, folder)
        (folder / name).unlink()
        with pytest.raises(UserError, match=r"hubert'.* get it again"):
            HubertWords(str(folder))
        shutil.rmtree(folder)
    shutil.copytree(hubert_folder, folder)
    weights = load_file(folder / "model.safetensors")
    for part in ("lm_head.bias", "hubert.encoder.layers.1.attention.k_proj.weight"):
        save_file(
            {k: v for k, v in weights.items() if k != part}, folder / "model.safetensors",
            metadata={"format": "pt"},
        )  # fmt: skip
        with pytest.raises(UserError, match=f"lack 1 that HubertForCTC has: {part}"):
            HubertWords(str(folder))
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"hubert'.* get it again"):
        HubertWords(str(folder))
    with pytest.raises(UserError, match="it is another network"):
        HubertWords(str(wav2vec2_folder))
    shutil.copytree(whisper_folder, tmp_path / "whisper")
    (tmp_path / "whisper" / "generation_config.json").unlink()
    with pytest.raises(UserError, match=r"whisper'?.* no generation_config.json"):
        WhisperWords(str(tmp_path / "whisper"))


def test_a_network_of_too_few_layers(tmp_path: Path) -> None:
    network = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**CONVOLUTIONS))
    save(tmp_path, network, extractor(False))
    with pytest.raises(UserError, match="has 2 layers, expected at least 6"):
        Wav2Vec2Vectors(str(tmp_path))


def test_without_the_library(
    hubert_folder: Path, unispeech_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    for kind, folder in ((HubertWords, hubert_folder), (UniSpeechSpeaker, unispeech_folder)):
        with pytest.raises(UserError, match=r"pip install -e '\.\[eval\]'"):
            kind(str(folder))
