"""The command ``sidestep``: every ``python -m`` command of the project by one word or two, and their shell completion.

``sidestep train`` is ``python -m agents.train``, ``sidestep adapt compare`` is ``python -m adapt.compare``. Nothing is
imported before it is known which command is meant.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.metadata import version

from configs.commands import COMMANDS
from configs.names import nearest

# By the words that choose it: the module that is run, and what it does.
CONSOLE = {
    module.removeprefix("agents.").replace(".", " "): (module, about)
    for module, about in (*COMMANDS.values(), ("adapt.methods", "say what every method costs on every backbone"))
}
COMPLETION = "completion"
SHELLS = ("bash", "zsh", "fish")
USAGE = "usage: sidestep COMMAND [key=value ...], sidestep COMMAND --help"


def overview() -> str:
    """All commands with what they do, as text."""
    width = max(map(len, CONSOLE))
    lines = [f"  {words:<{width}}  {about}" for words, (_, about) in CONSOLE.items()]
    completion = (
        f"  {COMPLETION:<{width}}  print what completes these words in {', '.join(SHELLS[:-1])} or {SHELLS[-1]}"
    )
    return "\n".join([USAGE, "", *lines, completion, "", "sidestep --version says which version this is."])


def split(words: Sequence[str]) -> tuple[str, list[str]]:
    """The command that words begin with, and the rest of them.

    Raises:
        ValueError: They name no command; the nearest is suggested.
    """
    first = words[0]
    families = {command.partition(" ")[0] for command in CONSOLE if " " in command}
    if first not in families:
        if first in CONSOLE:
            return first, list(words[1:])
        raise ValueError(f"there is no command {first!r}{nearest(first, [*CONSOLE, *families, COMPLETION])}")
    known = [command.partition(" ")[2] for command in CONSOLE if command.startswith(f"{first} ")]
    second = words[1] if len(words) > 1 else ""
    if second not in known:
        reason = (
            f"{first} has no command {second!r}{nearest(second, known)}" if second else f"{first} needs a second word"
        )
        raise ValueError(f"{reason}; choose from {', '.join(known)}")
    return f"{first} {second}", list(words[2:])


def main() -> None:
    """Run the command that the words name; exit code 2 and one line if there is none."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())  # noqa: T201 (the command's output)
        raise SystemExit(0 if words else 2)
    if words[0] == "--version":
        print(f"sidestep {version('sidestep')}")  # noqa: T201 (the command's output)
        return
    if words[0] == COMPLETION:
        _print_completion(words[1:])
        return
    try:
        command, rest = split(words)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from error
    sys.argv = [sys.argv[0], *rest]
    runpy.run_module(CONSOLE[command][0], run_name="__main__", alter_sys=True)


def _print_completion(words: Sequence[str]) -> None:
    if len(words) != 1 or words[0] not in SHELLS:
        hint = nearest(words[0], SHELLS) if words else ""
        sys.stderr.write(f"error: sidestep {COMPLETION} needs one of {', '.join(SHELLS)}{hint}\n")
        raise SystemExit(2)
    from configs.completion import script  # which imports all parts, to know their settings

    print(script(words[0]))  # noqa: T201 (the command's output)
