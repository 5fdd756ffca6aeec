"""Lists of trials: they obey the protocols, and depend on corpus, seed and protocol alone."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from voiceflow.benchmark.protocols import (
    CONTINUATION,
    CROSS,
    EDIT,
    INFILL,
    LISTED,
    NOISE_SHARES,
    STYLE,
    Trial,
    make_trials,
    read_list,
    read_trials,
    sha256_of,
    write_trials,
)
from voiceflow.config import BenchmarkConfig, UserError, load_group
from voiceflow.data.manifest import Utterance
from voiceflow.measures.infill import Gap

NAMES = ("voicebox", "librispeech-pc", "infill", "durations", "speed", "denoise", "diverse",
         "tasks")  # fmt: skip


@pytest.fixture(scope="module")
def index(speech_dir: Path) -> list[Utterance]:
    """All utterances of the complete test-clean: names and lengths."""
    path = speech_dir / "LibriSpeech" / "test-clean.index.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [
        Utterance(id, f"{id}.flac", f"TEXT OF {id}", id.split("-")[0], seconds=float(seconds))
        for id, seconds in rows
    ]


@pytest.fixture()
def voicebox() -> BenchmarkConfig:
    return load_group(BenchmarkConfig, "benchmark", "voicebox")


def utterance(id: str, seconds: float = 5.0) -> Utterance:
    return Utterance(id, f"{id}.flac", f"WORDS OF {id}", id.split("-")[0], seconds=seconds)


def few() -> list[Utterance]:
    return [utterance(f"{s}-1-{i:04d}", 3.5 + i) for s in ("7", "8") for i in range(5)]


@pytest.mark.parametrize("name", NAMES)
def test_each_protocol_is_read(name: str) -> None:
    assert load_group(BenchmarkConfig, "benchmark", name).name == name


def test_the_papers_list_of_the_complete_test_clean(
    index: list[Utterance], voicebox: BenchmarkConfig
) -> None:
    """Every rule: all of 4 to 10 s, once a task; 3 s of another utterance of the same speaker."""
    assert len(index) == 2620
    known = {u.id: u for u in index}
    trials = make_trials(voicebox, index)
    fitting = {u.id for u in index if 4 <= (u.seconds or 0) <= 10}
    for task in (CROSS, CONTINUATION):
        assert Counter(t.utterance for t in trials if t.task == task) == Counter(fitting)
    assert len({t.id for t in trials}) == len(trials) == 2 * len(fitting)
    assert len({t.speaker for t in trials}) == 40
    for trial in trials:
        assert trial.text == known[trial.utterance].text
        assert trial.speaker == known[trial.utterance].speaker
        assert trial.prompt_end - trial.prompt_start == pytest.approx(3)
        assert trial.prompt_start >= 0
        assert trial.prompt_end <= (known[trial.prompt].seconds or 0) + 1e-6
        assert trial.prompt_text == known[trial.prompt].text
        if trial.task == CROSS:
            assert trial.prompt != trial.utterance
            assert known[trial.prompt].speaker == trial.speaker
        else:
            assert (trial.prompt, trial.prompt_start) == (trial.utterance, 0)
    cross = [t for t in trials if t.task == CROSS]
    starts = [t.prompt_start for t in cross]
    assert sum(s > 1 for s in starts) > len(starts) / 3  # drawn, not the beginnings
    assert len({t.prompt for t in cross}) > len(cross) / 3


def test_a_limit_takes_of_every_speaker_and_changes_no_trial(
    index: list[Utterance], voicebox: BenchmarkConfig
) -> None:
    whole = {t.id: t for t in make_trials(voicebox, index)}
    some = make_trials(voicebox, index, limit=80)
    assert len(some) == 160
    assert Counter(t.speaker for t in some if t.task == CROSS) == dict.fromkeys(
        {u.speaker for u in index}, 2
    )
    assert all(whole[t.id] == t for t in some)


def test_another_seed_draws_other_prompts(
    index: list[Utterance], voicebox: BenchmarkConfig
) -> None:
    a, b = (
        {t.id: t.prompt for t in make_trials(voicebox, index, seed=seed) if t.task == CROSS}
        for seed in (0, 1)
    )
    assert a.keys() == b.keys()
    assert sum(a[id] != b[id] for id in a) > len(a) / 2


def test_the_order_of_the_corpus_does_not_matter(voicebox: BenchmarkConfig) -> None:
    assert make_trials(voicebox, few()) == make_trials(voicebox, few()[::-1])


def test_other_processes_write_the_same_bytes(tmp_path: Path, repository: Path) -> None:
    """Of another locale, hash seed and number of threads."""
    code = (
        "import sys; from pathlib import Path\n"
        "from voiceflow.benchmark.protocols import make_trials, write_trials\n"
        "from voiceflow.config import BenchmarkConfig, load_group\n"
        "from voiceflow.data.manifest import Utterance\n"
        "made = [Utterance(f'{s}-1-{i:04d}', 'x', f'ÄÖ {i}', str(s), seconds=4 + i / 7)\n"
        "        for s in range(9) for i in range(20)]\n"
        "made = made[::int(sys.argv[2])]\n"
        "protocol = load_group(BenchmarkConfig, 'benchmark', 'voicebox')\n"
        "print(write_trials(Path(sys.argv[1]), make_trials(protocol, made)))\n"
    )
    said = []
    for number, (order, settings) in enumerate(
        [("1", {"LC_ALL": "C", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}),
         ("-1", {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "2"})]
    ):  # fmt: skip
        path = tmp_path / f"{number}.jsonl"
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), order], cwd=repository,
            env={**os.environ, **settings}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        said.append((done.stdout.strip(), path.read_bytes()))
    assert said[0] == said[1]
    assert len(said[0][0]) == 64


def test_a_list_is_read_as_it_was_written(tmp_path: Path, voicebox: BenchmarkConfig) -> None:
    trials = make_trials(voicebox, few())
    digest = write_trials(tmp_path / "trials.jsonl", trials)
    assert read_trials(tmp_path / "trials.jsonl") == trials
    assert digest == sha256_of(trials)
    assert (tmp_path / "trials.sha256").read_text() == f"{digest}  trials.jsonl\n"
    (tmp_path / "trials.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="not a list of trials"):
        read_trials(tmp_path / "trials.jsonl")


def test_no_utterance_fits(voicebox: BenchmarkConfig) -> None:
    with pytest.raises(UserError, match="none of 1 utterances lasts 4 to 10 s"):
        make_trials(voicebox, [utterance("1-1-1", 20)])


def test_a_speaker_of_one_utterance(voicebox: BenchmarkConfig) -> None:
    with pytest.raises(UserError, match="1-1-1: speaker 1 has no other utterance of 3 s"):
        make_trials(voicebox, [utterance("1-1-1"), utterance("1-1-2", 2.0)])


def test_gaps_are_asked_for_and_those_without_left_out() -> None:
    protocol = load_group(BenchmarkConfig, "benchmark", "infill")

    def find(u: Utterance) -> Gap | None:
        return None if u.id.endswith("3") else Gap(1.0, 1.5, ("A", "WORD"), ("AH",))

    trials = make_trials(protocol, few(), find_gap=find)
    assert len(trials) == 6
    assert {(t.task, t.span_start, t.span_end, t.words) for t in trials} == {
        (INFILL, 1.0, 1.5, "A WORD")
    }


ROW = "7-1-0001\t4.5\tWhat it says.\t7-1-0002\t5.5\tWhat is said."


def test_the_six_columns(tmp_path: Path) -> None:
    path = tmp_path / "pc.lst"
    path.write_text(f"{ROW}\n\n8-1-0000\t3.5\tA.\t8-1-0004\t7.5\tB.\n", "utf-8")
    protocol = load_group(BenchmarkConfig, "benchmark", "librispeech-pc")
    first, second = make_trials(protocol, few(), listed=path)
    assert first == Trial(
        "listed-00000-7-1-0002", LISTED, "7-1-0002", "7", 5.5, "What is said.",
        prompt="7-1-0001", prompt_start=0.0, prompt_end=4.5, prompt_text="What it says.",
    )  # fmt: skip
    assert (second.utterance, second.prompt) == ("8-1-0004", "8-1-0000")
    assert len(make_trials(protocol, few(), listed=path, limit=1)) == 1


def test_lines_that_are_no_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "pc.lst"
    path.write_text(
        f"{ROW}\nonly\ttwo\n{ROW.replace('4.5', 'long')}\n{ROW.replace('What is said.', ' ')}\n"
    )
    with pytest.raises(UserError) as caught:
        read_list(path)
    said = str(caught.value)
    for part in ("line 2 has 2 columns", "line 3: ref_dur is not seconds but 'long'",
                 "line 4 has no gen_txt", str(path), "ref_utt ref_dur ref_txt"):  # fmt: skip
        assert part in said
    assert "line 1" not in said


def test_a_list_of_others(tmp_path: Path) -> None:
    path = tmp_path / "pc.lst"
    path.write_text(ROW.replace("7-1-0002", "9-9-9999") + "\n")
    protocol = load_group(BenchmarkConfig, "benchmark", "librispeech-pc")
    with pytest.raises(UserError, match="not in the subset: 9-9-9999"):
        make_trials(protocol, few(), listed=path)
    with pytest.raises(UserError, match="needs --list"):
        make_trials(protocol, few())
    with pytest.raises(UserError, match="cannot be read"):
        make_trials(protocol, few(), listed=tmp_path / "none.lst")
    (tmp_path / "empty.lst").write_text("\n")
    with pytest.raises(UserError, match="holds no trials"):
        make_trials(protocol, few(), listed=tmp_path / "empty.lst")


def test_lists_name_no_paths(voicebox: BenchmarkConfig) -> None:
    moved = [replace(u, audio=f"/elsewhere/{u.id}.wav") for u in few()]
    assert make_trials(voicebox, few()) == make_trials(voicebox, moved)
    assert "/elsewhere" not in json.dumps([vars(t) for t in make_trials(voicebox, moved)])


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("voicebox", "13dcddcfde97e22dd8faddb8ae5972f06e25eaea0487f90275b86b2bad504de1"),
        ("infill", "990d19627546c2d101f12bd73c55bcbd82dcab3e72e2d333b873b5f684576d18"),
        ("durations", "5d2868bf77a6b48d134f40478738cd48859ab06d4f6700613feee70c0df24c95"),
        ("speed", "83b08669aefa9a54b655f9713ba36dedbb5d7bda4a00f3c4c330dfbdbf79542d"),
    ],
)
def test_lists_that_results_stand_on_stay(name: str, digest: str) -> None:
    """An edition that changes one can no longer be compared with those before it."""
    protocol = load_group(BenchmarkConfig, "benchmark", name)
    made = [utterance(f"{s}-1-{i:04d}", 4 + i / 3) for s in ("7", "8") for i in range(20)]
    trials = make_trials(protocol, made, seed=1,
                         find_gap=lambda u: Gap(1.0, 1.5, ("A", "WORD"), ("AH",)))  # fmt: skip
    assert sha256_of(trials) == digest


SAID = ("THE HOUSE ON A HILL", "WE WENT TO SEA", "OLD SHIPS SAIL AGAIN", "IS IT SO",
        "ZZQX SINGS THE SONG")  # fmt: skip


def spoken() -> list[Utterance]:
    """Five utterances of each of three speakers."""
    return [
        Utterance(f"{s}-1-{i:04d}", "none.flac", text, s, seconds=4.0 + i)
        for s in ("7", "8", "9") for i, text in enumerate(SAID)
    ]  # fmt: skip


def tasks(seed: int = 0, limit: int | None = None, made: list[Utterance] | None = None,
          name: str = "tasks") -> list[Trial]:  # fmt: skip
    return make_trials(
        load_group(BenchmarkConfig, "benchmark", name), spoken() if made is None else made,
        seed=seed, limit=limit, find_gap=lambda u: Gap(1.0, 1.5, ("A",), ("AH",)),
        find_word=lambda u, n: (float(n), n + 0.5),
    )  # fmt: skip


def test_one_list_of_all_tasks() -> None:
    """The first two utterances of each speaker in each."""
    trials = tasks()
    every = ("infill", "edit", "cross-sentence", "continuation", "denoise-50", "style")
    assert tuple(dict.fromkeys(t.task for t in trials)) == every
    first_two = {f"{s}-1-{i:04d}" for s in ("7", "8", "9") for i in (0, 1)}
    assert all({t.utterance for t in trials if t.task == task} == first_two for task in every)
    assert len({t.id for t in trials}) == len(trials) == 36
    some = tasks(limit=2)
    assert len(some) == 12
    assert set(some) < set(trials)
    assert tasks(made=spoken()[::-1]) == trials
    assert tasks(seed=1) != trials


def test_an_edit_is_of_one_word() -> None:
    known = {u.id: u for u in spoken()}
    protocol = BenchmarkConfig("mine", [EDIT])
    found = [
        t
        for seed in range(20)
        for t in make_trials(protocol, spoken(), seed=seed, find_word=lambda u, n: (n, n + 0.5))
    ]
    for trial in found:
        old, new = known[trial.utterance].text.split(), trial.text.split()
        [place] = [i for i, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]]
        assert (trial.words, trial.span_start, trial.span_end) == (new[place], place, place + 0.5)
        assert min(len(old[place]), len(new[place])) >= 3
        assert new[place] not in old
        assert any(new[place] in text.split() for text in SAID)
        assert (trial.prompt, trial.prompt_text) == (trial.utterance, known[trial.utterance].text)
    assert "ZZQX" not in {t.words for t in found}  # no dictionary holds it
    assert len({t.words for t in found}) > 5
    assert not any(t.text.startswith("IS") for t in found)  # it has no word of three letters
    assert {t.utterance for t in found} == {u.id for u in spoken() if u.text != "IS IT SO"}


def test_words_that_are_not_found_are_not_edited() -> None:
    protocol = BenchmarkConfig("mine", [EDIT])
    trials = make_trials(protocol, spoken(),
                         find_word=lambda u, n: None if u.speaker == "8" else (0, 1))  # fmt: skip
    assert {t.speaker for t in trials} == {"7", "9"}


def test_noise_covers_its_share_and_lies_anywhere() -> None:
    trials = tasks(name="denoise")
    assert len(trials) == 45
    for trial in trials:
        assert trial.span_end - trial.span_start == pytest.approx(
            NOISE_SHARES[trial.task] * trial.seconds, abs=0.0051
        )
        assert 0 <= trial.span_start < trial.span_end <= trial.seconds
        assert trial.prompt == trial.utterance
    places = [t.span_start / (t.seconds - (t.span_end - t.span_start)) for t in trials]
    assert min(places) < 0.2
    assert max(places) > 0.8
    assert len(set(places)) > 40


def test_style_is_of_another_speaker() -> None:
    known = {u.id: u for u in spoken()}
    trials = [t for t in tasks() if t.task == STYLE]
    for trial in trials:
        prompt = known[trial.prompt]
        assert prompt.speaker != trial.speaker
        assert (trial.prompt_start, trial.prompt_end) == (0, prompt.seconds)
        assert trial.prompt_text == prompt.text
    alone = [u for u in spoken() if u.speaker == "7"]
    with pytest.raises(UserError, match="style needs a prompt of another speaker than 7"):
        make_trials(BenchmarkConfig("mine", [STYLE]), alone)


def test_diverse_takes_every_transcript_and_nothing_else() -> None:
    trials = tasks(name="diverse")
    assert [t.text for t in trials[::3]] == list(SAID)
    assert not any(t.prompt or t.span_end for t in trials)
    assert load_group(BenchmarkConfig, "benchmark", "diverse").guidance == 0


def test_an_unknown_task() -> None:
    with pytest.raises(UserError, match="no task sing: there are cross-sentence"):
        make_trials(BenchmarkConfig("mine", ["sing"]), few())
