"""What all tests share: the real speech, few threads, hypothesis without a clock."""

import os
from pathlib import Path

# Before torch is imported anywhere, so that its pools are made small.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile(
    "voiceflow",
    deadline=None,
    derandomize=True,  # the same examples in every run: a failure is the change's, never the day's
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("voiceflow")


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    import torch

    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def tiny_voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model folder with untrained networks of the `tiny` sizes."""
    import torch

    from voiceflow.audio.features import FeatureSpec
    from voiceflow.config import (
        AlignerConfig,
        DurationConfig,
        SampleConfig,
        VelocityConfig,
        load_group,
    )
    from voiceflow.model_folder import (
        build_aligner,
        build_duration,
        build_duration_flow,
        build_velocity,
        save_network,
    )
    from voiceflow.text.phones import PhoneTable

    folder = tmp_path_factory.mktemp("voice") / "tiny"
    phones, features = PhoneTable.english(), FeatureSpec.named("voicebox16k")
    velocity = load_group(VelocityConfig, "model", "tiny")
    duration = load_group(DurationConfig, "duration", "tiny")
    aligner = load_group(AlignerConfig, "aligner", "tiny")
    torch.manual_seed(0)
    networks = {
        "velocity": (velocity, build_velocity(velocity, phones, features)),
        "duration": (duration, build_duration(duration, phones)),
        "duration_flow": (duration, build_duration_flow(duration, phones)),
        "aligner": (aligner, build_aligner(aligner, phones, features)),
    }
    for name, (config, network) in networks.items():
        save_network(
            folder, name, network.state_dict(), config, phones, features, SampleConfig(steps=2), {}
        )
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder: 24 synthetic utterances of 5 phones that sound each in its own way."""
    import numpy as np

    from voiceflow.alignment.frames import FramedAlignment, FramedWord
    from voiceflow.audio.features import FeatureSpec
    from voiceflow.data.manifest import Utterance
    from voiceflow.data.shards import PreparedUtterance, write_shard
    from voiceflow.files import write_json
    from voiceflow.text.phones import PhoneTable

    folder = tmp_path_factory.mktemp("prepared")
    random = np.random.default_rng(0)
    spec = FeatureSpec(n_mels=8, mean=-5.0, std=2.0)
    sounds = random.normal(-5.0, 2.0, size=(6, spec.n_mels))
    spoken = ["AA_S", "B_B", "IY_E", "S_B", "T_E"]
    frames = 0
    for shard in range(2):
        rows = []
        for number in range(12):
            words = random.integers(6, 16)
            kinds = [0, *np.stack([random.integers(1, 6, words), 0 * np.arange(words)], 1).flat]
            durations = [int(random.integers(4, 9) if k else random.integers(0, 4)) for k in kinds]
            durations[0] += 1
            mel = np.repeat(sounds[kinds], durations, axis=0)
            mel += random.normal(0, 0.2, size=mel.shape)
            framed = FramedAlignment(
                tuple("SIL" if k == 0 else spoken[k - 1] for k in kinds),
                tuple(durations),
                tuple(FramedWord(f"W{i}", 2 * i + 1, 1) for i in range(words)),
            )
            utterance = Utterance(f"u-{shard}-{number:02d}", "none.wav", "W " * words, "speaker")
            seconds = len(mel) * spec.hop_seconds
            rows.append(PreparedUtterance(utterance, seconds, mel.astype(np.float16), framed, None))
            frames += len(mel)
        write_shard(folder / "shards" / f"{shard:05d}.parquet", rows)
    spec.save(folder / "features.json")
    PhoneTable.english().save(folder / "phones.json")
    write_json(
        folder / "info.json",
        {"aligner": "none", "hours": frames / 360000, "frames": frames, "fingerprint": "synthetic"},
    )
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return REPOSITORY


@pytest.fixture(scope="session")
def speech_dir() -> Path:
    """The real speech: $VOICEFLOW_SPEECH_DIR, or shared/speech beside the checkout."""
    named = os.environ.get("VOICEFLOW_SPEECH_DIR")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "speech"
    if not (folder / "LibriSpeech").is_dir():
        pytest.skip(
            f"no real speech: {folder}/LibriSpeech is absent; set VOICEFLOW_SPEECH_DIR to a folder "
            "that holds it"
        )
    return folder
