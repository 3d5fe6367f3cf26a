"""The exception tree: what can go wrong, in the user's words.

    NatureLMError
    ├── RecordingError    (ValueError)    a recording that cannot be read, with a short code
    ├── WindowError       (ValueError)    window, hop or tail make no sense
    ├── PromptError       (ValueError)    a query or prompt that cannot be put to the model
    ├── ConfigError       (ValueError)    a knob that does not exist or has a wrong value
    ├── ManifestError     (ValueError)    a data row that cannot be used
    ├── CheckpointError   (RuntimeError)  weights that do not fit, are damaged or are not there
    ├── DownloadError     (ConnectionError) a part that could not be fetched
    ├── FormatError       (ValueError)    an output or annotation format that cannot be written or read
    ├── StoreError        (OSError)       results that could not be stored
    ├── DeviceError       (RuntimeError)  a device that is not there or has no room
    └── DependencyError   (ImportError)   an optional package that is not installed

A message says where, what was found, what was expected and what to do. The library raises; only the command line prints.
"""

from __future__ import annotations


class NatureLMError(Exception):
    """Base of every error that this package raises on purpose."""


class RecordingError(NatureLMError, ValueError):
    """A recording that cannot be read.

    Attributes:
        code: Short stable code for tables, such as ``not_audio`` or ``OE004 empty``.
    """

    def __init__(self, message: str, code: str = "unreadable") -> None:
        super().__init__(message)
        self.code = code


class WindowError(NatureLMError, ValueError):
    """Window, hop or tail make no sense."""


class PromptError(NatureLMError, ValueError):
    """A query or prompt that cannot be put to the model."""


class ConfigError(NatureLMError, ValueError):
    """A knob that does not exist or has a wrong value."""


class ManifestError(NatureLMError, ValueError):
    """A data row that cannot be used."""


class CheckpointError(NatureLMError, RuntimeError):
    """Weights that do not fit, are damaged or are not there."""


class DownloadError(NatureLMError, ConnectionError):
    """A part that could not be fetched."""


class FormatError(NatureLMError, ValueError):
    """An output or annotation format that cannot be written or read."""


class StoreError(NatureLMError, OSError):
    """Results that could not be stored."""


class DeviceError(NatureLMError, RuntimeError):
    """A device that is not there or has no room."""


class DependencyError(NatureLMError, ImportError):
    """An optional package that is not installed."""
