"""The page of a benchmark: whole in one file, nothing left out, and it works in a browser."""

import base64
import copy
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from urllib.request import urlopen

import numpy as np
import pytest
import soundfile

from voiceflow.benchmark.listening import _chosen, _marked
from voiceflow.benchmark.report import write_report
from voiceflow.benchmark.tables import markdown_table
from voiceflow.config import UserError

RATE = 16000
SYSTEMS = ("original", "resynthesis", "mini-0")
VOID = {"meta", "img", "br", "use"}
# What a click on WER gives, up and then down: groups stay, and stay in their order.
UP = ["original", "resynthesis", "a|b <i>", "mini-0", "mini, 2 seeds", "Voicebox", "YourTTS"]
DOWN = ["resynthesis", "original", "mini-0", "a|b <i>", "mini, 2 seeds", "YourTTS", "Voicebox"]
# Tells in the title what came of it.
PLAY = """<script>
  const told = {};
  const table = document.querySelector("table.sorts");
  const head = table.querySelectorAll("thead th")[1];
  for (const way of ["up", "down"]) {
    head.querySelector("button").click();
    const names = [...table.querySelectorAll("tbody th")].map(th => th.firstChild.textContent);
    told[way] = [head.getAttribute("aria-sort"), ...names];
  }
  told.too_wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const audio = document.querySelector("audio");
  audio.muted = true;
  const tell = word => {
    document.title = "told:" + encodeURIComponent(JSON.stringify({...told, came: word}));
  };
  audio.addEventListener("error", () => tell(audio.error.message));
  audio.addEventListener("ended", () => { told.played = audio.currentTime; tell("to its end"); });
  audio.play().catch(error => tell(String(error)));
</script>"""


def figure(value: float | None, unit: str = "", better: str = "lower", **more: Any) -> dict:
    return {"value": value, "low": None, "high": None, "count": 8, "unit": unit, "better": better,
            **more}  # fmt: skip


def row(system: str, seed: int | None, wer: float | None, sim: float, task: str = "cross") -> dict:
    interval: dict[str, Any] = {} if wer is None else {"low": wer - 0.05, "high": wer + 0.05}
    return {
        "task": task, "system": system, "seed": seed, "trials": 8,
        "nfe": None if seed is None else 16, "network_passes": None if seed is None else 32,
        "rtf": None if seed is None else 0.412,
        "figures": {
            "WER (pocketsphinx)": figure(wer, "%", **interval),
            "SIM-o (resemblyzer)": figure(sim, "", "higher", count=7),
        },
    }  # fmt: skip


def trial(folder: Path, number: int, errors: int) -> dict:
    """Ten words, of which the voice gets `errors` wrong; a sine a system, in files of `folder`."""
    id = f"cross-{number:02d}"
    sounds = {}
    for place, system in enumerate(("prompt", *SYSTEMS)):
        path = folder / "audio" / system / f"{id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        n = RATE // (2 if system == "prompt" else 1)
        wave = 0.3 * np.sin(2 * np.pi * 200 * (place + 1) * np.arange(n) / RATE)
        soundfile.write(path, wave, RATE, subtype="PCM_16")
        sounds[system] = f"audio/{system}/{id}.wav"
    said = "one two three four five six <seven> eight nine ten"
    heard = " ".join(["wrong"] * errors + said.split()[errors:])
    return {
        "id": id, "task": "cross", "speaker": str(number % 4), "text": said, "sounds": sounds,
        "scores": {
            s: {"pitch": {"mcd_db": 1.0},
                "pocketsphinx": {"word_errors": float(e), "words": 10.0, "hypothesis": h}}
            for s, e, h in (("original", 0, said), ("mini-0", errors, heard))
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict:
    """Two calibration rows, three others, two reported; eight trials; a sweep; durations."""
    return {
        "voiceflow": "0.1",
        "date": "2026-11-25",
        "voice": {"voice": "/voices/mini", "voice_fingerprint": "9f8e7d6c",
                  "settings": {"steps": 8}},
        "protocol": {"name": "voicebox", "corpus": "LibriSpeech", "subset": "test-clean", "seed": 0,
                     "trials": 8, "speakers": 4, "sha256": "ab12" * 16, "limit": 8},
        "machine": {"device": "cpu", "threads": 2},
        "scorers": {"pocketsphinx": {"version": "5.0.4"}},
        "rows": [
            row("mini-0", 0, 0.224, 0.61),  # calibration comes first wherever it stands
            row("original", None, 0.05, 0.8),
            row("resynthesis", None, 0.06, 0.75),
            row("a|b <i>", 1, 0.2, 0.5),
            row("mini, 2 seeds", None, None, 0.6),
            {**row("mini, flow", 0, None, 0.0, "durations"),
             "figures": {"MS-MAE (frames)": figure(12.345), "FDD": figure(float("nan"))}},
        ],
        "reported": [
            {"task": "cross", "system": name, "source": "Le et al. 2023",
             "note": "as reported, other scorers", "figures": {"WER": {"value": wer, "unit": "%"}}}
            for name, wer in (("YourTTS", 0.077), ("Voicebox", 0.019))
        ],
        "trials": [
            *(trial(folder, n, errors) for n, errors in enumerate((3, 2, 2, 5, 9, 9, 4, 3))),
            {"id": "d", "task": "durations", "speaker": "1", "text": "", "sounds": {},
             "scores": {}},
        ],
        "sweep": [
            {"solver": "midpoint", "steps": steps, "guidance": g, "nfe": 2 * steps,
             "figures": {"WER (pocketsphinx)": figure(0.2 + 1 / steps, "%")}}
            for steps in (4, 8) for g in (0.0, 0.5)
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def page(results: dict, folder: Path) -> str:
    write_report(results, folder, folder / "report.html")
    return (folder / "report.html").read_text("utf-8")


def test_many_tasks_stand_in_one_table(results: dict, tmp_path: Path) -> None:
    """Each beside its own calibration; two tasks are read one after the other."""
    rows = [row(s, n, 0.1, 0.5, task) for task in ("infill", "edit", "style")
            for s, n in (("mini-0", 0), ("original", None))]  # fmt: skip
    many = {**results, "rows": rows, "trials": [], "sweep": [], "reported": []}
    table = markdown_table(many).split("## ")[1]
    told = [line.split(" | ")[0] for line in table.splitlines()[4:] if line]
    assert table.startswith("all tasks\n\n| task: system | WER (pocketsphinx), % ↓ | SIM-o (res")
    assert told == [f"| {task}: {system}" for task in ("infill", "edit", "style")
                    for system in ("original (calibration)", "mini-0")]  # fmt: skip
    write_report(many, tmp_path, tmp_path / "report.html")
    first = Reader((tmp_path / "report.html").read_text("utf-8")).tables[0]
    assert [cells[0] for cells in first][1::2] == [
        f"{task}: original calibration" for task in ("infill", "edit", "style")
    ]
    assert "all tasks" not in markdown_table(results)


class Reader(HTMLParser):
    """Tags opened and closed, attributes, and tables as lists of rows of texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset")]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        assert "srcdoc" not in named and tag not in ("iframe", "link", "object", "embed")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += f" {data}" if self.tables[-1][-1][-1] else data


def test_everything_stands_in_the_page(page: str) -> None:
    read = Reader(page)
    assert read.open == []
    assert all(link.startswith(("data:", "#")) for link in read.links)
    assert not re.search(r"(?:url\(|@import)\s*['\"]?(?!#)", page.split("<body>")[0])
    inside = {link[1:] for link in read.links if link.startswith("#")}
    assert inside <= set(read.ids) and len(read.ids) == len(set(read.ids))
    assert "default-src 'none'" in page


def test_the_sounds_are_those_of_the_files(page: str) -> None:
    sounds = re.findall(r'src="data:audio/flac;base64,([^"]+)"', page)
    assert len(sounds) == 5 * 4  # best, worst and three at random; prompt, two others, output
    wave, rate = soundfile.read(io.BytesIO(base64.b64decode(sounds[0])), dtype="int16")
    assert rate == RATE
    expected = 0.3 * np.sin(2 * np.pi * 200 * np.arange(RATE // 2) / RATE)
    assert np.abs(wave / 2**15 - expected).max() < 1e-4
    assert page.count("data:image/png;base64,") == len(sounds)


def test_texts_are_escaped(page: str, results: dict, folder: Path, tmp_path: Path) -> None:
    assert "six &lt;seven&gt; eight" in page
    assert "a|b &lt;i&gt;" in page and "a|b <i>" not in page
    evil = copy.deepcopy(results)
    script = '"><script>alert(1)</script>'
    evil["voice"]["voice_fingerprint"] = evil["protocol"]["subset"] = script
    evil["rows"][0]["figures"][script] = figure(1.0, script)
    for one in evil["trials"]:
        one["text"] = one["speaker"] = script
        one["failed"] = {script: script}
        for told in one["scores"].values():
            told["pocketsphinx"] = {**told["pocketsphinx"], "hypothesis": script}
    write_report(evil, folder, tmp_path / "evil.html")
    written = (tmp_path / "evil.html").read_text("utf-8")
    assert "<script>alert" not in written
    assert Reader(written).open == []


def test_rows_in_their_order_and_what_is_missing_as_a_dash(page: str) -> None:
    table, sweep, durations = Reader(page).tables
    assert [line[0].split(" ")[0] for line in table] == [
        "system", "original", "resynthesis", "mini-0", "a|b", "mini,", "YourTTS", "Voicebox",
    ]  # fmt: skip
    assert table[0][1] == "WER (pocketsphinx) %, lower is better"
    assert table[1] == ["original calibration", "5.0 0.0 to 10.0", "0.800 of 7", "8", "–", "–", "–"]
    assert table[3] == ["mini-0", "22.4 17.4 to 27.4", "0.610 of 7", "8", "16", "32", "0.41"]
    assert table[5][1] == "–"
    name, wer, *rest = table[-1]
    assert name == "Voicebox as reported, other scorers; Le et al. 2023"
    assert wer == "1.9" and set(rest) == {"–"}
    assert sweep[1][0] == "midpoint, guidance 0, 4 steps"
    assert durations[1][1:3] == ["12.35", "–"]


def test_plots(page: str) -> None:
    labels = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert labels == [
        "cross: errors against likeness",
        "cross: word errors by speaker",
        "cross: WER (pocketsphinx) against evaluations of the velocity (NFE)",
    ]
    assert "var(--ink" in page and "<metadata" not in page


def test_the_same_page_twice(page: str, results: dict, folder: Path, tmp_path: Path) -> None:
    write_report(results, folder, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text("utf-8") == page


def test_the_best_the_worst_and_others(results: dict) -> None:
    trials = results["trials"][:8]
    chosen = _chosen(trials[::-1], "mini-0", 0)
    first_two = [(why, t["id"]) for why, t in chosen[:2]]
    assert first_two == [("best", "cross-01"), ("worst", "cross-04")]
    assert len({t["id"] for _, t in chosen}) == 5
    drawn = {tuple(t["id"] for _, t in _chosen(trials, "mini-0", seed)[2:]) for seed in range(9)}
    assert len(drawn) > 1
    assert [why for why, _ in _chosen(trials[:1], "mini-0", 0)] == ["best"]
    assert [why for why, _ in _chosen(trials[:2], "other", 0)] == ["at random"] * 2


@pytest.mark.parametrize(
    ("said", "heard", "marked"),
    [
        ("one fish", "one fish", "one fish"),
        ("the red fish", "the bed fish", "the <mark>bed</mark> fish"),
        ("the red fish", "the fish", "the <del>red</del> fish"),
        ("the fish", "the old fish", "the <mark>old</mark> fish"),
        ("the fish", "", "<del>the fish</del>"),
        ("", "the fish", "<mark>the fish</mark>"),
        ("", "", ""),
    ],
)
def test_differing_words_are_marked(said: str, heard: str, marked: str) -> None:
    assert _marked(said, heard) == marked


def test_sounds_that_are_not_there(results: dict, tmp_path: Path) -> None:
    write_report(results, tmp_path, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "<audio" not in text.split("<script>")[0] and "Listening" not in text


def test_a_page_that_grows_too_large_has_fewer_examples(
    results: dict, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voiceflow.benchmark.listening._MOST_BYTES", 1)
    write_report(results, folder, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    assert re.findall(r"<h4>([a-z ]+) <", text) == ["best", "worst"]


def test_a_place_that_cannot_be_written(results: dict, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_report(results, folder, tmp_path / "file" / "report.html")


def test_markdown(results: dict) -> None:
    lines = markdown_table(results).splitlines()
    assert lines[0] == "# mini: voicebox on LibriSpeech test-clean"
    assert [x for x in lines if x.startswith("## ")] == [
        "## cross", "## cross, sweep", "## durations",
    ]  # fmt: skip
    assert lines[6].startswith("| system | WER (pocketsphinx), % ↓ | SIM-o (resemblyzer) ↑ | tri")
    assert lines[8] == (
        "| original (calibration) | 5.0 (0.0 to 10.0) | 0.800 (of 7) | 8 | – | – | – |"
    )
    assert "a\\|b <i>" in lines[11]
    assert lines[14].startswith("| *Voicebox* (as reported, other scorers; Le et al. 2023) | *1.9*")


def told_in_chromium(path: Path, profile: Path) -> Any:
    """What a page tells in its title, by the browser's list of pages; it has a minute."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium on the path (apt install chromium)")
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio",
        "--autoplay-policy=no-user-gesture-required", "--window-size=500,900",
        "--remote-debugging-port=0", f"--user-data-dir={profile}", path.as_uri(),
    ]  # fmt: skip
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with suppress(OSError, IndexError):  # not there yet
                port = (profile / "DevToolsActivePort").read_text().split()[0]
                with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
                    titles = [page["title"] for page in json.load(answer)]
                for title in titles:
                    if title.startswith("told:"):
                        return json.loads(unquote(title.removeprefix("told:")))
            time.sleep(0.1)
        raise AssertionError(f"chromium told nothing in a minute ({process.poll()=})")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.long
def test_in_a_browser(page: str, tmp_path: Path) -> None:
    """Chromium sorts the table by a click, there and back, and plays the first sound."""
    copied = tmp_path / "page.html"
    copied.write_text(page.replace("</body>", PLAY + "</body>"), "utf-8")
    told = told_in_chromium(copied, tmp_path / "profile")
    assert told["up"] == ["ascending", *UP]
    assert told["down"] == ["descending", *DOWN]
    assert told["too_wide"] == 0
    assert told["came"] == "to its end"
    assert told["played"] == pytest.approx(0.5, abs=0.01)
