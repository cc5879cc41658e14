"""The console of every command that draws with rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.segment import Segment

from tiedexp.terminal import clean_lines, find_terminal


class Console(rich.console.Console):
    """rich's console, in which only rich's own control codes reach the terminal, none that the text holds."""

    def __init__(self, **options: Any):
        super().__init__(file=find_terminal(), **options)

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich's, cleaned."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=clean_lines(segment.text))
