"""A corpus with every fault planted in it: each is told with its reason, or taken as documented."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import librispeech
from voiceflow.audio.io import load_mono
from voiceflow.cli import app as cli
from voiceflow.data.manifest import Utterance
from voiceflow.data.shards import open_prepared

RATE = 16000


def voiceflow(*arguments: object) -> int:
    before, sys.argv = sys.argv, ["voiceflow", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as left:
            cli.main()
    finally:
        sys.argv = before
    return int(left.value.code or 0)


class Faulty:
    """A LibriSpeech folder whose utterances are real, and what was done to each."""

    def __init__(self, root: Path, real: list[Utterance]) -> None:
        self.root = root
        self.real = real
        self.kept: set[str] = set()
        self.reasons: dict[str, str] = {}
        self.plant()

    def chapter(self, number: int) -> Path:
        folder = self.root / "dev" / "1" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def add(
        self,
        name: str,
        reason: str = "",
        text: str | None = None,
        wave: np.ndarray | None = None,
        rate: int = RATE,
        subtype: str = "PCM_16",
        chapter: int = 1,
        suffix: str = ".flac",
    ) -> Path:
        """One utterance; `reason` is what its rejection must say, empty where it is to be kept."""
        number = len(self.kept) + len(self.reasons)
        utterance = self.real[number % len(self.real)]
        samples = load_mono(utterance.audio, RATE) if wave is None else wave
        id = f"1-{chapter}-{name}"
        path = self.chapter(chapter) / f"{id}{suffix}"
        soundfile.write(path, samples, rate, subtype)
        said = utterance.text if text is None else text
        with (self.chapter(chapter) / f"1-{chapter}.trans.txt").open("ab") as file:
            file.write(f"{id} {said}\n".encode())
        if reason:
            self.reasons[id] = reason
        else:
            self.kept.add(id)
        return path

    def sound(self) -> np.ndarray:
        """The next utterance's samples, to be spoilt."""
        number = len(self.kept) + len(self.reasons)
        return load_mono(self.real[number % len(self.real)].audio, RATE)

    def plant(self) -> None:
        for good in ("good1", "good2"):
            self.add(good)
        self.add("stereo", wave=np.stack([self.sound()] * 2, 1))
        self.add("clipped", wave=np.clip(8 * self.sound(), -1, 1))
        cut = self.add("truncated", "truncated.flac")
        cut.write_bytes(cut.read_bytes()[:4000])
        self.add("text", "is not audio", suffix=".wav").write_text("I am a text.")
        self.add("zero", "is empty (0 bytes)").write_bytes(b"")
        self.add("silent", "digital silence", wave=np.zeros(2 * RATE))
        spoilt = self.sound()
        spoilt[100] = np.nan
        self.add("nan", "NaN or infinite", wave=spoilt, subtype="FLOAT", suffix=".wav")
        self.add("narrow", "8000 Hz", wave=self.sound()[::2], rate=8000)
        self.add("endless", "300.00 s long", wave=np.resize(self.sound(), 300 * RATE))
        self.add("wrong", "--min-score", text=self.real[-1].text)
        self.add("empty", "", text="")
        self.move("1-1-empty", "text")
        folder = self.chapter(1) / "1-1-folder.flac"
        folder.mkdir()
        self.told("1-1-folder", "folder")
        with (self.chapter(1) / "1-1.trans.txt").open("ab") as file:
            file.write(b"1-1-folder WHAT IS SAID\n1-1-absent WHAT IS SAID\n")
            file.write(b"1-1-good1 A SECOND TIME\n")
        self.told("1-1-absent", "sound")
        shutil.copy(self.chapter(1) / "1-1-good2.flac", self.chapter(1) / "1-1-untold.flac")
        self.told("1-1-untold", "no line in 1-1.trans.txt")
        self.add("latin", "UTF-8", chapter=2)
        (self.chapter(2) / "1-2.trans.txt").write_bytes("1-2-latin CAFÉ".encode("latin-1"))

    def told(self, id: str, reason: str) -> None:
        self.reasons[id] = reason

    def move(self, id: str, reason: str) -> None:
        self.kept.discard(id)
        self.told(id, reason)


@pytest.fixture(scope="module")
def faulty(speech_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Faulty, Path]:
    items = librispeech.read(speech_dir / "LibriSpeech", "train-clean-5")
    real = [u for u in items if isinstance(u, Utterance) and (u.seconds or 99) < 9][:20]
    made = Faulty(tmp_path_factory.mktemp("faulty"), real)
    out = tmp_path_factory.mktemp("prepared") / "data"
    code = voiceflow(
        "prepare", "librispeech", "--root", made.root, "--subset", "dev", "--aligner", "ctc",
        "--voice", "mini", "--min-score", "-1.3", "--out", out,
    )  # fmt: skip
    assert code == 0
    return made, out


def rejections(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]


def test_what_can_be_used_is_kept(faulty: tuple[Faulty, Path]) -> None:
    made, out = faulty
    assert set(open_prepared(out).dataset["id"][:]) == made.kept


def test_each_fault_is_told_with_its_reason(faulty: tuple[Faulty, Path]) -> None:
    made, out = faulty
    found = {line["id"]: line for line in rejections(out)}
    doubled = found.pop("1-1-good1", None)
    assert doubled is None or "second time" in doubled["reason"]
    assert found.keys() == made.reasons.keys()
    for id, reason in made.reasons.items():
        assert reason in found[id]["reason"], (id, found[id]["reason"])


def test_a_table_with_paths_that_lead_out_and_an_id_twice(
    speech_dir: Path, tmp_path: Path
) -> None:
    items = librispeech.read(speech_dir / "LibriSpeech", "train-clean-5")
    real = [u for u in items if isinstance(u, Utterance) and (u.seconds or 99) < 5][:2]
    folder = tmp_path / "mine"
    folder.mkdir()
    for number, utterance in enumerate(real):
        shutil.copy(utterance.audio, folder / f"{number}.opus")
    lines = ["id,audio,text"]
    lines += [f"a,0.opus,{real[0].text}", f"b,1.opus,{real[1].text}", f"a,1.opus,{real[1].text}"]
    lines += ["out,../elsewhere.wav,HELLO"]
    (folder / "metadata.csv").write_text("\n".join(lines))
    out = tmp_path / "out"
    code = voiceflow(
        "prepare", "table", "--root", folder / "metadata.csv", "--aligner", "ctc", "--voice",
        "mini", "--out", out,
    )  # fmt: skip
    assert code == 0
    assert list(open_prepared(out).dataset["id"][:]) == ["a", "b"]
    reasons = {line["id"]: line["reason"] for line in rejections(out)}
    assert reasons.keys() == {"a", "out"}
    assert "second time" in reasons["a"] or "twice" in reasons["a"]
