"""Whatever a person may get wrong: one clear line and exit code 2, or a note and the work done."""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import librispeech
from voiceflow.cli import app as cli
from voiceflow.config import UserError
from voiceflow.data.manifest import Utterance
from voiceflow.model_folder import ModelFolder
from voiceflow.voice import Voice


@pytest.fixture
def utterance(speech_dir: Path) -> Utterance:
    """A short recording of test-clean."""
    return next(iter(librispeech.read(speech_dir / "LibriSpeech", "test-clean")))


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Two seconds of faint noise."""
    path = tmp_path / "noise.wav"
    wave = np.random.default_rng(0).normal(0, 0.01, 32000)
    soundfile.write(path, wave, 16000)
    return path


class Run:
    """The command line in this process."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        self.monkeypatch, self.capsys, self.tmp_path = monkeypatch, capsys, tmp_path

    def __call__(self, *arguments: object) -> tuple[int, str]:
        """Exit code and what stood on stderr."""
        self.monkeypatch.setattr(sys, "argv", ["voiceflow", *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            with pytest.raises(SystemExit) as left:
                cli.main()
        return int(left.value.code or 0), self.capsys.readouterr().err

    def infill(
        self,
        voice: Path,
        recording: Path | str,
        text: str,
        span: str = "0.5:1.0",
        out: Path | None = None,
    ) -> tuple[int, str]:
        """`voiceflow infill` with a tiny voice."""
        out = out or self.tmp_path / "out.wav"
        return self(
            "infill", recording, "--text", text, "--span", span, "--out", out, "--voice", voice
        )


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    return Run(monkeypatch, capsys, tmp_path)


def assert_one_line(result: tuple[int, str], *said: str) -> None:
    """Exit code 2 and one line that says all of `said`."""
    code, err = result
    assert code == 2, err
    lines = [line for line in err.splitlines() if not line.startswith("voiceflow: note:")]
    assert len(lines) == 1, err
    assert lines[0].startswith("voiceflow: ")
    for words in said:
        assert words in lines[0], f"{words!r} is not in {lines[0]!r}"


def test_no_such_file(run: Run, tiny_voice: Path) -> None:
    assert_one_line(run.infill(tiny_voice, "/no/such.wav", "HELLO"), "/no/such.wav")


def test_not_audio(run: Run, tiny_voice: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("no sound at all")
    assert_one_line(run.infill(tiny_voice, path, "HELLO"), "text.wav")


def test_empty_file(run: Run, tiny_voice: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0), 16000)
    assert_one_line(run.infill(tiny_voice, path, "HELLO"), "empty.wav")


def test_shorter_than_one_phone(run: Run, tiny_voice: Path, tmp_path: Path) -> None:
    path = tmp_path / "click.wav"
    soundfile.write(path, np.full(300, 0.1), 16000)
    assert_one_line(run.infill(tiny_voice, path, "HELLO", "0:0.01"), "click.wav", "phone")


def test_nan_samples(run: Run, tiny_voice: Path, tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    soundfile.write(path, np.full(16000, np.nan), 16000, subtype="FLOAT")
    assert_one_line(run.infill(tiny_voice, path, "HELLO"), "nan.wav", "NaN")


@pytest.mark.parametrize(
    ("span", "said"),
    [("1.5:2.5", "outside"), ("1.0:0.5", "reversed"), ("1.0:1.0", "reversed"), ("x", "START:END")],
)
def test_bad_span(run: Run, tiny_voice: Path, noise: Path, span: str, said: str) -> None:
    assert_one_line(run.infill(tiny_voice, noise, "HELLO", span), said)


def test_overlapping_spans(tiny_voice: Path, noise: Path) -> None:
    with pytest.raises(UserError, match="overlap"):
        Voice.load(tiny_voice).infill(noise, "HELLO", [(0.2, 0.6), (0.5, 0.9)])


@pytest.mark.parametrize(("text", "said"), [("", "word"), ("...", "word"), ("ПРИВЕТ", "English")])
def test_bad_text(run: Run, tiny_voice: Path, noise: Path, text: str, said: str) -> None:
    assert_one_line(run.infill(tiny_voice, noise, text), said)
    assert_one_line(
        run("speak", text, "--out", "x.wav", "--voice", tiny_voice), said
    )


def test_text_that_is_not_said(run: Run, tiny_voice: Path, utterance: Utterance) -> None:
    wrong = "SOMETHING ALTOGETHER OTHER IS WRITTEN ON THIS PAGE AND NOBODY EVER READ IT ALOUD"
    assert_one_line(run.infill(tiny_voice, utterance.audio, wrong), "transcript", utterance.id)


def test_span_words_that_are_not_in_the_text(
    run: Run, tiny_voice: Path, utterance: Utterance
) -> None:
    result = run.infill(tiny_voice, utterance.audio, utterance.text, "0.5:1.0=ELEPHANTS")
    assert_one_line(result, "ELEPHANTS", "transcript")


def test_words_that_do_not_fit_into_the_span(
    run: Run, tiny_voice: Path, utterance: Utterance
) -> None:
    words = utterance.text.split()
    inner = " ".join(words[1:-1])
    result = run.infill(tiny_voice, utterance.audio, utterance.text, f"0.50:0.60={inner}")
    assert_one_line(result, utterance.id)


def test_incomplete_model_folder(
    run: Run, tiny_voice: Path, noise: Path, tmp_path: Path
) -> None:
    for missing in ("config.yaml", "phones.json", "features.json", "velocity.safetensors"):
        folder = tmp_path / f"without-{missing}"
        shutil.copytree(tiny_voice, folder)
        (folder / missing).unlink()
        assert_one_line(run.infill(folder, noise, "HELLO"), missing)


def test_damaged_weights(run: Run, tiny_voice: Path, noise: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_voice, folder)
    (folder / "velocity.safetensors").write_bytes(b"nonsense")
    assert_one_line(run.infill(folder, noise, "HELLO"), "velocity.safetensors")


def test_no_such_voice(run: Run, noise: Path) -> None:
    assert_one_line(run.infill(Path("nobody"), noise, "HELLO"), "nobody", "mini")


def test_model_of_another_feature_specification(tiny_voice: Path) -> None:
    folder = ModelFolder.open(tiny_voice)
    other = folder.features.with_statistics(-5.0, 2.0)
    with pytest.raises(UserError, match=r"mean -5.8843 / -5.0.*std 2.2615 / 2.0"):
        folder.features.require(other, "the voice", "the data")


@pytest.mark.parametrize("out", ["folder-is-a-file/out.wav", "out.mp3"])
def test_unwritable_output(
    run: Run, tiny_voice: Path, noise: Path, tmp_path: Path, out: str
) -> None:
    (tmp_path / "folder-is-a-file").write_text("")
    result = run.infill(tiny_voice, noise, "HELLO", out=tmp_path / out)
    assert_one_line(result, Path(out).name)


@pytest.mark.parametrize(
    ("rate", "channels", "note"),
    [(44100, 1, "holds sound above 8 kHz"), (8000, 1, "above 4 kHz"), (16000, 2, "2 channels")],
)
def test_other_rates_and_channels_are_filled_with_a_note(
    run: Run,
    tiny_voice: Path,
    utterance: Utterance,
    tmp_path: Path,
    rate: int,
    channels: int,
    note: str,
) -> None:
    from voiceflow.audio.io import load_mono, resample

    wave = resample(load_mono(utterance.audio, 16000), 16000, rate)
    if rate == 44100:  # a whistle above the voice's band
        wave = wave + 0.01 * np.sin(2 * np.pi * 12000 * np.arange(len(wave)) / rate)
    path = tmp_path / "in.wav"
    soundfile.write(path, np.stack([wave, 0.5 * wave][:channels], axis=1), rate)
    code, err = run.infill(tiny_voice, path, utterance.text, "1.0:1.3")
    assert code == 0, err
    assert note in err
    before, _ = soundfile.read(path, dtype="int16", always_2d=True)
    after, out_rate = soundfile.read(tmp_path / "out.wav", dtype="int16", always_2d=True)
    assert out_rate == rate
    assert after.shape == before.shape
    changed = np.flatnonzero((after != before).any(axis=1)) / rate
    assert 0.5 < changed.min() < 1.0 + 1e-6 < 1.3 - 0.02 < changed.max() < 1.8
