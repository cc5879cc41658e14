"""Shortening text."""

from __future__ import annotations


def shorten(text: str, length: int) -> str:
    """The text, cut to this length; if it was cut, its last character is an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"
