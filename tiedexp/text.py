"""Text for people, wherever it is shown."""

from __future__ import annotations


def shorten(text: str, length: int) -> str:
    """The text, with an ellipsis as its last character if it had to be cut to this length."""
    return text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"
