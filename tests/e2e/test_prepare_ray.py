"""Preparation on a Ray cluster of two nodes, one of which is lost amid the work."""

import os
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from voiceflow.alignment.ctc import CtcAligner
from voiceflow.audio.features import FeatureSpec
from voiceflow.config import UserError
from voiceflow.data.executors import Executor, Processes, Ray
from voiceflow.data.manifest import Utterance
from voiceflow.data.prepare import Summary, prepare
from voiceflow.text.phones import PhoneTable

N_UTTERANCES = 96
ray = pytest.importorskip("ray", reason="Ray is an extra: pip install -e '.[ray]'")


def run(utterances: list[Utterance], out: Path, executor: Executor) -> Summary | None:
    return prepare(
        utterances, partial(CtcAligner.of_voice, "mini"), FeatureSpec.named("voicebox16k"), out,
        PhoneTable.english(), {"aligner": "ctc"}, executor=executor, shard_utterances=8,
    )  # fmt: skip


def files(out: Path) -> dict[str, bytes]:
    found = [p for p in sorted(out.rglob("*")) if p.is_file()]
    return {str(p.relative_to(out)): p.read_bytes() for p in found}


@pytest.mark.long
def test_a_lost_node_changes_nothing(
    speech_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    from data_prep import librispeech

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    items = librispeech.read(speech_dir / "LibriSpeech", "train-clean-5")
    utterances = [u for u in items if isinstance(u, Utterance)][:N_UTTERANCES]
    wanted = run(utterances, tmp_path / "processes", Processes(2))
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        lost = cluster.add_node(num_cpus=1)
        killed_after: list[int] = []

        def kill() -> None:
            shards = tmp_path / "ray" / "shards"
            while len(list(shards.glob("*.json"))) < 2:
                time.sleep(0.1)
            killed_after.append(len(list(shards.glob("*.json"))))
            cluster.remove_node(lost, allow_graceful=False)

        killer = threading.Thread(target=kill)
        killer.start()
        found = run(utterances, tmp_path / "ray", Ray(cluster.address))
        killer.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed_after[0] < N_UTTERANCES // 8  # amid the work
    assert found == wanted
    assert files(tmp_path / "ray") == files(tmp_path / "processes")


def test_no_cluster_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delitem(os.environ, "RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=r"no Ray cluster answers at 'auto'.*ray start --head"):
        list(Ray().run(str, [1]))
