"""Configuration: dataclasses that the YAML files under `conf/` fill (Hydra's compose API).

A key that no dataclass knows, or a value of the wrong type, is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

Schema = TypeVar("Schema")
KINDS: dict[Any, str] = {  # what a value of each type is called
    int: "a whole number", float: "a number", bool: "true or false", str: "text",
    int | None: "a whole number or null", float | None: "a number or null",
    str | None: "text or null", list[str]: "names in brackets", list[float]: "numbers in brackets",
    tuple[float, float]: "two numbers in brackets",
}  # fmt: skip
# Which values a run can go by, of the keys of these names in whatever group.
_LIMITS: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("at least 1", lambda x: x >= 1, "updates batch_frames accumulate crop_frames checkpoint_every "
     "keep_checkpoints log_every validate_every width hidden layers heads feed_forward phone_width "
     "position_groups stride steps context_frames"),
    ("0 or more", lambda x: 0 <= x < math.inf, "learning_rate warmup_updates workers skip_limit "
     "validation_utterances batch_square_frames sample_every stall_seconds peak_tflops "
     "position_layers prior_scale discriminators iterations temperature"),
    ("above 0", lambda x: x > 0, "clip log_std"),
    ("from 0 to 1", lambda x: 0 <= x <= 1, "p_mask_all p_unconditional mask_ratio_min "
     "mask_ratio_max ema_decay"),
    ("at least 0 and below 1", lambda x: 0 <= x < 1, "dropout sigma_min"),
    ("odd and at least 1", lambda x: x >= 1 and x % 2 == 1, "kernel position_width"),
)  # fmt: skip


class UserError(Exception):
    """The person's input is wrong: shown as one line, exit code 2."""


class UserNote(UserWarning):
    """Something that the person should know about the input; the work goes on."""


@dataclass
class VelocityConfig:
    """Size of the velocity network (Le et al. 2023, section 4)."""

    width: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 1024
    phone_width: int = 256
    position_width: int = 31
    position_groups: int = 16
    position_layers: int = 2
    dropout: float = 0.0
    position: str = "alibi"  # in attention: alibi or rotary
    time: str = "token"  # the flow step: token, or adaln (it modulates every block)
    qk_norm: bool = False  # RMS norm of queries and keys in each head
    checkpoint_activations: bool = False  # less memory in training, a third more arithmetic

    def __post_init__(self) -> None:
        for key, choices in (("position", ("alibi", "rotary")), ("time", ("token", "adaln"))):
            if getattr(self, key) not in choices:
                raise UserError(
                    f"velocity network: {key} '{getattr(self, key)}' is not known: choose one of "
                    f"{', '.join(choices)}"
                )


@dataclass
class DurationConfig:
    """Size of a duration network, by regression or by flow (Le et al. 2023, section 5.1).

    log_mean and log_std are fixed: the mean and deviation of log(1 + frames) in 128 utterances of
    train-clean-5 at 100 frames a second, by which the flow's durations are normalised.
    """

    width: int = 192
    layers: int = 4
    heads: int = 4
    feed_forward: int = 768
    phone_width: int = 192
    position_width: int = 15
    position_groups: int = 16
    position_layers: int = 2
    dropout: float = 0.1
    log_mean: float = 1.68
    log_std: float = 0.98


@dataclass
class AlignerConfig:
    """Size of the phone recogniser that the ctc aligner stands on."""

    width: int = 192
    hidden: int = 576
    layers: int = 8
    kernel: int = 15  # outputs
    stride: int = 2  # frames an output
    dropout: float = 0.1


@dataclass
class VocoderConfig:
    """Size of the vocoder, what its head tells, and the discriminators that it is trained with."""

    differences: bool = False  # tells differences of phases, which are then summed up
    width: int = 256
    hidden: int = 768
    layers: int = 6
    kernel: int = 7
    # Where it tells phases themselves:
    n_fft: int = 640  # of the spectrum that it makes; a multiple of the hop
    discriminators: float = 0.0  # their width, 1 as published; 0: none, spectral losses alone
    # Where it tells differences:
    iterations: int = 2  # of consistency, after the phases are summed up


@dataclass
class TaskConfig:
    """What is trained, and how its spans and condition drops are drawn (per sample)."""

    name: str = "velocity"
    p_mask_all: float = 0.3
    mask_ratio_min: float = 0.7
    mask_ratio_max: float = 1.0
    p_unconditional: float = 0.2
    path: str = "optimal_transport"  # velocity: one of voiceflow.flow.paths.PATHS
    sigma_min: float = 1e-5  # of the optimal-transport path
    loss_frames: str = "masked"  # velocity: or all, as an ablation
    ctc_weight: float = 1.0  # aligner: 1 is CTC alone, 0 the data's own borders alone
    prior_scale: float = 0.3  # aligner: how far label priors count in CTC (Huang et al. 2024)


@dataclass
class TrainConfig:
    """Optimiser, budget and housekeeping of a training run."""

    updates: int = 1000
    batch_frames: int = 4800  # padded frames in one batch of one process
    batch_square_frames: int = 0  # utterances times longest squared in one batch; 0: no bound
    accumulate: int = 1  # batches summed into one update
    crop_frames: int = 1600
    learning_rate: float = 1e-4
    warmup_updates: int = 100
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 0.2
    ema_decay: float = 0.999
    mixed_precision: str = "no"  # no or bf16
    seed: int = 0
    workers: int = 0  # processes that load data
    balance: str = "none"  # or speaker, language: small ones come more often in an epoch
    balance_power: float = 0.5  # a group's share is its size to this power; 1 as the data are
    stream: bool = False  # read shard by shard; data at an address (s3://...) always are
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 10
    validate_every: int = 500
    validation_utterances: int = 32
    compile: bool = False  # torch.compile, with dynamic lengths
    fsdp: bool = False  # deal the network out to the processes (FSDP2) instead of copying it
    sharded_checkpoints: bool = False  # with fsdp: each process writes the part that it holds
    memory_probe: bool = False  # first a batch of the largest shape that can come
    skip_limit: int = 10  # updates that may be left out for a loss that is not finite
    stall_seconds: float = 1800.0  # after which an update prints every process's stack; 0 never
    sample_every: int = 0  # updates between sounds and pictures in the log; 0 never
    peak_tflops: float = 0.0  # of a process's device; the log tells the share used; 0 none
    init_from: str | None = None  # a model folder or a voice to start the weights from
    extend_phones: bool = False  # init_from: the data may have phones that the voice lacks
    lora_rank: int = 0  # of adapters (LoRA) trained in place of init_from's weights; 0: none
    lora_alpha: float = 0.0  # the adapters count alpha / rank; 0: twice the rank


@dataclass
class SampleConfig:
    """How a span is sampled."""

    steps: int = 16
    solver: str = "midpoint"
    guidance: float = 0.7  # away from what comes without phones and context
    context_guidance: float = 0.0  # from what comes without context; of gaps with it on one side
    temperature: float = 1.0  # deviation of the noise that a gap starts from
    context_frames: int = 1600  # what the network sees on either side of a gap
    path: str = "optimal_transport"  # what the velocity was trained on; training writes it
    # Between which times there is guidance; outside them the conditional network runs alone.
    guidance_interval: list[float] = field(default_factory=lambda: [0.0, 1.0])
    grid: str = "uniform"  # of the steps, one of voiceflow.flow.times.GRIDS
    sway: float = -1.0  # of the grid sway
    shift: float = 0.5  # of the grid shifted
    # Of the network: float32, bfloat16 by autocast, or auto: bfloat16 where it is fast.
    precision: str = "float32"
    compiled: bool = False  # its blocks by torch.compile

    def __post_init__(self) -> None:
        self.guidance_interval = list(self.guidance_interval)  # as YAML and JSON give it back


@dataclass
class BenchmarkConfig:
    """A protocol: which utterances are tried, and how."""

    name: str
    tasks: list[str]  # of benchmark.protocols.TASKS
    min_seconds: float = 0.0  # of an utterance
    max_seconds: float = 1e9
    prompt_seconds: float = 3.0  # of a prompt cut out of another utterance, and of a prefix
    per_speaker: int | None = None  # utterances of each speaker at most
    seeds: int = 1  # samples of each trial
    guidance: float | None = None  # where none is asked for; the voice's own preset's if None


@dataclass
class ToyConfig:
    """What `voiceflow toy` trains on a 2-D mixture of Gaussians, and how it is measured."""

    ways: list[str] = field(default_factory=list)  # rows of the table: names of toy.ways.WAYS
    modes: int = 11
    std: float = 1.0
    radius: float = 10.0
    width: int = 128
    layers: int = 4
    updates: int = 8000
    batch: int = 1024
    learning_rate: float = 4e-3
    ema_decay: float = 0.999
    coupling_batch: int = 64  # points paired at once by the minibatch coupling
    couples: int = 100000  # a reflow's, drawn once
    likelihood_updates: int = 600
    likelihood_learning_rate: float = 5e-4
    likelihood_batch: int = 256
    likelihood_steps: int = 16  # of the midpoint solver that maximum likelihood trains through
    samples: int = 5000  # of each set that is compared
    seed: int = 0


@dataclass
class RunConfig:
    """Everything that `voiceflow train` is told."""

    data: str
    out: str
    task: TaskConfig = field(default_factory=TaskConfig)
    model: VelocityConfig = field(default_factory=VelocityConfig)
    duration: DurationConfig = field(default_factory=DurationConfig)
    aligner: AlignerConfig = field(default_factory=AlignerConfig)
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)


def conf_folder() -> Path:
    """Where the YAML files are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise UserError(
        f"the configuration folder conf/ was looked for beside and inside {package} and not found: "
        "reinstall voiceflow"
    )


def to_schema(schema: type[Schema], values: Any, what: str) -> Schema:
    """`values` (a mapping) as a `schema` object; UserError names an unknown key or a wrong type."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values))
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        raise UserError(f"{what}: {_plain(error, schema)}") from error
    assert isinstance(made, schema)
    return made


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """The run that conf/config.yaml and the overrides (`group=option`, `group.key=value`) describe.

    Raises UserError for an override that is malformed, names what does not exist, or gives a value
    that no run can go by.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    GlobalHydra.instance().clear()
    folders = {"data": "the prepared data", "out": "where the run goes"}
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
            composed = hydra_compose(config_name="config", overrides=list(overrides))
        missing = [key for key in folders if composed.get(key) in (None, "")]
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        for group, _, name in (o.lstrip("+").partition("=") for o in overrides):
            if is_dataclass(get_type_hints(RunConfig).get(group)) and not name.startswith("{"):
                _require_option(group, name)
        raise UserError(f"configuration: {_plain(error, RunConfig)}") from error
    if missing:
        raise UserError("; ".join(f"{key}=FOLDER is missing: {folders[key]}" for key in missing))
    # As plain values: what `+key=value` put beside the known keys is then an error too.
    config = to_schema(RunConfig, OmegaConf.to_container(composed), "configuration")
    _check(config)
    return config


def _require_option(group: str, name: str) -> None:
    known = sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
    if name.strip("'\"") not in known:
        offer = ", ".join(known)
        raise UserError(f"{group} configuration '{name}' does not exist: choose one of {offer}")


def _plain(error: Exception, schema: type) -> str:
    """What OmegaConf or Hydra refuses, in one line and by the schema's keys."""
    cause, said = error.__cause__ or error, str(error)
    ambiguous = re.match("Ambiguous value for argument '(.*)'", said)
    if override := ambiguous[1] if ambiguous else getattr(error, "override", ""):
        return (
            f"'{override}' cannot be read as key=value: put a list in brackets, text with signs in "
            "quotes, as \"out='a=b'\""
        )
    absent = re.match("Could not override '(.*?)'|Key '.*' not in ", said)
    key = str(getattr(cause, "full_key", "") or (absent and absent[1]) or "").partition("[")[0]
    group, _, name = key.rpartition(".")
    groups = {g: get_type_hints(t) for g, t in get_type_hints(schema).items() if is_dataclass(t)}
    keys = groups.get(group, get_type_hints(schema))
    if absent and name not in keys:
        near = [f"{g}.{name}" for g in groups if name in groups[g]]
        near += [f"{group}.{k}".lstrip(".") for k in get_close_matches(name, keys, 1)]
        nearest = f"the nearest key is {near[0]}, all of them" if near else "all of its keys"
        where = f"{group} has" if group else "there is"
        return f"{where} no '{name}'; {nearest}: {', '.join(keys)}"
    if (kind := KINDS.get(keys.get(name))) and isinstance(cause, ValueError):
        value = getattr(cause, "value", None)
        return f"{key} must be {kind}, found {'null' if value is None else repr(value)}"
    if said.startswith("Error merging override ~"):
        return f"{key} cannot be taken away, only given another value"
    return str(cause).splitlines()[0].partition(" in the final defaults list")[0]


def _check(config: RunConfig) -> None:
    """UserError for values that no run can go by."""
    for group, size in vars(config).items():
        for words, holds, names in _LIMITS:
            for name in names.split():
                if hasattr(size, name) and not holds(found := getattr(size, name)):
                    raise UserError(f"{group}.{name} must be {words}, found {found}")
    for group, size in (("model", config.model), ("duration", config.duration)):
        pairs = getattr(size, "position", "") == "rotary"
        groups = size.position_groups if size.position_layers else 1
        step = math.lcm(size.heads * (2 if pairs else 1), groups)
        if size.width % step:
            below = size.width // step * step
            raise UserError(
                f"{group}.width must be a multiple of {'twice ' if pairs else ''}{group}.heads "
                f"({size.heads}) and of {group}.position_groups ({size.position_groups}), found "
                f"{size.width}: choose {f'{below} or ' if below else ''}{below + step}"
            )
    low, high, betas = config.task.mask_ratio_min, config.task.mask_ratio_max, config.train.betas
    if low > high:
        raise UserError(f"task.mask_ratio_min must be at most mask_ratio_max, found {low} > {high}")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise UserError(f"train.betas must be two numbers, 0 <= each < 1, found {list(betas)}")


def load_group(
    schema: type[Schema], group: str, name: str, overrides: Sequence[str] = ()
) -> Schema:
    """One file of one group, `conf/<group>/<name>.yaml`, as a `schema` object.

    overrides: `key=value` each, put over the file. UserError for an unknown key or a wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _require_option(group, name)
    values = OmegaConf.load(conf_folder() / group / f"{name}.yaml")
    if overrides:
        try:
            values = OmegaConf.merge(values, OmegaConf.from_dotlist(list(overrides)))
        except (OmegaConfBaseException, ValueError) as error:
            raise UserError(f"{group}: {str(error).splitlines()[0]}") from error
    return to_schema(schema, values, f"{group} {name} {' '.join(overrides)}".strip())


def as_dict(config: Any) -> dict[str, Any]:
    """A configuration dataclass as plain dictionaries and lists, for YAML and JSON."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(OmegaConf.structured(config), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
