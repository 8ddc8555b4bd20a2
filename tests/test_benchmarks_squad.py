from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import reading
import torch
from extras import needs_nlp
from reading import perfect_scores, tiny_bert
from supervised_runs import run

from adapt.benchmarks.squad import Squad, SquadConfig, SquadExamples
from adapt.core.base import load_base
from adapt.datasets.layout import LayoutError
from adapt.datasets.squad import (
    Question,
    Windows,
    answer_tokens,
    make_windows,
    questions,
    read_answers,
    read_articles,
    train_tokenizer,
)
from adapt.datasets.squad_score import best_threshold, evaluate, exact_match, f1, normalise

CONTEXT = "The Normans (Norman: Nourmands) gave their name to Normandy, a region in France, in the 10th century."


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Normans!", "normans"),
        ("a-b", "ab"),  # punctuation goes without a space
        ("an apple, a pear", "apple pear"),
        ("Athena", "athena"),  # articles are whole words
        ("l’École", "l’école"),  # only ASCII punctuation goes
        ("the", ""),
        ("U.S.", "us"),
        ("\ttwo\nlines ", "two lines"),
    ],
)
def test_answers_are_normalised(text: str, normal: str) -> None:
    assert normalise(text) == normal


def test_exact_match_and_f1_in_closed_form() -> None:
    assert exact_match("The Normans", "normans.") == 1
    assert exact_match("Normans", "Norman") == 0
    # Two of the three given words are among the four wanted: P = 2/3, R = 1/2.
    assert f1("one two three four", "one two five") == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    # A word given twice is right only as often as it is wanted: P = 1/2, R = 1.
    assert f1("one", "one one") == pytest.approx(2 / 3)
    assert f1("", "") == 1
    assert f1("the", "") == 1
    assert f1("", "one") == 0
    assert f1("one", "") == 0


def test_evaluation_by_hand() -> None:
    answers = {"a": ["10th century", "the 10th"], "b": [], "c": ["France"], "d": [], "e": ["the"]}
    predictions = {"a": "10th", "b": "", "c": "", "d": "France", "e": ""}
    scores = evaluate(answers, predictions)
    # a: equal to the second answer; b: rightly none; c, d: wrong; e: an answer that normalises to nothing counts as
    # none, and is still a question with an answer.
    assert scores["exact"] == scores["f1"] == pytest.approx(100 * 3 / 5)
    assert (scores["HasAns_total"], scores["NoAns_total"], scores["total"]) == (3, 2, 5)
    assert scores["HasAns_exact"] == pytest.approx(200 / 3)
    assert scores["NoAns_exact"] == pytest.approx(50)
    odds = {"a": 0.1, "b": 0.9, "c": 0.8, "d": 0.7, "e": 0.2}
    # Above the threshold everything is "no answer": d becomes right, e wrong only if it is above.
    assert evaluate(answers, predictions, odds, 0.5)["exact"] == pytest.approx(100 * 4 / 5)
    # From 2 right (b, d) +1 (a) +1 (e) = 4, then d takes one away.
    best = evaluate(answers, predictions, odds)
    assert (best["best_exact"], best["best_exact_thresh"]) == (pytest.approx(80), 0.2)
    assert evaluate(answers, {"c": "France"})["exact"] == 100
    with pytest.raises(ValueError, match="none of the questions"):
        evaluate(answers, {"z": ""})


def test_best_threshold_ignores_unscored_questions() -> None:
    best = best_threshold({"a": 1.0}, {"a": "x"}, {"a": 0.3, "b": 0.1}, {"a": True, "b": True})
    assert best == (100.0, 0.3)


def test_predictions_score_as_with_the_official_script() -> None:
    asked = questions(read_articles(reading.FILE))
    assert (len(asked), sum(not question.answers for question in asked)) == (40, 16)
    predictions, odds = reading.predictions(asked)
    # What evaluate-v2.0.py prints for these predictions.
    common = {"total": 40, "HasAns_total": 24, "NoAns_total": 16, "best_exact": 52.5}
    common |= {"best_f1": 56.892857142857146, "best_exact_thresh": 0.2075, "best_f1_thresh": 0.23}
    official = {
        1.0: {
            "exact": 32.5,
            "f1": 41.03571428571429,
            "HasAns_exact": 37.5,
            "HasAns_f1": 51.72619047619048,
            "NoAns_exact": 25.0,
            "NoAns_f1": 25.0,
        },
        0.5: {
            "exact": 45.0,
            "f1": 51.392857142857146,
            "HasAns_exact": 33.333333333333336,
            "HasAns_f1": 43.98809523809524,
            "NoAns_exact": 62.5,
            "NoAns_f1": 62.5,
        },
    }
    answers = {question.id: question.answers for question in asked}
    for threshold, numbers in official.items():
        assert evaluate(answers, predictions, odds, threshold) == pytest.approx(common | numbers, abs=1e-9)


def example(answer: str = "Normandy") -> Question:
    found = (answer,) if answer else ()
    return Question(answer or "none", "When was it?", CONTEXT, found, tuple(CONTEXT.index(text) for text in found))


def windows_of(asked: list[Question], length: int = 20, stride: int = 4) -> Windows:
    return make_windows(asked, train_tokenizer([CONTEXT, "When was it?"], 200), length, stride)


@needs_nlp
def test_windows_cover_the_text_and_answers_come_back() -> None:
    windows = windows_of([example(), example("")])
    assert len(windows) > 4
    text = CONTEXT.lower()
    for index in range(len(windows)):
        question, used = windows.lengths[index]
        places = windows.offsets[index]
        assert (places[:question] == 0).all() and (places[used - 1 :] == 0).all()
        tokens = windows.tokens(index)
        assert tokens.shape == (3, 20) and tokens.dtype == np.int64
        assert tokens[1].sum() == used and tokens[2].sum() == used - question
        assert (tokens[0, used:] == 0).all()
    own = windows.offsets[windows.owner == 0].reshape(-1, 2)
    covered = {place for start, end in own for place in range(start, end)}
    assert covered == {place for place, letter in enumerate(text) if letter != " "}
    # Every token of the text has exactly one window with the most context.
    counts = windows.best[windows.owner == 0].sum()
    assert counts == len({tuple(pair) for pair in own if pair[1] > 0})
    answers, odds = read_answers(windows, *perfect_scores(windows))
    assert answers == {"Normandy": "Normandy", "none": ""}
    assert np.isfinite(list(odds.values())).all()


@needs_nlp
def test_answers_are_read_from_the_surest_window() -> None:
    windows = windows_of([example()])
    assert (windows.spans.sum(1) > 0).sum() >= 2  # overlapping windows hold it
    # Windows without it say "no answer"; the null score is the lowest of any window.
    first, last = perfect_scores(windows)
    answers, odds = read_answers(windows, first, last)
    assert answers == {"Normandy": "Normandy"}
    assert odds["Normandy"] == -10
    assert read_answers(windows, first, last, threshold=-11)[0] == {"Normandy": ""}
    # A longer answer than 30 tokens is none, even if it is the surest; the last is never before the first.
    first, last = np.zeros((2, 1, 80), np.float32)
    twice = Question("q", "When was it?", f"{CONTEXT} {CONTEXT}", (), ())
    whole = windows_of([twice], 80)
    begin, used = whole.lengths[0]
    assert len(whole) == 1 and used - 1 - begin > 30
    first[0, begin] = last[0, used - 2] = 9
    first[0, begin + 3] = last[0, begin + 2] = 4
    text = slice(int(whole.offsets[0, begin, 0]), int(whole.offsets[0, begin + 2, 1]))
    assert read_answers(whole, first, last)[0] == {"q": CONTEXT[text]}


def test_answer_tokens_are_those_that_it_touches() -> None:
    offsets = np.array([[0, 3], [4, 11], [12, 15]], np.int32)
    question = Question("q", "?", "The Normans won", ("Norman",), (4,))
    assert answer_tokens(question, offsets) == (1, 1)
    assert answer_tokens(Question("q", "?", "The Normans won", (), ()), offsets) == (-1, -1)


@needs_nlp
def test_truth_is_read_back() -> None:
    asked = questions(read_articles(reading.FILE))
    tokenizer = train_tokenizer([question.context for question in asked], 1000)
    windows = make_windows(asked, tokenizer, 64, 32)
    assert len(windows) > 3 * len(asked)
    answers, odds = read_answers(windows, *perfect_scores(windows))
    scores = evaluate({question.id: question.answers for question in asked}, answers, odds, np.inf)
    assert scores["NoAns_exact"] == 100
    # The first answer to one question has more than 30 tokens.
    assert scores["HasAns_exact"] == pytest.approx(100 * 23 / 24)
    assert [q.id for q in asked if answers[q.id] not in ("", *q.answers[:1])] == ["Sourdough-1-2"]


@needs_nlp
def test_benchmark_on_one_file_and_on_two(tmp_path: Path) -> None:
    path = reading.FILE
    folder = tiny_bert(tmp_path / "bert", path)
    config = {"tokenizer": str(folder), "length": 64, "stride": 32}
    articles = read_articles(path)

    def texts(data: SquadExamples) -> list[str]:
        return list(dict.fromkeys(question.context for question in data.windows.questions))

    (task,) = Squad(SquadConfig(**config)).tasks(path)
    assert isinstance(task.train, SquadExamples) and isinstance(task.test, SquadExamples)
    assert (len(texts(task.train)), len(texts(task.test))) == (6, 2)
    tokens, target = task.train[0]
    assert tuple(tokens.shape) == (3, 64) and set(target) == {"start", "end", "window"}
    (few,) = Squad(SquadConfig(paragraphs=1, holdout=2, test_every=2, **config)).tasks(path)
    assert texts(few.train) == [articles[1]["paragraphs"][0]["context"]]  # type: ignore[arg-type]
    assert len(texts(few.test)) == 2  # type: ignore[arg-type]
    for name, part in (("train-v2.0.json.gz", articles[1:3]), ("dev-v2.0.json.gz", articles[:1])):
        with gzip.open(tmp_path / name, "wt") as file:
            json.dump({"version": "v2.0", "data": part}, file)
    (other,) = Squad(SquadConfig(every=2, **config)).tasks(tmp_path)
    assert texts(other.train) == [p["context"] for p in articles[1]["paragraphs"]]  # type: ignore[arg-type]
    assert texts(other.test) == [p["context"] for p in articles[0]["paragraphs"]]  # type: ignore[arg-type]
    (tmp_path / "dev-v2.0.json.gz").unlink()
    with pytest.raises(LayoutError, match=r"has no dev-v2.0.json; squad expects:\n"):
        Squad(SquadConfig(**config)).tasks(tmp_path)
    (tmp_path / "bad.json").write_text('{"version": 2}')
    with pytest.raises(ValueError, match=r"no SQuAD 2.0 file"):
        Squad(SquadConfig(**config)).tasks(tmp_path / "bad.json")


@needs_nlp
def test_the_metric_is_perfect_for_perfect_scores(tmp_path: Path) -> None:
    path = reading.FILE
    (task,) = Squad(SquadConfig(tokenizer=str(tiny_bert(tmp_path / "bert", path)), length=64, stride=32)).tasks(path)
    assert isinstance(task.test, SquadExamples)
    first, last = perfect_scores(task.test.windows)
    metric = task.metric()
    for part in torch.arange(len(task.test)).split(7):
        metric.update(torch.from_numpy(np.stack([first, last], 2))[part], {"window": part})
    scores = metric.compute()
    assert scores["exact"] > 0.95 and scores["NoAns_f1"] == 1 and scores["best_f1"] >= scores["f1"]
    # Where "no answer" looks better than it is, a threshold above ours makes up for it.
    timid = task.metric()
    first[:, 0] += 20
    timid.update(torch.from_numpy(np.stack([first, last], 2)), {"window": torch.arange(len(task.test))})
    none = timid.compute()
    assert none["HasAns_exact"] == 0 and none["NoAns_exact"] == 1
    assert none["best_exact"] > none["exact"] and none["best_exact_thresh"] > 0


@needs_nlp
def test_bases_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "bert", reading.FILE)
    base = load_base(f"bert/{folder}")
    assert base.spec.encoder == "bert" and base.spec.kwargs["hidden_size"] == 16
    Squad(SquadConfig(tokenizer=str(folder), length=64)).prepare(base)
    with pytest.raises(ValueError, match="max_position_embeddings 64, and 128 are needed"):
        Squad(SquadConfig(tokenizer=str(folder), length=128)).prepare(base)
    with pytest.raises(ValueError, match="base=bert"):
        Squad(SquadConfig(tokenizer=str(folder), length=64)).prepare(load_base("random"))
    with pytest.raises(ValueError, match="tokenizer must be the name or folder of a BERT"):
        SquadConfig()


@needs_nlp
@pytest.mark.parametrize("method", ["side_tuning", "features", "fine_tune", "scratch"])
def test_all_four_modes_run_end_to_end(method: str, tmp_path: Path) -> None:
    small = reading.FILE
    folder = tiny_bert(tmp_path / "bert", small)
    words = [f"data={small}", f"base.model={folder}", "benchmark.length=64", "benchmark.stride=32"]
    length = ["training.length=4 steps", "benchmark.holdout=2", "training.batch=4"]
    result = run(tmp_path / "run", "benchmark=squad", f"adapt={method}", *words, *length, base="configured")
    scores = result["per_task"]["squad"]
    assert 0 <= scores["exact"] <= scores["f1"] <= scores["best_f1"] <= 1
    assert (result["parameters"] == 0) == (method == "features")


@needs_nlp
@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_computes_outputs_only_and_only_where_it_is_fast(
    fast: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapt.supervised.learner.has_bfloat16", lambda device: fast)
    folder = tiny_bert(tmp_path / "bert", reading.FILE)
    words = ["benchmark=squad", "adapt=fine_tune", f"data={reading.FILE}", f"base.model={folder}"]
    words += ["benchmark.length=64", "benchmark.stride=32", "benchmark.holdout=2", "training.batch=8"]
    words += ["training.length=20 steps", "optimiser.lr=3e-3"]

    def trained(name: str, *more: str) -> tuple[list[float], dict[str, torch.Tensor]]:
        run(tmp_path / name, *words, *more, base="configured")
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        checkpoint = torch.load(next((tmp_path / name / "checkpoints").glob("*.pt")), weights_only=True)
        return [line["loss"] for line in lines if "loss" in line], checkpoint["tasks"]["squad"]["method"]

    (plain, before), (rounded, after) = trained("plain"), trained("rounded", "training.bfloat16=true")
    assert (rounded == plain) != fast
    assert rounded == pytest.approx(plain, abs=0.1) and rounded[-1] < rounded[0] - 0.5
    assert {tensor.dtype for tensor in after.values()} == {tensor.dtype for tensor in before.values()}


@needs_nlp
@pytest.mark.slow
def test_a_tiny_bert_learns_answers_by_heart(tmp_path: Path) -> None:
    parts = [{**part, "paragraphs": part["paragraphs"][:1]} for part in read_articles(reading.FILE)[:2]]
    for name in ("train", "dev"):
        (tmp_path / f"{name}-v2.0.json").write_text(json.dumps({"version": "v2.0", "data": parts}))
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    folder = tiny_bert(tmp_path / "bert", reading.FILE, **sizes, max_position_embeddings=128)
    words = [f"data={tmp_path}", f"base.model={folder}", "benchmark.length=128", "benchmark.stride=64"]
    length = ["training.length=80 passes", "training.batch=16", "optimiser.lr=1e-3"]
    result = run(tmp_path / "run", "benchmark=squad", "adapt=fine_tune", *words, *length, base="configured")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    # The start is near log(128) = 4.9; 4 of 10 questions have no answer.
    assert losses[0] > 3 and losses[-1] < 0.5
    assert result["exact"] > 0.6
