"""The command line: one module per command, wiring only.

This module collects the commands and turns errors into messages and exit codes. `options` holds the options that
several commands share; `train` is a good command to read first.
"""

from __future__ import annotations

import os
import sys

import typer

from tiedexp import __version__
from tiedexp.cli import (
    bench,
    board,
    compare,
    data,
    diff,
    doctor,
    evaluate,
    extend,
    init,
    pattern,
    reproduce,
    runs,
    schema,
    sweep,
    train,
    validate,
)
from tiedexp.cli.options import GridCommand, RunCommand
from tiedexp.errors import TiedexpError, explain_os_error
from tiedexp.signals import Interrupted, interrupt_on_signals
from tiedexp.terminal import clean_output

app = typer.Typer(
    name="tiedexp",
    help="Run experiments with convolution kernels whose cells share weights according to a pattern.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: importing rich takes longer than everything else that help needs
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("validate")(validate.validate)
app.command("train")(train.train)
app.command("sweep")(sweep.sweep)
app.command("eval", cls=RunCommand)(evaluate.evaluate)
app.command("extend", cls=RunCommand)(extend.extend)
app.command("reproduce", cls=RunCommand)(reproduce.reproduce)
app.command("compare")(compare.compare)
app.command("diff", cls=RunCommand)(diff.diff)
app.add_typer(runs.app, name="runs")
app.command("board")(board.board)
app.add_typer(pattern.app, name="pattern")
app.add_typer(data.app, name="data")
app.command("bench", cls=GridCommand)(bench.bench)
app.command("schema")(schema.schema)
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error, too."),
) -> None:
    pass


def main() -> None:
    """Run the command line; errors become one message on stderr and an exit code (see tiedexp.errors)."""
    # Set before TensorFlow is imported anywhere; its notices and warnings are not meant for our users.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with clean_output():
        try:
            with interrupt_on_signals():
                app()
        except (TiedexpError, Interrupted, KeyboardInterrupt, OSError, MemoryError) as error:
            if "--debug" in sys.argv:
                raise
            sys.exit(_report(error))


def _report(error: BaseException) -> int:
    if isinstance(error, BrokenPipeError):  # the reader of our output, e.g. `head`, has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, TiedexpError):
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, OSError):  # e.g. a full disk or a directory that is not writable
        print(f"error: {explain_os_error(error)}", file=sys.stderr)
        return 1
    if isinstance(error, MemoryError):
        print(f"error: out of memory{f': {error}' if str(error) else ''}", file=sys.stderr)
        return 1
    print("interrupted", file=sys.stderr)
    return 130
