"""SQuAD 2.0 for BERT: questions with their texts as windows of tokens, and answers read back from token scores.

As in BERT's own script (github.com/google-research/bert, run_squad.py): ``[CLS] question [SEP] text [SEP]``, long texts
in overlapping windows, the answer as first and last token, the position of ``[CLS]`` where a window holds no answer.
"""

from __future__ import annotations

import gzip
import json
import reprlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from configs.files import mistaken

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MISSING = "benchmark squad needs the packages transformers and tokenizers: pip install -e '.[nlp]'"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
QUESTION_TOKENS = 64
ANSWER_TOKENS = 30
CANDIDATES = 20


@dataclass(frozen=True)
class Question:
    """A question about a text.

    Attributes:
        id: its name in the file.
        text: the question.
        context: the text that it is about.
        answers: the annotators' answers; empty if it has none.
        starts: where in `context` each answer begins, characters.
    """

    id: str
    text: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]


def read_articles(path: Path) -> list[dict[str, Any]]:
    """The articles of a SQuAD 2.0 file, `.json` or `.json.gz`.

    Raises:
        ValueError: the file is something else; the message names it.
    """
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            content = json.load(file)
        articles: list[dict[str, Any]] = content["data"]
        for question in questions(articles):
            _check_question(question)
        return articles
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError, zlib.error) as error:
        reason = mistaken(path) or f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is no SQuAD 2.0 file ({reason})") from error
    except gzip.BadGzipFile as error:
        raise ValueError(f"{path} is no SQuAD 2.0 file ({mistaken(path) or error})") from error


def _check_question(question: Question) -> None:
    """Raise TypeError or ValueError where a question holds other than texts, and places in its context."""
    if not all(isinstance(text, str) for text in (question.text, question.context, *question.answers)):
        raise TypeError(f"question {question.id[:40]} holds something else than text")
    for start in question.starts:
        if not isinstance(start, int) or not 0 <= start <= len(question.context):
            raise ValueError(f"question {question.id[:40]} has an answer that starts at {reprlib.repr(start)}")


def questions(articles: Iterable[dict[str, Any]], paragraphs: int | None = None) -> list[Question]:
    """The questions of some articles, of their first `paragraphs` paragraphs only if given."""
    return [
        Question(
            id=str(qa["id"]),
            text=qa["question"],
            context=paragraph["context"],
            answers=tuple(answer["text"] for answer in qa["answers"]),
            starts=tuple(answer["answer_start"] for answer in qa["answers"]),
        )
        for article in articles
        for paragraph in article["paragraphs"][:paragraphs]
        for qa in paragraph["qas"]
    ]


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """A lower-casing WordPiece tokenizer as BERT's, learned from texts; for BERTs that have none of their own.

    Args:
        texts: what to learn from.
        size: entries of its vocabulary, with the five special ones, which come first.
    """
    try:
        from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
    except ImportError as error:
        raise ImportError(MISSING) from error
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(
        iter(texts), vocab_size=size, min_frequency=1, special_tokens=list(SPECIAL), show_progress=False
    )
    inner: Tokenizer = tokenizer._tokenizer
    return inner


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a BERT, by a folder that holds `tokenizer.json`, or by name for `AutoTokenizer`."""
    try:
        from tokenizers import Tokenizer
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ImportError(MISSING) from error
    file = Path(name) / "tokenizer.json"
    inner: Tokenizer = (
        Tokenizer.from_file(str(file)) if file.is_file() else AutoTokenizer.from_pretrained(name).backend_tokenizer
    )
    # Windows are cut and padded here.
    inner.no_padding()
    inner.no_truncation()
    return inner


@dataclass
class Windows:
    """Questions as windows of L tokens, N in all.

    Attributes:
        questions: the questions.
        length: L.
        ids: (N,L) int32 tokens, padded.
        lengths: (N,2) int32: tokens of `[CLS] question [SEP]`, and of all but the padding.
        spans: (N,2) int32 first and last token of the first answer; 0, 0 if the window has none.
        offsets: (N,L,2) int32 characters of the text that each token stands for; 0, 0 outside of the text.
        owner: (N,) int32 index of the question.
        best: (N,L) bool: no other window of the question has more text around the token.
    """

    questions: Sequence[Question]
    length: int
    ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    spans: NDArray[np.int32]
    offsets: NDArray[np.int32]
    owner: NDArray[np.int32]
    best: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.ids)

    def tokens(self, index: int) -> NDArray[np.int64]:
        """One window as `adapt.encoders.bert` takes it: ids, attention mask and token types, int64 (3,L)."""
        place = np.arange(self.length)
        question, used = self.lengths[index]
        return np.stack([self.ids[index], place < used, (place >= question) & (place < used)]).astype(np.int64)


@dataclass
class _Builder:
    """Collects windows."""

    length: int
    stride: int
    cls: int
    sep: int
    rows: dict[str, list[Any]] = field(
        default_factory=lambda: {k: [] for k in ("ids", "lengths", "spans", "offsets", "owner", "best")}
    )

    def add(
        self, owner: int, head: list[int], ids: NDArray[np.int32], offsets: NDArray[np.int32], answer: tuple[int, int]
    ) -> None:
        """All windows of one question; `answer` is first and last token of the text, -1, -1 for none."""
        prefix = [self.cls, *head, self.sep]
        room = self.length - len(prefix) - 1
        starts = [0]
        while starts[-1] + room < len(ids):
            starts.append(starts[-1] + min(self.stride, room))
        ends = [min(start + room, len(ids)) for start in starts]
        context = _most_context(starts, ends, len(ids))
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            row = np.zeros(self.length, np.int32)
            places = np.zeros((self.length, 2), np.int32)
            best = np.zeros(self.length, bool)
            text = slice(len(prefix), len(prefix) + end - start)
            row[: len(prefix)] = prefix
            row[text], row[text.stop] = ids[start:end], self.sep
            places[text], best[text] = offsets[start:end], context[start:end] == number
            inside = start <= answer[0] and answer[1] < end
            span = [place - start + len(prefix) for place in answer] if inside and answer[0] >= 0 else [0, 0]
            values = (row, (len(prefix), text.stop + 1), span, places, owner, best)
            for key, value in zip(self.rows, values, strict=True):
                self.rows[key].append(value)


def _most_context(starts: list[int], ends: list[int], count: int) -> NDArray[np.int64]:
    """For each token of a text the window with the most text around it, as BERT's script scores that."""
    place = np.arange(count)
    scores = np.full((len(starts), count), -np.inf)
    for row, start, end in zip(scores, starts, ends, strict=True):
        inside = slice(start, end)
        around = np.minimum(place[inside] - start, end - 1 - place[inside])
        row[inside] = around + 0.01 * (end - start)
    return scores.argmax(0)


def make_windows(asked: Sequence[Question], tokenizer: Tokenizer, length: int = 384, stride: int = 128) -> Windows:
    """Tokenize questions and texts.

    Args:
        asked: the questions; those with the same text should follow each other.
        tokenizer: its vocabulary holds `[CLS]` and `[SEP]`; 0 pads.
        length: tokens per window, L.
        stride: tokens from the start of one window to that of the next.

    Raises:
        ValueError: L is too small for a question and some text, or the tokenizer lacks a special token.
    """
    cls, sep = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    if cls is None or sep is None:
        raise ValueError("the tokenizer has no [CLS] or [SEP]; take one that was made for BERT")
    if length < QUESTION_TOKENS // 4 + 4 or stride < 1:
        raise ValueError(f"length must be at least {QUESTION_TOKENS // 4 + 4} and stride positive")
    builder = _Builder(length, stride, cls, sep)
    known, ids, offsets = None, np.zeros(0, np.int32), np.zeros((0, 2), np.int32)
    longest = min(QUESTION_TOKENS, length // 2)
    for owner, question in enumerate(asked):
        if question.context != known:
            known, encoded = question.context, tokenizer.encode(question.context, add_special_tokens=False)
            ids = np.array(encoded.ids, np.int32)
            offsets = np.array(encoded.offsets, np.int32).reshape(-1, 2)
        head = tokenizer.encode(question.text, add_special_tokens=False).ids[:longest]
        builder.add(owner, head, ids, offsets, answer_tokens(question, offsets))
    rows = builder.rows
    return Windows(
        questions=asked,
        length=length,
        ids=np.array(rows["ids"], np.int32).reshape(-1, length),
        lengths=np.array(rows["lengths"], np.int32).reshape(-1, 2),
        spans=np.array(rows["spans"], np.int32).reshape(-1, 2),
        offsets=np.array(rows["offsets"], np.int32).reshape(-1, length, 2),
        owner=np.array(rows["owner"], np.int32),
        best=np.array(rows["best"], bool).reshape(-1, length),
    )


def answer_tokens(question: Question, offsets: NDArray[np.int32]) -> tuple[int, int]:
    """First and last token of the text that overlap with the first answer; -1, -1 if there is no answer."""
    if not question.answers or not question.answers[0]:
        return -1, -1
    start = question.starts[0]
    touched = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < start + len(question.answers[0])))
    return (int(touched[0]), int(touched[-1])) if len(touched) else (-1, -1)


def read_answers(
    windows: Windows,
    first: NDArray[np.float32],
    last: NDArray[np.float32],
    threshold: float = 0.0,
    scored: Sequence[int] | None = None,
) -> tuple[dict[str, str], dict[str, float]]:
    """Answers from scores, as BERT's script reads them.

    The best span of text of any window, at most 30 tokens long, out of the 20 best first and last tokens, where the
    first token has its most context in that window, against the score of no span, that of `[CLS]`, in the window where
    it is the lowest.

    Args:
        windows: the windows.
        first: (N,L) scores for being the first token of the answer.
        last: (N,L) for being the last.
        threshold: "no answer" must be better by more than this.
        scored: which N windows the scores are of; all by default.

    Returns:
        The answer to each question, empty for "no answer", and how much better "no answer" is.
    """
    best: dict[int, tuple[float, str]] = {}
    nothing: dict[int, float] = {}
    for row, index in enumerate(range(len(windows)) if scored is None else scored):
        owner = int(windows.owner[index])
        score, text = _best_span(windows, index, first[row], last[row])
        best[owner] = max(best.get(owner, (-np.inf, "")), (score, text), key=lambda pair: pair[0])
        nothing[owner] = min(nothing.get(owner, np.inf), float(first[row, 0] + last[row, 0]))
    answers, odds = {}, {}
    for owner, (score, text) in best.items():
        question = windows.questions[owner].id
        # Where no span is allowed "no answer" is certain; the odds stay finite, so that JSON can hold them.
        odds[question] = float(np.clip(nothing[owner] - score, -1e6, 1e6))
        answers[question] = "" if odds[question] > threshold else text
    return answers, odds


def _best_span(
    windows: Windows, index: int, first: NDArray[np.float32], last: NDArray[np.float32]
) -> tuple[float, str]:
    begin, used = windows.lengths[index]
    text = np.arange(begin, used - 1)
    starts = text[np.argsort(-first[text], kind="stable")[:CANDIDATES]]
    starts = starts[windows.best[index, starts]]
    ends = text[np.argsort(-last[text], kind="stable")[:CANDIDATES]]
    if not len(starts) or not len(ends):
        return -np.inf, ""
    length = ends[None] - starts[:, None]
    scores = np.where((length >= 0) & (length < ANSWER_TOKENS), first[starts][:, None] + last[ends][None], -np.inf)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    if scores[row, column] == -np.inf:
        return -np.inf, ""
    characters = windows.offsets[index]
    context = windows.questions[int(windows.owner[index])].context
    return float(scores[row, column]), context[characters[starts[row], 0] : characters[ends[column], 1]]
