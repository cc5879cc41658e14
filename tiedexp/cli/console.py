"""The console and the base of all views for commands that draw with rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import rich.console
from rich.segment import Segment

from tiedexp.terminal import clean_lines, find_terminal


class Console(rich.console.Console):
    """rich's console; control codes in the text are replaced, so that only rich's own reach the terminal."""

    def __init__(self, **options: Any):
        super().__init__(file=find_terminal(), **options)

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as rich does, and clean the text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=clean_lines(segment.text))


class TerminalView:
    """A view that may take over the terminal, and gives it back at the end of the `with` block, however that ends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Give the terminal back."""
