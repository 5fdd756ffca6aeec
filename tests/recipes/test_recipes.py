"""The recipes: what each holds, what its options say, and each whole on a thumbnail of speech."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from voiceflow.config import compose

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = sorted(p.parent.name for p in (REPOSITORY / "recipes").glob("*/README.md"))
WITH_SPEECH = [name for name in RECIPES if name not in ("gaussian_mixture", "speed")]
SETTINGS = sorted((REPOSITORY / "recipes").glob("*/*.txt"))
TASKS = ("velocity", "duration", "duration_flow", "aligner", "vocoder")
PATIENCE_SECONDS = 3600.0

mark_each = pytest.mark.parametrize("name", RECIPES)


def run(root: Path, name: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A recipe's run.sh below `root`, with this interpreter's programs."""
    environment = {key: value for key, value in os.environ.items() if key != "VOICEFLOW_SPEECH_DIR"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables}
    script = root / "recipes" / name / "run.sh"
    return subprocess.run(
        [str(script), *words], cwd=root, env=environment, capture_output=True, text=True,
        timeout=PATIENCE_SECONDS,
    )  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder that holds the recipes alone: what they make lands there."""
    shutil.copytree(REPOSITORY / "recipes", tmp_path / "recipes")
    return tmp_path


def stages(name: str) -> list[tuple[int, str]]:
    """The numbers and titles of a recipe's stages, as its run.sh has them."""
    folder = REPOSITORY / "recipes"
    script = (folder / name / "run.sh").read_text("utf-8")
    if "source recipes/voice.sh" in script:
        script = script.replace("source recipes/voice.sh", (folder / "voice.sh").read_text("utf-8"))
    found = re.findall(r'^if in_stage (\d+) "(.*)"; then$', script, re.MULTILINE)
    return [(int(number), title) for number, title in found]


def test_the_recipes_are_found() -> None:
    assert set(RECIPES) == {
        "mini_librispeech", "librispeech100", "librispeech960", "libritts", "ljspeech",
        "finetune", "vocoder", "aligned_or_not", "gaussian_mixture", "speed",
    }  # fmt: skip
    folders = {p.name for p in (REPOSITORY / "recipes").iterdir() if p.is_dir()}
    assert folders == set(RECIPES)


@mark_each
def test_a_recipe_has_numbered_stages(name: str) -> None:
    folder = REPOSITORY / "recipes" / name
    assert os.access(folder / "run.sh", os.X_OK)
    for script in (folder / "run.sh", folder.parent / "common.sh", folder.parent / "voice.sh"):
        subprocess.run(["bash", "-n", str(script)], check=True)
    numbers = [number for number, _ in stages(name)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert f'options {len(numbers)} "$@"' in (folder / "run.sh").read_text("utf-8")
    text = (folder / "README.md").read_text("utf-8")
    assert f"recipes/{name}/run.sh --thumbnail" in text


@mark_each
def test_help_tells_the_options(name: str, copy: Path) -> None:
    told = run(copy, name, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    last = f"of 1 to {len(stages(name))}"
    for option in ("--from N", "--to N", "--speech DIR", "--thumbnail", last):
        assert option in told.stdout
    script = copy / "recipes" / name / "run.sh"
    inside = subprocess.check_output(["./run.sh", "--help"], cwd=script.parent, text=True)
    assert inside == told.stdout
    assert not (copy / "runs").exists()


@mark_each
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fly"], "unknown option --fly (known: --from N"),
        (["--from"], "--from needs a value"),
        (["--from", "two"], "--from needs a number from 1 up, found 'two'"),
        (["--to", "99"], "stages are 1 to"),
        (["--from", "2", "--to", "1"], "found --from 2 --to 1"),
        (["--speech=there"], "give the value of --speech after a space"),
    ],
)
def test_wrong_options_are_named(name: str, copy: Path, words: list[str], said: str) -> None:
    told = run(copy, name, *words)
    assert told.returncode == 2
    assert told.stderr.startswith(f"recipes/{name}/run.sh: ") and said in told.stderr
    assert len(told.stderr.splitlines()) == 1
    assert not (copy / "runs").exists()


@pytest.mark.parametrize("name", WITH_SPEECH)
def test_a_thumbnail_without_speech_says_so(name: str, copy: Path) -> None:
    told = run(copy, name, "--thumbnail", VOICEFLOW_SPEECH_DIR=str(copy / "nowhere"))
    assert told.returncode == 2
    assert "no real speech: " in told.stderr and "VOICEFLOW_SPEECH_DIR" in told.stderr


@pytest.mark.parametrize("path", SETTINGS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_settings_compose_with_their_task(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert lines[0].startswith("# ")
    overrides = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.]+=\S+", line) for line in overrides)
    adapted = path.stem in ("full", "lora")
    task = path.stem if path.stem in TASKS else "velocity" if adapted else "vocoder"
    compose([f"task={task}", "data=x", "out=y", *overrides])


@mark_each
def test_the_readmes_own_lines_are_understood(name: str, copy: Path) -> None:
    text = (REPOSITORY / "recipes" / name / "README.md").read_text("utf-8")
    found = re.findall(r"^recipes/(\w+)/run\.sh(.*)$", text, re.MULTILINE)
    assert found
    for other, words in found:
        assert run(copy, other, *words.split(), "--help").returncode == 0, words


def test_the_figures_of_scale_are_those_of_the_document() -> None:
    rows = re.findall(
        r"^\| (?:audio|duration) .*$",
        (REPOSITORY / "recipes" / "librispeech960" / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    document = (REPOSITORY / "docs" / "scaling.md").read_text("utf-8").splitlines()
    assert len(rows) == 4 and set(rows) <= set(document)


Told = subprocess.CompletedProcess[str]
PARTS = ("LibriSpeech/train-clean-5", "LibriSpeech/train-clean-100", "LibriSpeech/test-clean",
         "LJSpeech-1.1")  # fmt: skip


@pytest.fixture(scope="module")
def thumbnails(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, speech_dir: Path
) -> Iterator[dict[str, Future[tuple[Path, Told, Told]]]]:
    """Each recipe that is to be tested, whole on a thumbnail and then once more; two at a time."""
    for part in PARTS:
        if not (speech_dir / part).is_dir():
            pytest.skip(f"no real speech: {speech_dir / part} is absent")

    def twice(name: str, root: Path) -> tuple[Path, Told, Told]:
        shutil.copytree(REPOSITORY / "recipes", root / "recipes")
        more = ["--processes", "2"] if name == "librispeech960" else []
        words = ["--thumbnail", "--speech", str(speech_dir), *more]
        first = run(root, name, *words)
        return root, first, run(root, name, *words)

    wanted = [name for name in RECIPES
              if any(item.name.endswith(f"all_stages[{name}]") for item in request.session.items)]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(twice, name, tmp_path_factory.mktemp(name)) for name in wanted}


@pytest.mark.long
@mark_each
def test_a_thumbnail_goes_through_all_stages(
    name: str, thumbnails: dict[str, Future[tuple[Path, Told, Told]]]
) -> None:
    root, told, again = thumbnails[name].result()
    print(told.stdout[told.stdout.find("== times") :])
    assert told.returncode == 0, told.stdout[-4000:] + told.stderr[-4000:]
    for number, title in stages(name):
        assert f"== stage {number}: {title}" in told.stdout
        assert re.search(rf"^ *{number}  +\d+:\d\d:\d\d  {re.escape(title)}$", told.stdout, re.M)
    assert "loss nan" not in told.stdout
    assert not [p for p in (root / "runs").iterdir() if p.name != "thumbnail"]
    assert again.returncode == 0, again.stderr[-4000:]
    assert "done before: " in again.stdout and "validation loss" not in again.stdout


@pytest.mark.long
def test_a_stage_goes_on_and_what_follows_is_done_again(copy: Path, speech_dir: Path) -> None:
    """Other words for one stage: it is given again, as are those after it, and none before."""
    words = ["--thumbnail", "--speech", str(speech_dir)]
    assert run(copy, "finetune", *words, "--to", "2").returncode == 0
    told = run(copy, "finetune", *words, "--to", "2", "train.updates=4")
    assert told.returncode == 0, told.stderr[-4000:]
    one, two = told.stdout.split("== stage 2")
    assert "done before: " in one and "done before: " not in two
    assert "going on after update 3 of 4" in two
