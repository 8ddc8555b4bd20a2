"""The command ``sidestep``: every ``python -m`` command of the project by one word or two, and their shell completion.

``sidestep train`` is ``python -m agents.train``, ``sidestep adapt compare`` is ``python -m adapt.compare``. Nothing is
imported before it is known which command is meant.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.metadata import version

from configs.names import nearest

# By the words that choose it: the module that is run, and what it does.
CONSOLE = {
    "train": ("agents.train", "train an agent"),
    "evaluate": ("agents.evaluate", "play every held-out episode once, write records and a report"),
    "report": ("agents.report", "write the report of a run, or one page over many runs"),
    "compare": ("agents.compare", "set evaluated agents beside each other, runs that differ in seeds in one row"),
    "study": ("agents.study", "train and judge the agents of a navigation table, one after another"),
    "collect": ("agents.collect", "record expert trajectories for behaviour cloning"),
    "doctor": ("agents.doctor", "say what is installed, what is missing and how to get it"),
    "bench": ("agents.bench", "measure how fast things are on this machine"),
    "adapt train": ("adapt.train", "train the tasks of a supervised benchmark on one frozen base"),
    "adapt compare": ("adapt.compare", "set supervised runs beside each other and the published numbers"),
    "adapt methods": ("adapt.methods", "say what every method costs on every backbone"),
    "adapt layers": ("adapt.layers", "draw which layers a method changed for which task"),
    "adapt compress": ("adapt.compress", "make the adapters of a run low-rank"),
    "adapt cascade": ("adapt.cascade", "classify at low resolution first, and go on only where that is unsure"),
    "adapt export": ("adapt.export", "write the network of a run as a base for others"),
    "adapt pretrain": ("adapt.pretrain", "train encoders on rendered or real Taskonomy data"),
    "adapt distill": ("adapt.distill", "train a smaller encoder to do what another does"),
    "adapt readouts": ("adapt.readouts", "train decoders for an encoder that stays as it is"),
    "adapt evaluate": ("adapt.evaluate", "score encoders with their decoders on a dataset"),
    "adapt transfer_matrix": ("adapt.transfer_matrix", "measure what one encoder tells about another's task"),
    "envs render": ("envs.render", "render a dataset in Taskonomy's layout"),
    "envs stream": ("envs.stream", "render views while encoders train on them"),
    "envs navmesh": ("envs.navmesh", "write a navigation mesh of a scan for habitat-sim"),
    "envs contact_sheets": ("envs.contact_sheets", "draw sheets of pictures and their labels"),
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
        said = (
            f"{first} has no command {second!r}{nearest(second, known)}" if second else f"{first} needs a second word"
        )
        raise ValueError(f"{said}; choose from {', '.join(known)}")
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
