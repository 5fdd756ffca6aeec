"""Starting from a voice: other phones than its own, and adapters in place of its weights."""

import copy
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.training.conftest import TWO
from voiceflow.config import TrainConfig, UserError, compose
from voiceflow.files import read_json, write_json
from voiceflow.model_folder import ModelFolder
from voiceflow.models.aligner import PhoneRecogniser
from voiceflow.text.phones import PhoneTable, base_of
from voiceflow.training import checkpoint
from voiceflow.training.adapters import ADAPTED, adapt, merged
from voiceflow.training.loop import train
from voiceflow.training.run import for_phones

NETWORKS = ("velocity", "duration", "duration_flow", "aligner")
LORA = TrainConfig(init_from="a voice", lora_rank=4)
Command = Callable[..., list[str]]


def weights(folder: Path, name: str = "velocity") -> dict[str, Tensor]:
    return load_file(folder / f"{name}.safetensors")


def last_state(run: Any) -> dict[str, Tensor]:
    return load_file(checkpoint.found(run.folder / "checkpoints")[-1] / "state.safetensors")


def said_by(network: nn.Module, phones: PhoneTable) -> Tensor:
    """What a network makes of the same input, its phones told by their symbols."""
    draw = torch.Generator().manual_seed(0)
    told = [s for s in PhoneTable.english().symbols if base_of(s) in ("SIL", "AH", "B", "K")]
    ids = torch.tensor([phones.ids(told)])
    lengths, t = torch.tensor([ids.shape[1]]), torch.tensor([0.3])
    durations = torch.randint(0, 9, ids.shape, generator=draw)
    if isinstance(network, PhoneRecogniser):
        return network(torch.randn(1, 40, network.stem.in_channels, generator=draw),
                       torch.tensor([40]))  # fmt: skip
    x = torch.randn(1, ids.shape[1], generator=draw)
    kind = type(network).__name__
    if kind == "DurationNetwork":
        return network(ids, durations, x > 0, lengths)
    if kind == "DurationFlowNetwork":
        return network(x, ids, durations, x > 0, t, lengths)
    mel = torch.randn(1, ids.shape[1], network.output.out_features, generator=draw)
    return network(mel, mel.flip(1), ids, t, lengths)


def randomised(network: nn.Module) -> nn.Module:
    """With no weight at zero, so that every one can be seen in the output."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return network


@pytest.fixture()
def lacking(finished: Any, tmp_path: Path) -> Path:
    """The finished run's voice without B, and without AA at a word's end, in another order."""
    folder = tmp_path / "lacking"
    shutil.copytree(finished.out / "model", folder)
    symbols = read_json(folder / "phones.json")
    kept = [s for s in symbols[1:] if base_of(s) != "B" and s != "AA_E"]
    order = [symbols[0], *reversed(kept)]
    write_json(folder / "phones.json", order)
    for name in ("velocity", "duration"):
        tensors = weights(folder, name)
        rows = [symbols.index(s) for s in order]
        tensors["phone.weight"] = tensors["phone.weight"][rows].contiguous()
        save_file(tensors, folder / f"{name}.safetensors")
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_known_of_a_phone_is_kept_by_its_symbol(tiny_voice: Path, name: str) -> None:
    """Whatever the order: a sentence of known phones comes out the same."""
    folder = ModelFolder.open(tiny_voice)
    theirs = randomised(folder.load(name))
    symbols = folder.phones.symbols
    ours = PhoneTable([symbols[0], "NEW_S", *reversed(symbols[1:])])
    folder.phones = ours
    network = {
        "velocity": lambda: type(theirs)(folder.config.velocity, len(ours), 80),
        "duration": lambda: type(theirs)(folder.config.duration, len(ours)),
        "duration_flow": lambda: type(theirs)(folder.config.duration_flow, len(ours)),
        "aligner": lambda: type(theirs)(folder.config.aligner, len(ours.bases()), 80),
    }[name]().eval()
    english = PhoneTable.english()
    network.load_state_dict(for_phones(network, theirs.state_dict(), english, ours))
    said, wanted = said_by(network, ours), said_by(theirs, english)
    if name == "aligner":  # its classes have moved, and there is one more to share with
        said = said[..., [ours.bases().index(b) for b in english.bases()]].log_softmax(-1)
    assert torch.allclose(said, wanted, atol=1e-5)


def test_a_phone_that_the_voice_lacks(tiny_voice: Path) -> None:
    """It starts as the same phone in another place of a word, else as the fresh row."""
    folder = ModelFolder.open(tiny_voice)
    theirs, fresh = (randomised(folder.load("velocity")) for _ in range(2))
    nn.init.normal_(fresh.phone.weight)
    english = folder.phones
    fewer = PhoneTable(s for s in english.symbols if base_of(s) != "B" and s != "AA_B")
    rows = theirs.phone.weight[english.ids(fewer.symbols)]
    known = {**theirs.state_dict(), "phone.weight": rows.detach()}
    found = for_phones(fresh, known, fewer, english)["phone.weight"]
    row = {symbol: i for i, symbol in enumerate(english.symbols)}
    assert torch.equal(found[row["AA_B"]], theirs.phone.weight[row["AA_I"]])
    for symbol in ("B_B", "B_I", "B_E", "B_S"):
        assert torch.equal(found[row[symbol]], fresh.phone.weight[row[symbol]])


def test_missing_phones_are_named_with_the_flag(
    command: Command, lacking: Path, tmp_path: Path
) -> None:
    start = f"train.init_from={lacking}"
    said = (r"different phone tables \(the voice lacks AA_E, B_B, B_I, B_E, B_S\): "
            "train.extend_phones=true")  # fmt: skip
    with pytest.raises(UserError, match=said):
        train(compose(command("velocity", tmp_path / "out", start)))
    assert not (tmp_path / "out").exists()
    symbols = read_json(lacking / "phones.json")
    write_json(lacking / "phones.json", [s for s in symbols if base_of(s) != "K"])
    with pytest.raises(UserError, match="AA_E, B_B, B_I, B_E, B_S and 4 more"):
        train(compose(command("velocity", tmp_path / "out", start)))


def test_a_run_with_more_phones_than_its_voice(
    run: Any, finished: Any, lacking: Path, tmp_path: Path
) -> None:
    """Its folder has the data's table; its averages start at the loaded weights."""
    start = (f"train.init_from={lacking}", "train.extend_phones=true", "train.updates=1")
    began = run("velocity", tmp_path / "begin", *start, "train.learning_rate=0")
    before, after = weights(finished.out / "model"), weights(began.out / "model")
    voice = ModelFolder.open(began.out / "model")
    assert voice.phones == PhoneTable.english()
    row = {symbol: i for i, symbol in enumerate(voice.phones.symbols)}
    new = [row[s] for s in ("AA_E", "B_B", "B_I", "B_E", "B_S")]
    known = [i for i in row.values() if i not in new]
    old, now = before.pop("phone.weight"), after.pop("phone.weight")
    assert torch.equal(now[known], old[known])
    assert torch.equal(now[row["AA_E"]], old[row["AA_S"]])  # the first of them in the voice's table
    assert all(torch.equal(after[name], before[name]) for name in before)
    state = last_state(began)
    assert torch.equal(state["ema.phone.weight"], state["network.phone.weight"])
    trained = run("velocity", tmp_path / "train", *start)
    learned = weights(trained.out / "model")["phone.weight"]
    assert not torch.equal(learned[row["B_B"]], now[row["B_B"]])  # which the data say


@pytest.mark.parametrize("name", NETWORKS)
def test_fresh_adapters_change_nothing(tiny_voice: Path, name: str) -> None:
    network = ModelFolder.open(tiny_voice).load(name)
    before = copy.deepcopy(network.state_dict())
    said = said_by(network, PhoneTable.english())
    adapted = adapt(network, LORA)
    assert torch.equal(said_by(adapted, PhoneTable.english()), said)
    after = merged(adapted.state_dict(), LORA)
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


@pytest.mark.parametrize("options", [LORA, TrainConfig(init_from="x", lora_rank=2, lora_alpha=3)])
@pytest.mark.parametrize("name", NETWORKS)
def test_merged_weights_say_what_the_adapted_network_says(
    tiny_voice: Path, name: str, options: TrainConfig
) -> None:
    folder = ModelFolder.open(tiny_voice)
    plain = folder.load(name)
    start = said_by(plain, folder.phones)
    adapted = randomised(adapt(folder.load(name), options))
    said = said_by(adapted, folder.phones)
    assert not torch.allclose(said, start, atol=1e-2)
    plain.load_state_dict(merged(adapted.state_dict(), options))
    assert torch.allclose(said_by(plain, folder.phones), said, atol=1e-5)


@pytest.mark.parametrize(("extended", "wanted"), [(False, set()), (True, {"phone.weight"})])
def test_only_adapters_and_extended_phones_are_trained(
    tiny_voice: Path, extended: bool, wanted: set[str]
) -> None:
    options = TrainConfig(init_from="a voice", lora_rank=4, extend_phones=extended)
    network = ModelFolder.open(tiny_voice).load("velocity")
    linear = {n for n, m in network.transformer.named_modules() if isinstance(m, nn.Linear)}
    adapt(network, options)
    trained = {n for n, p in network.named_parameters() if p.requires_grad}
    assert {n for n in trained if ".lora_" not in n} == wanted
    layers = {n.split(".lora_")[0].removeprefix("transformer.") for n in trained - wanted}
    assert layers == linear


def test_without_a_rank_the_network_is_as_it_was(tiny_voice: Path) -> None:
    network = ModelFolder.open(tiny_voice).load("velocity")
    before = network.state_dict()
    assert adapt(network, TrainConfig()) is network
    after = merged(network.state_dict(), TrainConfig())
    assert list(after) == list(before)
    assert all(after[name].data_ptr() == before[name].data_ptr() for name in before)


@pytest.fixture(scope="module")
def lora(finished: Any) -> tuple[str, ...]:
    """Overrides of a run of adapters."""
    return (f"train.init_from={finished.out / 'model'}", "train.lora_rank=4",
            "train.learning_rate=0.003")  # fmt: skip


@pytest.fixture(scope="module")
def adapted(run: Any, lora: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Twenty updates of adapters, from the finished run's voice."""
    return run("velocity", tmp_path_factory.mktemp("adapted") / "run", *lora)


def test_a_run_of_adapters_learns_and_saves_a_plain_voice(finished: Any, adapted: Any) -> None:
    before, after = weights(finished.out / "model"), weights(adapted.out / "model")
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if re.search(ADAPTED + r"\.weight$", name)}
    assert adapted.validation[-1][1] < finished.validation[-1][1]


def test_the_last_validation_is_that_of_the_merged_voice(
    run: Any, adapted: Any, tmp_path: Path
) -> None:
    start = f"train.init_from={adapted.out / 'model'}"
    again = run("velocity", tmp_path, start, "train.learning_rate=0", "train.updates=1")
    assert again.validation == [(1, pytest.approx(adapted.validation[-1][1], rel=1e-5))]


def test_optimiser_average_and_checkpoint_see_what_is_trained(finished: Any, adapted: Any) -> None:
    """The frozen weights are in the checkpoint once, since the voice is made of them."""
    state = last_state(adapted)
    moving = {k for k in state if not k.startswith("ema.")}
    assert moving and all(".lora_" in k for k in moving)
    whole = sum(p.numel() for k, p in last_state(finished).items() if k.startswith("network."))
    adapters = sum(p.numel() for k, p in state.items() if k.startswith("network."))
    record = yaml.safe_load((adapted.folder / "run.yaml").read_text("utf-8"))
    assert record["parameters"] == adapters < whole / 2
    plain = weights(finished.out / "model")
    for name, tensor in state.items():
        if name.startswith("ema.") and ".lora_" not in name:
            key = name.removeprefix("ema.").replace(".base_layer.", ".")
            assert torch.equal(tensor, plain[key])


def test_a_run_of_adapters_is_taken_up_again(
    run: Any, adapted: Any, lora: tuple[str, ...], stopped_after: Any, tmp_path: Path
) -> None:
    stopped_after(13, lambda: run("velocity", tmp_path, *lora))
    broken = run("velocity", tmp_path, *lora)
    assert broken.losses == adapted.losses
    assert broken.validation == adapted.validation
    ours, theirs = last_state(broken), last_state(adapted)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("task", ["duration", "duration_flow", "aligner"])
def test_every_network_takes_adapters(
    run: Any, lora: tuple[str, ...], task: str, tmp_path: Path
) -> None:
    tiny = ("aligner=tiny", "train.updates=1")
    began = run(task, tmp_path / "begin", *tiny)
    start = f"train.init_from={began.out / 'model'}"
    run(task, tmp_path / "run", *tiny, *lora, start)
    ModelFolder.open(tmp_path / "run" / "model").load(task)


def test_samples_of_a_run_of_adapters(run: Any, lora: tuple[str, ...], tmp_path: Path) -> None:
    run("velocity", tmp_path, *lora, "train.updates=1", "train.sample_every=1", "sample.steps=1")
    assert list((tmp_path / "velocity" / "samples").iterdir())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.lora_rank=4"], "train.lora_rank adapts a voice: name it, train.init_from"),
        (["train.lora_rank=-1"], "train.lora_rank must be 0"),
    ],
)
def test_wrong_settings_of_adapters(
    command: Command, tmp_path: Path, settings: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        train(compose(command("velocity", tmp_path / "out", *settings)))
    assert not (tmp_path / "out").exists()


def test_a_missing_peft_is_told_with_its_install_line(
    tiny_voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    network = ModelFolder.open(tiny_voice).load("velocity")
    with pytest.raises(UserError, match=r"pip install -e '\.\[finetune\]'"):
        adapt(network, LORA)


@pytest.mark.long
@pytest.mark.parametrize("fsdp", ["false", "true"])
def test_two_processes_adapt_as_one_does(
    run: Any, command: Command, launched: Any, lora: tuple[str, ...], fsdp: str, tmp_path: Path
) -> None:
    """With copies of the network or with a part of it each."""
    more = (*lora, "train.updates=4")
    launched(TWO, command("velocity", tmp_path / "two", *more, f"train.fsdp={fsdp}"))
    one = run("velocity", tmp_path / "one", *more, "train.accumulate=2")
    both = type(one)(tmp_path / "two", "velocity")
    for (_, loss, norm), (_, wanted, wanted_norm) in zip(both.losses, one.losses, strict=True):
        assert loss == pytest.approx(wanted, rel=1e-4)
        assert norm == pytest.approx(wanted_norm, rel=1e-3)
    a, b = (weights(r.out / "model") for r in (both, one))
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-4
