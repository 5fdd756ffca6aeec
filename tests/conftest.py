"""What all tests share: the real speech, few threads, hypothesis without a clock."""

import os
from pathlib import Path

# Before torch is imported anywhere, so that its pools are made small.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile(
    "voiceflow", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
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
    from voiceflow.config import DurationConfig, SampleConfig, VelocityConfig, load_group
    from voiceflow.model_folder import build_duration, build_velocity, save_network
    from voiceflow.text.phones import PhoneTable

    folder = tmp_path_factory.mktemp("voice") / "tiny"
    phones, features = PhoneTable.english(), FeatureSpec.named("voicebox16k")
    velocity = load_group(VelocityConfig, "model", "tiny")
    duration = load_group(DurationConfig, "duration", "tiny")
    torch.manual_seed(0)
    networks = {
        "velocity": (velocity, build_velocity(velocity, phones, features)),
        "duration": (duration, build_duration(duration, phones)),
    }
    for name, (config, network) in networks.items():
        save_network(
            folder, name, network.state_dict(), config, phones, features, SampleConfig(steps=2), {}
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
