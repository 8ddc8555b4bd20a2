"""The measures of SQuAD 2.0: exact match and F1 of answers, with and without a threshold for "no answer".

The same definitions as the official script (evaluate-v2.0.py, worksheets.codalab.org), as plain functions.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """Lower case, then without ASCII punctuation, then without articles, then single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(gold: str, prediction: str) -> float:
    """1 if the two are equal once normalised, else 0."""
    return float(normalise(gold) == normalise(prediction))


def f1(gold: str, prediction: str) -> float:
    """Harmonic mean of precision and recall of the normalised words, counted as often as they occur.

    If either has no words, 1 if both have none, else 0.
    """
    wanted, given = normalise(gold).split(), normalise(prediction).split()
    if not wanted or not given:
        return float(wanted == given)
    common = sum((Counter(wanted) & Counter(given)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def gold_answers(answers: Sequence[str]) -> list[str]:
    """The answers that count: those not empty once normalised; the empty answer if there are none."""
    return [answer for answer in answers if normalise(answer)] or [""]


def evaluate(
    answers: Mapping[str, Sequence[str]],
    predictions: Mapping[str, str],
    no_answer: Mapping[str, float] | None = None,
    threshold: float = 1.0,
) -> dict[str, float]:
    """Score predictions as the official script does.

    Args:
        answers: the annotators' answers to each question; none for an impossible one.
        predictions: the predicted answer to each question, empty for "no answer". Questions that are missing here
            do not count, as in the script.
        no_answer: how sure the prediction "no answer" is for each question; also asks for the best thresholds.
        threshold: a question whose `no_answer` is greater counts as answered by "no answer".

    Returns:
        `exact` and `f1` in percent and `total`; the same with the prefixes `HasAns_` and `NoAns_` for the questions
        with and without an answer, where there are any; with `no_answer` also `best_exact`, `best_f1` and the
        thresholds `best_exact_thresh` and `best_f1_thresh` that give them.

    Raises:
        ValueError: no question has a prediction.
    """
    asked = [question for question in answers if question in predictions]
    if not asked:
        raise ValueError("none of the questions has a prediction; are these predictions for other questions?")
    raw = {
        name: {q: max(measure(gold, predictions[q]) for gold in gold_answers(answers[q])) for q in asked}
        for name, measure in (("exact", exact_match), ("f1", f1))
    }
    # The script looks at the answers themselves here, not at what normalising leaves of them.
    answerable = {q: bool(answers[q]) for q in answers}
    sure = no_answer or {q: 0.0 for q in asked}
    result: dict[str, float] = {}
    for prefix, chosen in (("", asked), *_parts(asked, answerable)):
        for name, scores in raw.items():
            values = [scores[q] if sure[q] <= threshold else float(not answerable[q]) for q in chosen]
            result[f"{prefix}{name}"] = 100.0 * sum(values) / len(chosen)
        result[f"{prefix}total"] = len(chosen)
    if no_answer is not None:
        for name, scores in raw.items():
            best = best_threshold(scores, predictions, no_answer, answerable)
            result[f"best_{name}"], result[f"best_{name}_thresh"] = best
    return result


def _parts(asked: list[str], answerable: Mapping[str, bool]) -> list[tuple[str, list[str]]]:
    parts = [("HasAns_", [q for q in asked if answerable[q]]), ("NoAns_", [q for q in asked if not answerable[q]])]
    return [(prefix, questions) for prefix, questions in parts if questions]


def best_threshold(
    scores: Mapping[str, float],
    predictions: Mapping[str, str],
    no_answer: Mapping[str, float],
    answerable: Mapping[str, bool],
) -> tuple[float, float]:
    """The threshold on `no_answer` with the highest score, and that score.

    Start from "no answer" to every question and take the predictions one by one, the surest first: an answerable
    question adds its score, an impossible one with a predicted answer takes away 1.

    Args:
        scores: exact match or F1 of each question's prediction.
        predictions: the predictions.
        no_answer: how sure "no answer" is.
        answerable: whether the question has an answer; also of questions that have no score, which count as the
            script counts them: at the start, but not in the total.

    Returns:
        The score in percent and the threshold.
    """
    current = float(sum(not has for has in answerable.values()))
    best, threshold = current, 0.0
    for question in sorted(no_answer, key=lambda q: no_answer[q]):
        if question not in scores:
            continue
        if answerable[question]:
            current += scores[question]
        elif predictions[question]:
            current -= 1.0
        if current > best:
            best, threshold = current, no_answer[question]
    return 100.0 * best / len(scores), threshold
