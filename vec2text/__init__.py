"""Turn any sentence vector back into text.

Importing the package imports no torch: the names below are loaded when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vec2text.config import EncoderConfig
    from vec2text.constraints import Constraints
    from vec2text.encoders import Encoder, load_encoder
    from vec2text.fingerprint import Fingerprint
    from vec2text.inverter import Inverter
    from vec2text.vectors import read_vectors

__version__ = "0.1.0"
__all__ = [
    "Constraints",
    "Encoder",
    "EncoderConfig",
    "Fingerprint",
    "Inverter",
    "__version__",
    "load_encoder",
    "read_vectors",
]

_ROOMS = {
    "Constraints": "constraints",
    "Encoder": "encoders",
    "EncoderConfig": "config",
    "Fingerprint": "fingerprint",
    "Inverter": "inverter",
    "load_encoder": "encoders",
    "read_vectors": "vectors",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'vec2text' has no attribute {name!r}")
    return getattr(import_module(f"vec2text.{_ROOMS[name]}"), name)
