"""Losses in closed form, with networks that answer what the test wants."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError, compose
from voiceflow.data.batching import Batch, collate
from voiceflow.data.dataset import Example
from voiceflow.text.phones import PhoneTable
from voiceflow.training.tasks import (
    AlignerTask,
    DurationFlowTask,
    DurationTask,
    Task,
    VelocityTask,
    labels_of_outputs,
    make_task,
    phone_draws,
)

N_MELS = 5
SIGMA = 0.01
VELOCITY = make_task(compose(["data=x", "out=y", "model=tiny", f"task.sigma_min={SIGMA}"]))
ALIGNER = [
    "data=x", "out=y", "task=aligner", "aligner=tiny", "train=tiny",
]  # fmt: skip
DURATION = make_task(compose(["data=x", "out=y", "task=duration", "duration=tiny"]))
DURATION_FLOW = make_task(compose([
    "data=x", "out=y", "task=duration_flow", "duration=tiny", f"task.sigma_min={SIGMA}",
    "duration.log_mean=1.5", "duration.log_std=0.5",
]))  # fmt: skip


class Answer(nn.Module):
    """A network that keeps what it was shown and answers with `value`."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, *shown: Tensor) -> Tensor:
        self.shown = shown
        return self.value


def example(durations: list[int], mask: list[bool], t: float, unconditional: bool) -> Example:
    n = sum(durations)
    generator = torch.Generator().manual_seed(n)
    return Example(
        id=f"u{n}",
        mel=torch.randn(n, N_MELS, generator=generator),
        phones=torch.arange(1, 1 + len(durations)),
        durations=torch.tensor(durations),
        mask=torch.tensor(mask),
        unconditional=unconditional,
        noise=torch.randn(n, N_MELS, generator=generator),
        t=t,
    )


EXAMPLES = [
    example([3, 0, 2, 4], [False, True, True, False], 0.25, False),
    example([1, 5], [True, False], 1.0, False),
    example([2, 6, 3], [True, True, True], 0.0, True),
]


@pytest.fixture()
def batch() -> Batch:
    return collate(EXAMPLES)


def target(batch: Batch) -> Tensor:
    """d x_t / dt of the path from noise to the mel."""
    return batch.mel - (1 - SIGMA) * batch.noise


def test_the_exact_velocity_on_masked_frames_costs_nothing(batch: Batch) -> None:
    """Whatever is answered elsewhere, padding included."""
    answer = target(batch).where(batch.frame_mask[..., None], torch.tensor(1e3))
    assert float(VELOCITY.loss_sum(Answer(answer), batch)) == 0


def test_a_velocity_of_zero_costs_the_targets_energy_on_masked_frames(batch: Batch) -> None:
    masked = [(0, 3, 5), (1, 0, 1), (2, 0, 11)]  # item, first frame, end: as in EXAMPLES
    energy = sum(float(target(batch)[i, a:b].square().sum()) for i, a, b in masked)
    zero = Answer(torch.zeros_like(batch.mel))
    assert float(VELOCITY.loss_sum(zero, batch)) == pytest.approx(energy, rel=1e-6)
    assert VELOCITY.count(batch) == (2 + 1 + 11) * N_MELS


def test_a_velocity_off_by_one_costs_one_an_element(batch: Batch) -> None:
    loss = VELOCITY.loss_sum(Answer(target(batch) - 1), batch)
    assert float(loss) == pytest.approx(VELOCITY.count(batch), rel=1e-5)


def test_what_the_velocity_network_is_shown(batch: Batch) -> None:
    network = Answer(torch.zeros_like(batch.mel))
    VELOCITY.loss_sum(network, batch)
    xt, context, phones, t, lengths = network.shown
    assert t.tolist() == [0.25, 1.0, 0.0]
    assert lengths.tolist() == [9, 6, 11]
    quarter = 0.25 * batch.mel[0] + (1 - (1 - SIGMA) * 0.25) * batch.noise[0]
    torch.testing.assert_close(xt[0], quarter)  # on context frames too
    torch.testing.assert_close(xt[1], batch.mel[1] + SIGMA * batch.noise[1])
    torch.testing.assert_close(xt[2], batch.noise[2])
    assert torch.equal(context[0, :3], batch.mel[0, :3])
    assert torch.equal(context[0, 5:], batch.mel[0, 5:])
    assert torch.equal(context[1, 1:], batch.mel[1, 1:])
    assert not context[0, 3:5].any() and not context[1, :1].any() and not context[2].any()
    assert phones[0].tolist() == [1] * 3 + [3] * 2 + [4] * 4 + [0] * 2
    assert not phones[2].any()


def test_an_unconditional_sample_has_no_context_even_if_its_mask_left_some() -> None:
    batch = collate([example([2, 6], [True, False], 0.5, True)])
    network = Answer(torch.zeros_like(batch.mel))
    VELOCITY.loss_sum(network, batch)
    _, context, phones, *_ = network.shown
    assert batch.mel.all() and not context.any() and not phones.any()


def test_the_exact_logarithms_on_masked_phones_cost_nothing(batch: Batch) -> None:
    answer = batch.durations.float().log1p().where(batch.mask, torch.tensor(1e3))
    assert float(DURATION.loss_sum(Answer(answer), batch)) == 0


def test_durations_of_no_frames_cost_the_logarithms_of_masked_phones(batch: Batch) -> None:
    """|0 - log(1 + d)| added is the logarithm of the product of the 1 + d."""
    zero = Answer(torch.zeros(batch.durations.shape))
    product = (1 * 3) * 2 * (3 * 7 * 4)
    loss = DURATION.loss_sum(zero, batch)
    assert float(loss) == pytest.approx(float(torch.tensor(product).log()), rel=1e-6)
    assert DURATION.count(batch) == 2 + 1 + 3


@pytest.mark.parametrize("off", [-2.0, 0.5])
def test_the_error_of_durations_is_absolute(batch: Batch, off: float) -> None:
    loss = DURATION.loss_sum(Answer(batch.durations.float().log1p() + off), batch)
    assert float(loss) == pytest.approx(abs(off) * DURATION.count(batch), rel=1e-5)


def test_what_the_duration_network_is_shown(batch: Batch) -> None:
    network = Answer(torch.zeros(batch.durations.shape))
    DURATION.loss_sum(network, batch)
    phones, durations, mask, lengths = network.shown
    assert phones.tolist() == [[1, 2, 3, 4], [1, 2, 0, 0], [0, 0, 0, 0]]
    assert durations.tolist() == [[3, 0, 2, 4], [1, 5, 0, 0], [2, 6, 3, 0]]
    assert torch.equal(mask, batch.mask)
    assert lengths.tolist() == [4, 2, 3]


def drawn(example: Example, number: int) -> Tensor:
    """(N,) of the example's own noise, two elements for each phone."""
    place = 2 * torch.arange(len(example.phones)) + number
    return example.noise[place % len(example.mel), place // len(example.mel)]


def logs(example: Example) -> Tensor:
    """(N,) normalised logarithms of the durations, the masked ones dequantised."""
    within = torch.distributions.Normal(0, 1).cdf(drawn(example, 1)) - 0.5
    return ((1 + example.durations + within * example.mask).log() - 1.5) / 0.5


def flow_target() -> Tensor:
    """(B, N) d x_t / dt of the path from noise to the logarithms."""
    targets = [logs(e) - (1 - SIGMA) * drawn(e, 0) for e in EXAMPLES]
    return nn.utils.rnn.pad_sequence(targets, batch_first=True)


def test_the_exact_velocity_of_durations_costs_nothing(batch: Batch) -> None:
    """Whatever is answered elsewhere, padding included."""
    answer = flow_target().where(batch.mask, torch.tensor(1e3))
    assert float(DURATION_FLOW.loss_sum(Answer(answer), batch)) == pytest.approx(0, abs=1e-9)


def test_a_velocity_of_durations_off_by_one_costs_one_a_masked_phone(batch: Batch) -> None:
    loss = float(DURATION_FLOW.loss_sum(Answer(flow_target() - 1), batch))
    assert loss == pytest.approx(2 + 1 + 3, rel=1e-5)
    assert DURATION_FLOW.count(batch) == 2 + 1 + 3


def test_what_the_flow_duration_network_is_shown(batch: Batch) -> None:
    network = Answer(torch.zeros(batch.durations.shape))
    DURATION_FLOW.loss_sum(network, batch)
    xt, phones, durations, mask, t, lengths = network.shown
    assert phones.tolist() == [[1, 2, 3, 4], [1, 2, 0, 0], [0, 0, 0, 0]]
    assert durations.tolist() == [[3, 0, 2, 4], [1, 5, 0, 0], [2, 6, 3, 0]]
    assert torch.equal(mask & (phones > 0), batch.mask & (phones > 0))
    assert mask[2].all()
    assert t.tolist() == [0.25, 1.0, 0.0]
    assert lengths.tolist() == [4, 2, 3]
    first, second, third = EXAMPLES
    quarter = 0.25 * logs(first) + (1 - (1 - SIGMA) * 0.25) * drawn(first, 0)
    torch.testing.assert_close(xt[0], quarter)  # on context phones too
    torch.testing.assert_close(xt[1, :2], logs(second) + SIGMA * drawn(second, 0))
    torch.testing.assert_close(xt[2, :3], drawn(third, 0))


def test_the_flow_sees_no_context_where_conditions_are_dropped() -> None:
    """Even if the mask left some."""
    network = Answer(torch.zeros(1, 2))
    DURATION_FLOW.loss_sum(network, collate([example([2, 6], [True, False], 0.5, True)]))
    _, phones, _, mask, *_ = network.shown
    assert not phones.any() and mask.all()


def test_dequantised_durations_round_to_what_they_were() -> None:
    """At t = 1, without sigma_min, x_t is the data: within half a frame where it is masked."""
    settings = ["data=x", "out=y", "task=duration_flow", "duration=tiny", "task.sigma_min=0"]
    network = Answer(torch.zeros(1, 40))
    durations = [i % 7 for i in range(40)]
    mask = [i % 4 != 0 for i in range(40)]
    batch = collate([example(durations, mask, 1.0, False)])
    make_task(compose(settings)).loss_sum(network, batch)
    frames = (0.98 * network.shown[0] + 1.68).expm1()[0]
    assert frames.round().clamp_min(0).tolist() == durations
    off = (frames - torch.tensor(durations)).abs()
    assert off[~torch.tensor(mask)].max() < 1e-4
    assert off[torch.tensor(mask)].mean() == pytest.approx(0.25, abs=0.08)


def test_the_draws_of_phones_are_the_examples_own_and_none_is_used_twice() -> None:
    long = example([3] * 20, [True] * 20, 0.5, False)
    short = example([1, 0, 2], [True] * 3, 0.5, False)
    batch = collate([long, short])
    found = [phone_draws(batch, number) for number in (0, 1)]
    assert found[0].shape == (2, 20)
    for row, e in enumerate((long, short)):
        n = len(e.phones)
        alone = [phone_draws(collate([e]), number)[0] for number in (0, 1)]
        assert all(torch.equal(f[row, :n], a) for f, a in zip(found, alone, strict=True))
        numbers = torch.cat(alone)
        assert len(numbers.unique()) == 2 * n
        assert set(numbers.tolist()) <= set(e.noise.flatten().tolist())


@pytest.mark.parametrize(
    "task", [VELOCITY, DURATION, DURATION_FLOW], ids=lambda task: task.name
)
def test_sums_and_counts_of_single_examples_add_to_the_batchs(task: Task, batch: Batch) -> None:
    """With the task's own network: neither padding nor neighbours are in a sum."""
    torch.manual_seed(0)
    network = task.build(PhoneTable.english(), FeatureSpec(n_mels=N_MELS)).eval()
    nn.init.normal_(network.output.weight, std=0.1)
    alone = [collate([e]) for e in EXAMPLES]
    with torch.no_grad():
        together = float(task.loss_sum(network, batch).detach())
        apart = [float(task.loss_sum(network, single)) for single in alone]
    assert together == pytest.approx(sum(apart), rel=1e-5)
    assert min(apart) > 0
    assert task.count(batch) == sum(task.count(single) for single in alone)


def test_the_masked_durations_are_no_help(batch: Batch) -> None:
    """The network is handed all durations; the loss's prediction must not change with them."""
    torch.manual_seed(0)
    network = DURATION.build(PhoneTable.english(), FeatureSpec(n_mels=N_MELS)).eval()
    seen: list[Tensor] = []
    network.register_forward_hook(lambda _, __, out: seen.append(out))
    other = collate([example([3, 0, 7, 4], [False, True, True, False], 0.25, False)])
    with torch.no_grad():
        DURATION.loss_sum(network, collate(EXAMPLES[:1]))
        DURATION.loss_sum(network, other)
    assert torch.equal(*seen)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("velocity", VelocityTask),
        ("duration", DurationTask),
        ("duration_flow", DurationFlowTask),
    ],
)
def test_tasks_by_name(name: str, kind: Callable[..., Task]) -> None:
    config = compose(["data=x", "out=y", f"task={name}", "model=tiny", "duration=tiny"])
    task = make_task(config)
    assert type(task) is kind
    assert task.name == name
    assert task.network_config == (config.model if name == "velocity" else config.duration)


def test_no_such_task() -> None:
    with pytest.raises(UserError, match=r"task\.name 'painter' is not one of velocity, duration"):
        make_task(compose(["data=x", "out=y", "task.name=painter"]))


def aligner_task(weight: float) -> tuple[AlignerTask, nn.Module]:
    task = make_task(compose([*ALIGNER, f"task.ctc_weight={weight}"]))
    assert isinstance(task, AlignerTask)
    torch.manual_seed(0)
    return task, task.build(PhoneTable.english(), FeatureSpec(n_mels=N_MELS)).eval()


def test_an_output_has_the_label_of_the_frame_it_stands_on() -> None:
    labels = torch.tensor([[5, 6, 7, 8], [1, 2, 0, 0]])
    durations = torch.tensor([[3, 0, 2, 4], [1, 5, 0, 0]])
    found = labels_of_outputs(labels, durations, torch.tensor([5, 3]), 2)
    # frames 0 2 4 6 8 of 555 77 8888, and 0 2 4 of 1 22222
    assert found.tolist() == [[5, 5, 7, 8, 8], [1, 2, 2, -1, -1]]


def test_the_loss_by_borders_is_the_mean_negative_log_posterior(batch: Batch) -> None:
    task, network = aligner_task(0.0)
    log_probs = network(batch.mel, batch.frame_lengths)
    labels = task.classes[batch.phones]
    wanted = 0.0
    for i, example in enumerate(EXAMPLES):
        of_frames = labels[i, : len(example.phones)].repeat_interleave(example.durations)
        for j, frame in enumerate(range(0, len(example.mel), 2)):
            wanted -= float(log_probs[i, j, of_frames[frame]].detach())
    assert float(task.loss_sum(network, batch).detach()) == pytest.approx(wanted, rel=1e-5)
    assert task.count(batch) == sum((len(e.mel) + 1) // 2 for e in EXAMPLES)


def test_ctc_sums_over_all_paths_and_leaves_silence_to_blank() -> None:
    """One word of two phones in three outputs: the paths are few enough to write down."""
    task, network = aligner_task(1.0)
    network.log_prior.fill_(-1.0)
    table = PhoneTable.english()
    phones = torch.tensor([table.ids(["SIL", "HH_B", "IY_E", "SIL"])])
    mel = torch.randn(1, 6, N_MELS, generator=torch.Generator().manual_seed(3))
    batch = collate([
        Example("u", mel[0], phones[0], torch.tensor([1, 2, 2, 1]), torch.ones(4).bool(), False,
                mel[0], 0.5)
    ])  # fmt: skip
    p = (network(mel, torch.tensor([6]))[0] + 0.3).exp()  # priors of e^-1, scaled by 0.3
    h, y = table.bases().index("HH"), table.bases().index("IY")
    paths = [(h, h, y), (h, y, y), (0, h, y), (h, 0, y), (h, y, 0)]
    total = sum(p[0, a] * p[1, b] * p[2, c] for a, b, c in paths)
    found = float(task.loss_sum(network, batch).detach())
    assert found == pytest.approx(-float(total.log().detach()), rel=1e-4)


def test_the_two_losses_are_mixed_by_their_weight(batch: Batch) -> None:
    by_border, by_ctc, both = (
        float(task.loss_sum(network, batch).detach())
        for task, network in map(aligner_task, (0.0, 1.0, 0.25))
    )
    assert both == pytest.approx(0.75 * by_border + 0.25 * by_ctc, rel=1e-5)


def test_a_weight_out_of_range() -> None:
    with pytest.raises(UserError, match=r"ctc_weight must lie in \[0, 1\], found 1.5"):
        make_task(compose([*ALIGNER, "task.ctc_weight=1.5"]))
