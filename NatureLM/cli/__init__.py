"""The command line: a literal table of subcommands, one file each.

A subcommand's module offers ``add_arguments(parser)`` and ``run(args) -> exit code``; it is imported only when asked for, so
that ``naturelm --help`` stays instant. Exit codes: 0 done, 2 refused, 3 finished but some recordings were unreadable,
4 the results could not be stored, 130 stopped by the user, 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

from NatureLM import __version__
from NatureLM.errors import NatureLMError, StoreError

COMMANDS: dict[str, tuple[str, str]] = {
    "ask": ("NatureLM.cli.ask", "ask recordings a question and print the answer per window"),
    "infer": ("NatureLM.cli.infer", "the published command: a YAML file, recordings, JSON lines"),
    "train": ("NatureLM.cli.train", "run one stage of a training by its recipe"),
    "models": ("NatureLM.cli.models", "list, fetch and check models"),
    "doctor": ("NatureLM.cli.doctor", "what this machine has, what is missing and how to get it"),
    "demo": ("NatureLM.cli.demo", "ask a real recording a question, from nothing"),
    "serve": ("NatureLM.cli.serve", "answer other programs over HTTP"),
    "evaluate": ("NatureLM.cli.evaluate", "score predictions, compare runs, run benchmarks"),
}
"""Subcommand -> (module, one line of help)."""

REFUSED, UNREADABLE, NOT_STORED, STOPPED, UNREAD = 2, 3, 4, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code.

    Args:
        argv: Arguments without the program's name; ``sys.argv[1:]`` when left out.
    """
    # Threads that wait for work by spinning take the cores from each other on a machine that does anything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    parser = _parser(chosen)
    args, more = parser.parse_known_args(arguments)
    if more and not _taken(args, more):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if args.command is None:
        _parser(None).print_help()
        return REFUSED
    return _run(args)


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="naturelm", description="Ask a recording a question in plain language."
    )
    parser.add_argument("--version", action="version", version=f"naturelm {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name == chosen:
            importlib.import_module(module).add_arguments(command)
    return parser


def _taken(args: argparse.Namespace, more: list[str]) -> bool:
    """Take recordings that stand behind an option, which argparse leaves over, along with those before it."""
    if not hasattr(args, "recordings") or any(word.startswith("-") for word in more):
        return False
    args.recordings += more
    return True


def _run(args: argparse.Namespace) -> int:
    module = importlib.import_module(COMMANDS[args.command][0])
    try:
        code: int = module.run(args)
    except NatureLMError as error:
        if args.debug:
            raise
        _say(str(error))
        return NOT_STORED if isinstance(error, StoreError) else REFUSED
    except KeyboardInterrupt:
        print("naturelm: stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        _forget_standard_output()
        return UNREAD
    return code


def _say(text: str) -> None:
    from NatureLM.cli.progress import visible

    print("naturelm: " + "\n".join(map(visible, text.split("\n"))), file=sys.stderr)


def _forget_standard_output() -> None:
    """Keep the interpreter from complaining, on its way out, about a pipe that nobody reads."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
