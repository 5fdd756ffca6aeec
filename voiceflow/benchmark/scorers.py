"""The scorers by name, and the sets of them that go together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from voiceflow.config import UserError
from voiceflow.measures.scorer import Scorer

OFFLINE = (
    "pocketsphinx", "matching", "phones", "resemblyzer", "dnsmos", "intrusive", "pitch",
    "fsd-resemblyzer", "fsd-log-mel",
)  # fmt: skip
PAPERS = ("hubert", "whisper", "wavlm", "fsd-wav2vec2")
# What these tell depends on the whole wave and its text alone, whatever was generated in it.
OF_THE_WHOLE = ("pocketsphinx", "pocketsphinx-closed", "matching", "dnsmos", "hubert", "whisper")
SETS = {"offline": OFFLINE, "paper": PAPERS}


@dataclass(frozen=True)
class ScorerRequest:
    """A scorer that was asked for: its name, and the model that it shall use ("" for its own)."""

    name: str
    model: str = ""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Setting:
    """What scorers are made with: the trials' texts, the voice whose aligner hears, and where."""

    transcripts: tuple[str, ...]
    listener: str
    device: str = "cpu"


def parse_scorers(text: str) -> list[ScorerRequest]:
    """Names with commas between, a set's or a scorer's, each maybe with `=FOLDER or model`.

    Raises UserError for a name that is unknown, or no name.
    """
    asked: dict[str, ScorerRequest] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, model = part.partition("=")
        for one in SETS.get(name, (name,)):
            if one not in MAKERS:
                raise UserError(
                    f"no scorer '{one}': there are {', '.join(MAKERS)}, and the sets "
                    + ", ".join(f"{n} ({', '.join(s)})" for n, s in SETS.items())
                )
            asked[one] = ScorerRequest(one, model)
    if not asked:
        raise UserError(f"--scorers names none: as {', '.join(SETS)}, or {', '.join(MAKERS)}")
    return list(asked.values())


def make_scorers(asked: Sequence[ScorerRequest], setting: Setting) -> dict[str, Scorer]:
    """All of them, ready; UserError tells everything that is missing at once."""
    made, missing = {}, []
    for one in asked:
        try:
            made[one.name] = MAKERS[one.name](one.model, setting)
        except UserError as error:
            missing.append(f"{one.name}: {error}")
    if missing:
        raise UserError("scorers that cannot be used: " + "; ".join(missing))
    return made


def _pocketsphinx(model: str, setting: Setting) -> Scorer:
    from voiceflow.measures.heard import PocketsphinxWords

    return PocketsphinxWords()


def _closed(model: str, setting: Setting) -> Scorer:
    from voiceflow.measures.heard import PocketsphinxWords

    return PocketsphinxWords(setting.transcripts)


def _matching(model: str, setting: Setting) -> Scorer:
    from voiceflow.measures.heard import Matching

    return Matching()


def _phones(model: str, setting: Setting) -> Scorer:
    from voiceflow.measures.heard import Phones

    return Phones(model or setting.listener)


def _resemblyzer(model: str, setting: Setting) -> Scorer:
    from voiceflow.measures.speaker import ResemblyzerSpeaker

    return ResemblyzerSpeaker()


def _dnsmos(model: str, setting: Setting) -> Scorer:
    from voiceflow.measures.quality import Dnsmos

    return Dnsmos()


def _intrusive(model: str, setting: Setting) -> Scorer:
    from voiceflow.measures.quality import Intrusive

    return Intrusive()


def _pitch(model: str, setting: Setting) -> Scorer:
    from voiceflow.measures.pitch import Pitch

    return Pitch()


def _fsd_resemblyzer(model: str, setting: Setting) -> Scorer:
    from voiceflow.measures.frechet import ResemblyzerVectors

    return ResemblyzerVectors()


def _fsd_log_mel(model: str, setting: Setting) -> Scorer:
    from voiceflow.measures.frechet import LogMelVectors

    return LogMelVectors()


def _pretrained(module: str, name: str) -> Callable[[str, Setting], Scorer]:
    def make(model: str, setting: Setting) -> Scorer:
        kind = getattr(import_module(f"voiceflow.measures.{module}"), name)
        scorer: Scorer = kind(**({"model": model} if model else {}), device=setting.device)
        return scorer

    return make


MAKERS: dict[str, Callable[[str, Setting], Scorer]] = {
    "pocketsphinx": _pocketsphinx,
    "pocketsphinx-closed": _closed,
    "matching": _matching,
    "phones": _phones,
    "resemblyzer": _resemblyzer,
    "dnsmos": _dnsmos,
    "intrusive": _intrusive,
    "pitch": _pitch,
    "fsd-resemblyzer": _fsd_resemblyzer,
    "fsd-log-mel": _fsd_log_mel,
    "hubert": _pretrained("pretrained_words", "HubertWords"),
    "whisper": _pretrained("pretrained_words", "WhisperWords"),
    "wavlm": _pretrained("pretrained_voices", "WavLMSpeaker"),
    "unispeech": _pretrained("unispeech", "UniSpeechSpeaker"),
    "fsd-wav2vec2": _pretrained("pretrained_voices", "Wav2Vec2Vectors"),
}
