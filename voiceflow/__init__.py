"""voiceflow: speech filled in, edited and spoken by flow matching, given text and audio.

The public names load on first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voiceflow.audio.features import FeatureSpec
    from voiceflow.voice import Voice

__version__ = "0.1.0"
__all__ = ["FeatureSpec", "Voice", "__version__"]

_PUBLIC = {"FeatureSpec": "voiceflow.audio.features", "Voice": "voiceflow.voice"}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
