"""The verbs that make sound: streams, reports, pictures, and one line for what is wrong."""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from voiceflow.cli import app as cli
from voiceflow.cli import transcript

SAID = "HE IS CALLED AS YOU KNOW THE APOSTLE OF THE INDIES"
NEW = SAID.replace("CALLED", "NAMED")

Ran = tuple[int, bytes, str]
"""Exit code, standard output, standard error"""


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tiny_voice: Path
) -> Callable[..., Ran]:
    """`voiceflow verb ...` with a tiny voice and one step, in this process."""

    def call(*arguments: object, stdin: bytes | None = None) -> Ran:
        command = [*map(str, arguments), "--voice", str(tiny_voice), "--steps", "1"]
        monkeypatch.setattr(sys, "argv", ["voiceflow", *command])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            with pytest.raises(SystemExit) as left:
                cli.main()
        out, err = capfdbinary.readouterr()
        return int(left.value.code or 0), out, err.decode()

    return call


@pytest.fixture(scope="module")
def speech(speech_dir: Path) -> Path:
    path = speech_dir / "LibriSpeech/test-clean/1089/134686/1089-134686-0032.flac"
    if not path.is_file():
        pytest.skip(f"no real speech: {path} is absent")
    return path


def assert_one_line(ran: Ran, folder: Path, *said: str) -> None:
    """Exit code 2, one line that says all of `said`, and nothing written."""
    code, out, err = ran
    lines = [line for line in err.splitlines() if not line.startswith("voiceflow: note:")]
    assert (code, out, len(lines)) == (2, b"", 1), err
    assert lines[0].startswith("voiceflow: ")
    for words in said:
        assert words in lines[0], f"{words!r} is not in {lines[0]!r}"
    assert [p.name for p in folder.iterdir() if p.name.startswith("out")] == []


# --- what is given out


def test_edit_from_and_to_streams(run: Callable[..., Ran], speech: Path, tmp_path: Path) -> None:
    edit = ("--from", SAID, "--to", NEW)
    code, out, err = run("edit", "-", *edit, "--out", "-", "--json", stdin=speech.read_bytes())
    assert code == 0, err
    streamed, rate = soundfile.read(io.BytesIO(out), dtype="int16")
    report = json.loads(err)  # the sound has standard output for itself
    assert rate == report["sample_rate"] == 16000
    assert report["out"] == "-"
    code, out, err = run("edit", speech, *edit, "--out", tmp_path / "out.wav", "--json")
    assert (code, err) == (0, "")
    written, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
    np.testing.assert_array_equal(streamed, written)
    timed = ("compute_seconds", "real_time_factor", "out")
    told = json.loads(out)
    assert {k: v for k, v in told.items() if k not in timed} == {
        k: v for k, v in report.items() if k not in timed
    }
    [(start, end)] = told["replaced"]
    before, _ = soundfile.read(speech, dtype="int16")
    np.testing.assert_array_equal(written[: start - 160], before[: start - 160])
    assert 0 < start < end < len(before)
    assert [p["phone"] for p in told["phones"] if p["phone"] != "SIL"] == ["N_B", "EY_I", "M_I",
                                                                         "D_E"]  # fmt: skip
    assert told["nfe"] == 2
    assert told["settings"]["steps"] == 1


def test_without_json_one_line_says_what_was_done(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    out, picture = tmp_path / "out.wav", tmp_path / "out.png"
    ran = run("speak", "hello", "--out", out, "--picture", picture)
    assert ran == (0, f"spoken: {out}, picture: {picture}\n".encode(), "")
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, sound, err = run("speak", "hello", "--out", "-")
    assert (code, err) == (0, "spoken: -\n")
    assert sound == out.read_bytes()  # the same seed gives the same file


def test_seeds_presets_and_candidates(run: Callable[..., Ran], tmp_path: Path) -> None:
    told = {}
    for name, options in {
        "own": (), "paper": ("--preset", "paper"), "other": ("--seed", "5"),
        "best": ("--candidates", "2"),
    }.items():  # fmt: skip
        code, out, err = run("speak", "I", "--out", tmp_path / f"{name}.wav", "--json", *options)
        assert code == 0, err
        told[name] = json.loads(out)
    sounds = {name: (tmp_path / f"{name}.wav").read_bytes() for name in told}
    assert sounds["own"] != sounds["other"]
    assert told["paper"]["settings"]["steps"] == 1  # --steps counts more than the preset
    assert told["own"]["settings"] != told["paper"]["settings"] or sounds["own"] == sounds["paper"]
    best = told["best"]
    assert len(best["candidates"]) == 2
    assert best["seed"] == best["chosen"]


def test_durations_are_written_changed_and_read(run: Callable[..., Ran], tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    code, _, err = run("speak", "a", "--out", tmp_path / "out.wav", "--save-durations", file)
    assert code == 0, err
    told = json.loads(file.read_text())
    for item in told["phones"]:
        item["seconds"] = 0.25
    file.write_text(json.dumps(told))
    code, out, err = run("speak", "a", "--out", tmp_path / "out.wav", "--durations", file, "--json")
    assert code == 0, err
    assert json.loads(out)["phones"] == told["phones"]


def test_many_samples(run: Callable[..., Ran], tmp_path: Path) -> None:
    folder, picture = tmp_path / "sounds", tmp_path / "p.png"
    command = ("sample", "hello", "--count", "2", "--out", folder)
    code, out, err = run(*command, "--json", "--picture", picture)
    assert (code, err) == (0, "")
    told = [json.loads(line) for line in out.splitlines()]
    assert [t["seed"] for t in told] == [0, 1]
    assert [t["out"] for t in told] == [str(folder / "0.wav"), str(folder / "1.wav")]
    assert {t["settings"]["guidance"] for t in told} == {0.0}
    assert {p.name for p in tmp_path.glob("*.png")} == {"p-0.png", "p-1.png"}
    sounds = [(folder / f"{n}.wav").read_bytes() for n in (0, 1)]
    assert sounds[0] != sounds[1]
    code, _, _ = run("sample", "hello", "--count", "1", "--seed", "1", "--out", folder)
    assert code == 0
    assert (folder / "0.wav").read_bytes() == sounds[1]


def test_continue_and_style(run: Callable[..., Ran], speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.flac"
    code, told, err = run("continue", speech, "--text", SAID, "--prefix", "2", "--out", out)
    assert (code, told.decode(), err) == (0, f"continued: {out}\n", "")
    code, told, err = run("style", speech, "--text", SAID, "--prompt", speech, "--prompt-text",
                          SAID, "--out", out, "--json")  # fmt: skip
    assert code == 0, err
    samples = len(soundfile.read(out)[0])
    assert abs(samples - len(soundfile.read(speech)[0])) <= 160
    assert json.loads(told)["spans"] == [[0, samples]]


# --- what a person may get wrong


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("",), ["no word in the text ''"]),
        (("!!! ...",), ["no word in the text '!!! ...'"]),
        (("word " * 30_000,), ["30000 words", "expected at most 20000"]),
        (("hello", "--speed", "0"), ["a speed of 0, expected 0.25 (slow) to 4 (fast)"]),
        (("hello", "--speed", "nan"), ["a speed of nan"]),
        (("hello", "--preset", "nobody"), ["preset 'nobody' is not one of", "paper"]),
        (("hello", "--solver", "nobody"), ["solver 'nobody' is not one of", "midpoint"]),
        (("hello", "--durations", "none.json"), ["none.json: no durations"]),
        (("hello", "--durations", "d.json", "--speed", "2"), ["--speed 2 and --durations"]),
        (("hello", "--picture", "p.jpg"), ["p.jpg", "must end in .png"]),
        (("hello", "--save-durations", "d.txt"), ["d.txt", "must end in .json"]),
        (("hello", "--prompt-text", "A"), ["found only --prompt-text"]),
        (("hello", "--prompt", "no.wav", "--prompt-text", "A"), ["no.wav does not exist"]),
    ],
    ids=lambda value: None if isinstance(value, list) else " ".join(value)[:24],
)
def test_speak(
    run: Callable[..., Ran], tmp_path: Path, options: tuple[str, ...], said: list[str]
) -> None:
    assert_one_line(run("speak", *options, "--out", tmp_path / "out.wav"), tmp_path, *said)


@pytest.mark.parametrize("option", ["--out", "--picture", "--save-durations"])
def test_places_that_cannot_be_written_are_told_before_any_work(
    run: Callable[..., Ran], tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").touch()
    suffix = {"--out": ".wav", "--picture": ".png", "--save-durations": ".json"}[option]
    place = tmp_path / "file" / f"x{suffix}"
    out = () if option == "--out" else ("--out", tmp_path / "out.wav")
    ran = run("speak", "hello", *out, option, place)
    assert_one_line(ran, tmp_path, str(place), "is a file, not a folder")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from", SAID, "--to", SAID), ["nothing to change"]),
        (("--from", "", "--to", SAID), ["no word in the text"]),
        (("--from", SAID, "--to", "..."), ["no word in the text"]),
        (("--from", "BUT THE DUSK WAS DEEPENING", "--to", "BUT THE DUSK"), ["what is said"]),
        (("--from", SAID, "--to", "SOMETHING NEW ALTOGETHER"), ["none of what is said would stay"]),
        (("--from", SAID, "--to", NEW, "--preset", "nobody"), ["preset 'nobody'"]),
        (("--from", SAID, "--to", SAID.replace("HE", "HE UNDERSTANDS AND"), "--keep-length"),
         ["cannot hold", "let the length change"]),
    ],
    ids=["equal", "empty from", "empty to", "not said", "nothing stays", "preset", "no room"],
)  # fmt: skip
def test_edit(
    run: Callable[..., Ran], speech: Path, tmp_path: Path, options: tuple[str, ...],
    said: list[str],
) -> None:  # fmt: skip
    assert_one_line(run("edit", speech, *options, "--out", tmp_path / "out.wav"), tmp_path, *said)


def test_denoise_needs_no_voice_to_refuse_words(
    run: Callable[..., Ran], speech: Path, tmp_path: Path
) -> None:
    options = ("--text", SAID, "--span", "0.5:1=HELLO", "--voice", tmp_path / "none")
    ran = run("denoise", speech, *options, "--out", tmp_path / "out.wav")
    assert_one_line(ran, tmp_path, "START:END alone")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--text", SAID, "--prefix", "99"), ["a prefix of 99 s is not within"]),
        (("--text", SAID, "--prefix", "0"), ["a prefix of 0 s"]),
        (("--text", SAID, "--prefix", "0.05"), ["of speech in whole phones", "longer prefix"]),
        (("--text", SAID), ["already says the whole text (11 words)"]),
        (("--text", ""), ["no word in the text"]),
    ],
    ids=["long", "zero", "short", "all said", "empty"],
)
def test_continue(
    run: Callable[..., Ran], speech: Path, tmp_path: Path, options: tuple[str, ...],
    said: list[str],
) -> None:  # fmt: skip
    ran = run("continue", speech, *options, "--out", tmp_path / "out.wav")
    assert_one_line(ran, tmp_path, *said)


def test_sample(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = run("sample", "hello", "--count", "0", "--out", tmp_path / "out")
    assert code == 2
    assert "--count" in err
    assert_one_line(run("sample", "hello", "--out", "-"), tmp_path, "a folder", "found -")
    assert_one_line(run("sample", "hello", "--out", tmp_path / "file"), tmp_path, "is a file")
    assert_one_line(run("sample", "...", "--out", tmp_path / "out"), tmp_path, "no word")


@pytest.mark.parametrize(
    ("sound", "said"),
    [(b"", "standard input is empty"), (b"no sound", "standard input is not audio")],
)
def test_standard_input_that_holds_no_sound(
    run: Callable[..., Ran], tmp_path: Path, sound: bytes, said: str
) -> None:
    for verb in (("edit", "-", "--from", SAID, "--to", NEW), ("continue", "-", "--text", SAID),
                 ("infill", "-", "--text", SAID, "--span", "0.1:0.2")):  # fmt: skip
        ran = run(*verb, "--out", tmp_path / "out.wav", stdin=sound)
        assert_one_line(ran, tmp_path, said)


# --- a transcript that is heard


def test_infill_of_what_is_heard(
    run: Callable[..., Ran], speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    span = ("infill", speech, "--span", "1.0:1.3", "--out", tmp_path / "out.wav")
    silent = np.zeros(16000)
    soundfile.write(tmp_path / "silent.wav", silent, 16000)
    ran = run("infill", tmp_path / "silent.wav", *span[2:], "--yes")
    assert_one_line(ran, tmp_path, "silent.wav: no words are heard in it: give what it says")
    ran = run(*span[:3], "1.0:1.3=KNOW", *span[4:])
    assert_one_line(ran, tmp_path, "--text is needed where a span has words")
    code, _, err = run(*span, stdin=b"")
    assert code == 2
    assert err.splitlines()[0].startswith("heard: ")
    assert "give what it says by --text, or --yes" in err.splitlines()[1]
    asked = []

    def confirm(question: str, **_: object) -> bool:
        asked.append(question)
        return len(asked) > 1

    monkeypatch.setattr(transcript.typer, "confirm", confirm)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    code, _, err = run(*span)
    assert code == 2
    assert "give what it says by --text" in err
    assert not (tmp_path / "out.wav").exists()
    code, _, err = run(*span)
    assert (code, len(asked)) == (0, 2)
    assert (tmp_path / "out.wav").exists()
