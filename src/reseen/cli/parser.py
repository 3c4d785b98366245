"""argparse as the command line speaks: one line, and the nearest name."""

from __future__ import annotations

import argparse
import difflib
import itertools
from collections.abc import Iterable
from typing import Any, NoReturn

from reseen.errors import ReseenError


class Parser(argparse.ArgumentParser):
    """argparse that answers in one line and names the nearest option, command or choice."""

    def error(self, message: str) -> NoReturn:
        raise ReseenError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Options are looked at first: a mistyped one says more than the required one that is then missing."""
        own = itertools.takewhile(lambda word: word != "--", args)
        if self._subparsers is not None:  # behind the command's name, words are the command's
            own = itertools.takewhile(lambda word: word.startswith("-"), own)
        for word in own:
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                raise self._unknown("option", name, self._option_string_actions)
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise self._unknown(str(action.metavar or action.option_strings[0]), value, action.choices)

    def _unknown(self, what: str, word: str, known: Iterable[str]) -> ReseenError:
        near = difflib.get_close_matches(word, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
        return ReseenError(f"unknown {what.lower()} {word}: {hint}")


def add_command(commands: Any, name: str, text: str) -> Parser:
    parser: Parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    return parser


def add_patterns(parser: Parser) -> None:
    text = "where file names hold the camera, e.g. 'cam(\\d+)' (folders of images)"
    parser.add_argument("--camera-pattern", metavar="REGEX", help=text)
    text = "where file names hold the person, e.g. '^([^/]+)/' for a folder per person (folders of images)"
    parser.add_argument("--identity-pattern", metavar="REGEX", help=text)


def add_settings(parser: Parser, text: str) -> None:
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE", help=text)
