"""The errors a user can cause: each carries one line that says what is wrong and what to do."""

from __future__ import annotations


class LicError(Exception):
    """A fault of the input, not of the program. Commands print its text and exit with 2."""


class BitstreamError(LicError):
    """The bytes are not a whole, unaltered stream of these weights."""


class DataError(LicError):
    """An image, a folder or a dataset is missing, empty or unreadable."""


class ModelError(LicError):
    """A run directory, checkpoint or model export is missing, incomplete or of another model."""


class SettingError(LicError):
    """A setting has a wrong type or is out of its range."""


class TrainingError(LicError):
    """Training cannot go on, e.g. a loss that is not finite."""
