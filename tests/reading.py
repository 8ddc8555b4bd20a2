"""Forty questions about eight paragraphs, written for the tests as a file of SQuAD 2.0, and answers to questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adapt.datasets.squad import Question, Windows, questions, read_articles, train_tokenizer
from adapt.encoders.bert import write_bert

# Four articles of two paragraphs with five questions each, of which two have no answer.
FILE = Path(__file__).parent / "data" / "reading.json"


def predictions(asked: list[Question]) -> tuple[dict[str, str], dict[str, float]]:
    """Right, half right and wrong answers to questions in turn, and how improbable it is that there is one."""

    def predict(place: int, question: Question) -> str:
        first = question.answers[0] if question.answers else question.context.split(".")[0]
        shorter, longer = " ".join(first.split()[:2]), f"{first} of an {question.text.split()[0]}"
        return [first, f"The {first.upper()}!", "", shorter, longer, "the", question.context[:40]][place % 7]

    def doubt(place: int, question: Question) -> float:
        return (place * 37 % 101) / (400 if question.answers and place % 7 < 2 else 100)

    given = {question.id: predict(place, question) for place, question in enumerate(asked)}
    return given, {question.id: doubt(place, question) for place, question in enumerate(asked)}


def perfect_scores(windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Scores of windows (N,L) for being the first and the last token of the answer that are the highest for it."""
    first, last = np.zeros((2, *windows.ids.shape), np.float32)
    rows = np.arange(len(windows))
    first[rows, windows.spans[:, 0]] = last[rows, windows.spans[:, 1]] = 5
    return first, last


def tiny_bert(folder: Path, path: Path, **settings: int) -> Path:
    """Write a BERT of one layer, unless settings say more, and a tokenizer of a SQuAD file's texts."""
    asked = questions(read_articles(path)[:2])
    tokenizer = train_tokenizer([question.context for question in asked], 500)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    write_bert(folder, tokenizer, **{**sizes, "max_position_embeddings": 64, **settings})
    return folder
