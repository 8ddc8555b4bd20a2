"""SQuAD 2.0: questions about texts, some without an answer, on BERT, as in Side-Tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from adapt.bases.package_index import bert_folder
from adapt.benchmarks.benchmark import Benchmark, BenchmarkConfig, Example, Published, Targets, TaskData, benchmarks
from adapt.core.base import Base
from adapt.datasets.squad import (
    Question,
    Windows,
    load_tokenizer,
    make_windows,
    questions,
    read_answers,
    read_articles,
)
from adapt.datasets.squad_score import evaluate
from adapt.encoders.bert import BertEncoder
from configs.settings import Count, Range, Whole

BERT_LARGE = "bert-large-uncased-whole-word-masking"
FILES = {"train": "train-v2.0.json", "test": "dev-v2.0.json"}


@dataclass(frozen=True)
class SquadConfig(BenchmarkConfig):
    """Settings.

    Attributes:
        tokenizer: of the base, by name or folder.
        length: tokens per window.
        stride: tokens from one window of a text to the next.
        every: train on every k-th article.
        paragraphs: train on the first N paragraphs of the first article only; 0: on all.
        test_every: test on every k-th article.
        holdout: where `data` is one file, every k-th article tests and the others train.
        threshold: "no answer" must be better than the best answer by more than this.
    """

    tokenizer: str = ""
    length: int = 384
    stride: Count = 128
    every: Count = 1
    paragraphs: Whole = 0
    test_every: Count = 1
    holdout: Annotated[int, Range(2)] = 4
    threshold: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        self.require(bool(self.tokenizer), "tokenizer", "the name or folder of a BERT")


class SquadExamples(Dataset[Example]):
    """Tokens (3,L) of each window, and where its answer is: `start` and `end` (tokens), `window` (its index)."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        start, end = self.windows.spans[index]
        numbers = {"start": start, "end": end, "window": index}
        tokens = torch.from_numpy(self.windows.tokens(index))
        return tokens, {name: torch.tensor(int(number)) for name, number in numbers.items()}


class SquadMetric:
    """Exact match and F1 of the answers read from all windows' scores, as by the official script."""

    def __init__(self, windows: Windows, threshold: float) -> None:
        self.windows, self.threshold = windows, threshold
        self._scores: list[NDArray[np.float32]] = []
        self._scored: list[int] = []

    def update(self, outputs: Tensor, targets: Targets) -> None:
        """Take in scores (B,L,2) of windows, which `targets["window"]` names."""
        assert isinstance(targets, Mapping)
        self._scores.append(outputs.float().cpu().numpy())
        self._scored += targets["window"].tolist()

    def compute(self) -> dict[str, float]:
        """The official numbers as fractions; `best_...` are over all thresholds, chosen on these very questions."""
        tokens = np.concatenate(self._scores)
        # Best answers to all questions, for the best threshold may be above ours; `evaluate` applies ours.
        answers, odds = read_answers(self.windows, tokens[..., 0], tokens[..., 1], np.inf, self._scored)
        gold = {question.id: question.answers for question in self.windows.questions if question.id in answers}
        scores = evaluate(gold, answers, odds, self.threshold)
        shares = {name: value / 100 for name, value in scores.items() if not name.endswith(("total", "thresh"))}
        return {**shares, **{name: value for name, value in scores.items() if name not in shares}}


def span_loss(outputs: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    """Mean of the cross-entropies of first and last token, of scores (B,L,2); `[CLS]` stands for no answer."""
    first, last = outputs.unbind(2)
    return (F.cross_entropy(first, targets["start"]) + F.cross_entropy(last, targets["end"])) / 2


class SpanReadout(nn.Linear):
    """Scores (B,L,2) of each token to be first and last of the answer, from vectors of tokens (B,C,1,L)."""

    def forward(self, features: Tensor) -> Tensor:
        """Score the tokens."""
        return super().forward(features[:, :, 0].transpose(1, 2))


@benchmarks.register("squad")
class Squad(Benchmark):
    """One task, `squad`."""

    Config = SquadConfig
    config: SquadConfig
    layout = """
<folder>/
  train-v2.0.json                      (or .json.gz)
  dev-v2.0.json
or one file in the same format, of which every 4th article tests (benchmark.holdout)
get it: https://rajpurkar.github.io/SQuAD-explorer
"""
    published: ClassVar[Sequence[Published]] = tuple(
        Published(
            "Side-Tuning, Table 3b",
            method,
            {"exact": exact, "f1": f1},
            "bert",
            settings={"base.model": BERT_LARGE, "benchmark.every": 1, "benchmark.paragraphs": 0},
        )
        for method, exact, f1 in (
            ("fine_tune", 0.790, 0.822),
            ("features", 0.494, 0.495),
            ("scratch", 0.0098, 0.0465),
            ("side_tuning", 0.796, 0.827),
        )
    )

    def __init__(self, config: SquadConfig) -> None:
        super().__init__(config)
        # "Images" of this benchmark are L tokens wide.
        self.image_size = config.length

    def tasks(self, data: Path) -> Sequence[TaskData]:
        """The one task."""
        config = self.config
        if data.is_file():
            articles = read_articles(data)
            test = articles[:: config.holdout]
            train = [article for place, article in enumerate(articles) if place % config.holdout]
        else:
            train, test = (read_articles(self._file(data, name)) for name in FILES.values())
        train, test = train[:: config.every], test[:: config.test_every]
        learned = questions(train[:1], config.paragraphs) if config.paragraphs else questions(train)
        windows = self._windows(learned, data), self._windows(questions(test), data)
        return [
            TaskData(
                name="squad",
                train=SquadExamples(windows[0]),
                test=SquadExamples(windows[1]),
                outputs=2,
                loss=span_loss,
                metric=lambda: SquadMetric(windows[1], config.threshold),
                score="f1",
                kind="span",
                # No identity: the features of all tokens would be too many to keep.
            )
        ]

    def _file(self, data: Path, name: str) -> Path:
        files = [path for path in (data / name, data / f"{name}.gz") if path.is_file()]
        if not files:
            raise self.absent(data, f"has no {name}" if data.is_dir() else "is absent")
        return files[0]

    def _windows(self, asked: Sequence[Question], data: Path) -> Windows:
        if not asked:
            raise self.absent(data, "holds no question to train on or none to test on")
        return make_windows(
            asked, load_tokenizer(bert_folder(self.config.tokenizer)), self.config.length, self.config.stride
        )

    def prepare(self, base: Base) -> Base:
        """The base as it is, checked to be a BERT that knows all tokens.

        Raises:
            ValueError: it is none, or has fewer words or positions than the questions.
        """
        if not isinstance(base.encoder, BertEncoder):
            raise ValueError("squad asks a BERT; choose base=bert")
        settings = base.encoder.settings()
        size = load_tokenizer(bert_folder(self.config.tokenizer)).get_vocab_size()
        for setting, needed in (("vocab_size", size), ("max_position_embeddings", self.config.length)):
            if settings[setting] < needed:
                raise ValueError(f"this BERT has {setting} {settings[setting]}, and {needed} are needed")
        return base

    def readout(self, shape: tuple[int, ...], task: TaskData) -> nn.Module:
        """One linear layer per token."""
        return SpanReadout(shape[0], task.outputs)
