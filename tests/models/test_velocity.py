"""The velocity network: shapes, what padding and conditions do, where it starts."""

import shutil
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from voiceflow.config import UserError, VelocityConfig, as_dict, load_group, to_schema
from voiceflow.model_folder import ModelFolder
from voiceflow.models.velocity import VelocityNetwork, valid_frames

N_PHONES, N_MELS = 11, 6
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
COMBINATIONS = list(product(("alibi", "rotary"), ("token", "adaln"), (False, True)))


def made(**options: str | bool | int | float) -> VelocityNetwork:
    """A tiny network in evaluation mode; what starts at zero is filled."""
    torch.manual_seed(0)
    config = replace(load_group(VelocityConfig, "model", "tiny"), **options)
    network = VelocityNetwork(config, N_PHONES, N_MELS)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


@pytest.fixture(
    params=COMBINATIONS, ids=lambda c: f"{c[0]}-{c[1]}{'-qk_norm' if c[2] else ''}"
)
def network(request: pytest.FixtureRequest) -> VelocityNetwork:
    """Of every combination of the options."""
    position, time, qk_norm = request.param
    return made(position=position, time=time, qk_norm=qk_norm)


def inputs(items: int, frames: int, seed: int = 0) -> Inputs:
    """x_t, context, phones and t."""
    generator = torch.Generator().manual_seed(seed)
    xt = torch.randn(items, frames, N_MELS, generator=generator)
    context = torch.randn(items, frames, N_MELS, generator=generator)
    phones = torch.randint(1, N_PHONES, (items, frames), generator=generator)
    return xt, context, phones, torch.rand(items, generator=generator)


@pytest.mark.parametrize("time", ["token", "adaln"])
def test_a_fresh_network_predicts_zero(time: str) -> None:
    config = replace(load_group(VelocityConfig, "model", "tiny"), time=time)
    out = VelocityNetwork(config, N_PHONES, N_MELS)(*inputs(2, 9), torch.tensor([9, 7]))
    assert out.shape == (2, 9, N_MELS)
    assert not out.any()


def test_a_batch_gives_what_its_items_give_alone(network: VelocityNetwork) -> None:
    lengths = torch.tensor([23, 9, 1])
    xt, context, phones, t = inputs(3, 23)
    together = network(xt, context, phones, t, lengths)
    assert together.std() > 0.1
    for i, n in enumerate(lengths.tolist()):
        part = slice(i, i + 1)
        alone = network(
            xt[part, :n], context[part, :n], phones[part, :n], t[part], lengths[part]
        )
        torch.testing.assert_close(together[part, :n], alone, rtol=1e-5, atol=1e-5)


def test_what_stands_in_the_padding_does_not_matter(network: VelocityNetwork) -> None:
    lengths = torch.tensor([12, 5])
    xt, context, phones, t = inputs(2, 12)
    clean = network(xt, context, phones, t, lengths)
    xt[1, 5:], context[1, 5:], phones[1, 5:] = 1e3, -1e3, 0
    torch.testing.assert_close(
        network(xt, context, phones, t, lengths)[1, :5], clean[1, :5], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("which", range(4), ids=["x_t", "context", "phones", "t"])
def test_every_input_is_heard_everywhere(network: VelocityNetwork, which: int) -> None:
    before, other = inputs(1, 8), inputs(1, 8, seed=1)
    after = list(before)
    after[which] = other[which]
    lengths = torch.tensor([8])
    changed = (network(*after, lengths) - network(*before, lengths)).abs()
    assert (changed.amax(-1) > 1e-4).all()


def test_the_place_of_frames_matters(network: VelocityNetwork) -> None:
    """Two frames change places: what comes out is not the same with two frames changed."""
    xt, context, phones, t = inputs(1, 24)
    lengths, order = torch.tensor([24]), torch.arange(24)
    order[[2, 20]] = order[[20, 2]]
    before = network(xt, context, phones, t, lengths)
    after = network(xt[:, order], context[:, order], phones[:, order], t, lengths)
    changed = (after[:, order] - before).abs().amax(-1)[0]
    assert (changed > 1e-4).all()


def test_gradients_reach_every_parameter(network: VelocityNetwork) -> None:
    out = network.train()(*inputs(3, 9), torch.tensor([9, 6, 2]))
    (out * torch.randn(out.shape)).sum().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_checkpointed_activations_give_the_same_gradients() -> None:
    found = []
    for checkpointed in (False, True):
        network = made(dropout=0.2, checkpoint_activations=checkpointed).train()
        network(*inputs(2, 12), torch.tensor([12, 8])).square().sum().backward()
        found.append([p.grad for p in network.parameters()])
    for plain, checkpointed in zip(*found, strict=True):
        torch.testing.assert_close(checkpointed, plain, rtol=1e-5, atol=1e-6)


def test_output_is_full_precision_under_autocast(network: VelocityNetwork) -> None:
    given, lengths = inputs(2, 9), torch.tensor([9, 6])
    exact = network(*given, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(*given, lengths)
    assert half.dtype == torch.float32
    for i, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(half[i, :n], exact[i, :n], rtol=0.1, atol=0.1)


def test_bf16_gradients_are_those_of_full_precision(network: VelocityNetwork) -> None:
    """Through attention's way of bf16 with gradients: within a few roundings."""
    given, lengths, found = inputs(2, 40), torch.tensor([40, 25]), []
    direction = torch.randn(2, 40, N_MELS, generator=torch.Generator().manual_seed(4))
    direction[1, 25:] = 0
    for half in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            (network(*given, lengths) * direction).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert (found[1] - found[0]).norm() < 0.05 * found[0].norm()


def check_compiled(network: VelocityNetwork, backend: str, tolerance: float) -> None:
    """Two lengths' outputs and gradients, compiled once, against the eager ones."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(network, dynamic=True, backend=backend)
    for frames in (23, 40):
        given, lengths = inputs(3, frames), torch.tensor([frames, frames - 3, frames - 9])
        found = []
        for called in (network, compiled):
            network.zero_grad()
            called(*given, lengths).square().sum().backward()
            found.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
        assert (found[1] - found[0]).norm() < tolerance * found[0].norm()
    # The part before the convolutions and the part after them.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


def test_two_graphs_serve_every_length_in_training() -> None:
    check_compiled(made(layers=2).train(), "eager", 1e-6)


def test_one_graph_serves_every_length_in_inference() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    network = made(layers=2)
    compiled = torch.compile(network, dynamic=True, fullgraph=True, backend="eager")
    with torch.no_grad():
        for frames in (23, 40):
            given, lengths = inputs(3, frames), torch.tensor([frames, frames - 3, frames - 9])
            torch.testing.assert_close(compiled(*given, lengths), network(*given, lengths))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"position": "rotary", "time": "adaln", "qk_norm": True},
        {"checkpoint_activations": True},
    ],
    ids=["default", "rotary-adaln-qk_norm", "checkpointed"],
)
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++ on CPU")
def test_compiled_the_gradients_are_the_same(options: dict[str, str | bool]) -> None:
    check_compiled(made(layers=2, **options).train(), "inductor", 1e-4)


@pytest.mark.parametrize(
    ("key", "value", "choices"),
    [("position", "sine", "alibi, rotary"), ("time", "film", "token, adaln")],
)
def test_an_unknown_option_names_the_choices(key: str, value: str, choices: str) -> None:
    with pytest.raises(UserError, match=f"{key} '{value}' is not known: choose one of {choices}"):
        load_group(VelocityConfig, "model", "tiny", [f"{key}={value}"])


def test_a_configuration_of_before_the_options_means_the_same_network() -> None:
    values = as_dict(load_group(VelocityConfig, "model", "mini"))
    for key in ("position", "time", "qk_norm", "checkpoint_activations"):
        del values[key]
    assert to_schema(VelocityConfig, values, "old") == load_group(VelocityConfig, "model", "mini")
    assert isinstance(ModelFolder.open("mini").load("velocity"), VelocityNetwork)


def test_valid_frames() -> None:
    assert valid_frames(torch.tensor([4, 4]), 4) is None
    valid = valid_frames(torch.tensor([1, 3]), 3)
    assert valid is not None
    assert valid.tolist() == [[True, False, False], [True, True, True]]


def test_lengths_that_are_not_at_hand_are_not_looked_at() -> None:
    valid = valid_frames(torch.tensor([4, 4], device="meta"), 4)
    assert valid is not None and valid.shape == (2, 4)


@pytest.mark.parametrize("lengths", [[40, 40], [40, 23]], ids=["whole", "padded"])
def test_prepared_it_is_the_same_network(network: VelocityNetwork, lengths: list[int]) -> None:
    """For every x_t and t that the same context and phones are asked with."""
    given = torch.tensor(lengths)
    _, context, phones, _ = inputs(2, 40)
    prepared = network.prepare(context, phones, given)
    for seed in (1, 2):
        xt, _, _, t = inputs(2, 40, seed)
        found, wanted = network.velocity(xt, t, prepared), network(xt, context, phones, t, given)
        for i, n in enumerate(lengths):
            torch.testing.assert_close(found[i, :n], wanted[i, :n], rtol=1e-5, atol=1e-5)


def test_prepared_the_bundled_voice_is_the_same_network() -> None:
    folder = ModelFolder.open("mini")
    network, n_mels = folder.load("velocity"), folder.features.n_mels
    assert isinstance(network, VelocityNetwork)
    generator = torch.Generator().manual_seed(0)
    xt, context = torch.randn(2, 2, 90, n_mels, generator=generator)
    phones = torch.randint(len(folder.phones), (2, 90), generator=generator)
    lengths, t = torch.tensor([90, 90]), torch.tensor([0.3, 0.8])
    with torch.no_grad():
        wanted = network(xt, context, phones, t, lengths)
        found = network.velocity(xt, t, network.prepare(context, phones, lengths))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_prepared_in_bf16_it_is_full_precisions_within_its_roundings(
    network: VelocityNetwork,
) -> None:
    xt, context, phones, t = inputs(2, 40)
    lengths = torch.tensor([40, 40])
    exact = network(xt, context, phones, t, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        prepared = network.prepare(context, phones, lengths)
        half = network.velocity(xt, t, prepared)
    assert (prepared.told.dtype, half.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(half, exact, rtol=0.1, atol=0.1)


def test_what_is_prepared_is_made_once(
    network: VelocityNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither phones nor positions are looked at again."""
    xt, context, phones, t = inputs(2, 12)
    prepared = network.prepare(context, phones, torch.tensor([12, 7]))
    monkeypatch.setattr(network.phone, "forward", None)
    monkeypatch.setattr(network.transformer, "places", None)
    network.velocity(xt, t, prepared)
    with pytest.raises(TypeError):
        network(xt, context, phones, t, torch.tensor([12, 7]))


def test_places_serve_other_items_of_the_same_length(network: VelocityNetwork) -> None:
    xt, context, phones, t = inputs(3, 12)
    lengths = torch.tensor([12, 12, 12])
    many = network.prepare(context, phones, lengths)
    one = network.prepare(context[:1], phones[:1], lengths[:1], places=many.places)
    assert one.places is many.places
    alone, together = network.velocity(xt[:1], t[:1], one), network.velocity(xt, t, many)
    torch.testing.assert_close(alone, together[:1], rtol=1e-5, atol=1e-5)


def test_prepared_gradients_reach_the_input() -> None:
    network = made()
    xt, context, phones, t = inputs(1, 9)
    prepared = network.prepare(context, phones, torch.tensor([9]))
    network.velocity(xt.requires_grad_(), t, prepared).sum().backward()
    assert xt.grad is not None and xt.grad.any()
    assert network.input.weight.grad is not None and network.input.weight.grad.all()
