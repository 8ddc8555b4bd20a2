"""``python -m adapt.methods``: cost of every method on every backbone, or its accuracy on one small task.

Examples:
    python -m adapt.methods --base resnet50 mobilenet_v2 --method patch taps
    python -m adapt.methods --json > methods.json
    python -m adapt.methods --train omniglot.npz --weights resnet44-cifar.pth
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from adapt.bases.published import released_base
from adapt.core.base import IMAGENET, random_base
from adapt.core.method import get_method
from adapt.costs import omniglot, table
from adapt.training.files import to_json


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m adapt.methods", description="What every method costs on a base.")
    parser.add_argument("--method", nargs="+", default=[], help="only these methods")
    parser.add_argument("--base", nargs="+", default=[], help=f"only these of {', '.join(table.BACKBONES)}")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON array of all rows")
    form.add_argument("--markdown", action="store_true", help="the table of the docs")
    parser.add_argument("--train", metavar="NPZ", help="train each method on ten characters of this Omniglot file")
    parser.add_argument("--weights", metavar="FILE", help="released CIFAR ResNet-44 to train on; else it is random")
    return parser


def _lines(options: argparse.Namespace) -> Iterable[str]:
    for method in options.method:
        get_method(method)
    if options.train:
        base = released_base(options.weights, "resnet44", IMAGENET) if options.weights else random_base("resnet44")
        rows = omniglot.results(base, omniglot.read_omniglot(options.train), options.method)
        return [to_json(list(rows), indent=1)] if options.json else omniglot.as_markdown(rows)
    for base_name in options.base:
        table.check_backbone(base_name)
    costs = table.records(options.method, options.base)
    if options.json:
        return [to_json(list(costs), indent=1)]
    return table.as_markdown(list(costs)) if options.markdown else table.as_text(costs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code, 2 for a wrong name or file."""
    options = make_parser().parse_args(arguments)
    try:
        for line in _lines(options):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    except (ValueError, ImportError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
