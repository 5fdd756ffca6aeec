"""What papers report on the same protocols, by other scorers: beside ours, never compared with."""

from __future__ import annotations

from typing import Any

from voiceflow.benchmark.protocols import CONTINUATION, CROSS, LISTED

_VOICEBOX = "Le et al. 2023, WER by HuBERT-L, SIM by WavLM-large"
_PC = "as collected by their authors: WER by Whisper or HuBERT, SIM by WavLM-large"
# task, system, WER %, SIM-o, SIM-r, source
_ROWS = (
    (CROSS, "ground truth", 2.2, 0.754, None, _VOICEBOX),
    (CROSS, "A3T", 63.3, 0.046, 0.146, _VOICEBOX),
    (CROSS, "YourTTS", 7.7, 0.337, None, _VOICEBOX),
    (CROSS, "VALL-E", 5.9, None, 0.580, _VOICEBOX),
    (CROSS, "Voicebox (330 M, 60 000 h)", 1.9, 0.662, 0.681, _VOICEBOX),
    (CONTINUATION, "ground truth", 2.2, 0.754, None, _VOICEBOX),
    (CONTINUATION, "A3T", 18.7, 0.058, 0.144, _VOICEBOX),
    (CONTINUATION, "VALL-E", 3.8, 0.452, 0.508, _VOICEBOX),
    (CONTINUATION, "Voicebox (330 M, 60 000 h)", 2.0, 0.593, 0.616, _VOICEBOX),
    ("denoise-50", "clean", 2.2, 0.687, None, _VOICEBOX),
    ("denoise-50", "noisy", 41.2, 0.287, None, _VOICEBOX),
    ("denoise-50", "Demucs", 32.5, 0.368, None, _VOICEBOX),
    ("denoise-50", "A3T", 11.5, 0.148, None, _VOICEBOX),
    ("denoise-50", "Voicebox (330 M, 60 000 h)", 2.0, 0.612, None, _VOICEBOX),
    (LISTED, "ground truth (Whisper)", 2.23, 0.69, None, _PC),
    (LISTED, "F5-TTS (336 M), 32 NFE", 2.42, 0.66, None, _PC),
    (LISTED, "F5-TTS (336 M), 16 NFE", 2.53, 0.66, None, _PC),
    (LISTED, "E2-TTS", 2.95, 0.69, None, _PC),
    (LISTED, "ZipVoice (123 M), 16 NFE", 1.64, 0.668, None, _PC),
    (LISTED, "ZipVoice distilled, 4 NFE", 1.51, 0.657, None, _PC),
)


def reported(tasks: set[str]) -> list[dict[str, Any]]:
    """The rows of some tasks, as results.json has them."""
    found = []
    for task, system, wer, sim_o, sim_r, source in _ROWS:
        if task not in tasks:
            continue
        figures: dict[str, Any] = {"WER": {"value": wer / 100, "unit": "%"}}
        for name, value in (("SIM-o", sim_o), ("SIM-r", sim_r)):
            if value is not None:
                figures[name] = {"value": value, "unit": ""}
        found.append({"task": task, "system": system, "figures": figures, "source": source,
                      "note": "as reported, other scorers"})  # fmt: skip
    return found
