"""Trials made by hand, and the verdict that follows from each."""

from dataclasses import replace

import pytest

from luthier.core.prices import Price
from luthier.core.verdict.contenders import Contender, Reply, Row
from luthier.core.verdict.judging import CurvePoint, Forgetting, Trial, judge
from luthier.core.verdict.measures import EXACT, SIMILAR, guesses, measure_for
from luthier.core.verdict.trial import Measured, measure

ROWS = tuple(Row(({"role": "user", "content": f"q{n}"},), f"a{n}") for n in range(40))
PRICE = Price(training=3.0, input=1.0, cached_input=0.5, output=2.0)


def contender(role, right, *, cost=0.1, model="base", shift=0) -> Measured:
    """One who gets `right` of the rows right, beginning at row `shift`."""
    replies = [Reply("?", 10.0, 100, 10) for _ in ROWS]
    for at in range(shift, shift + right):
        at %= len(ROWS)
        replies[at] = replace(replies[at], text=ROWS[at].reference)
    examples = ROWS[:5] if role == "few-shot" else ()
    return replace(measure(Contender(role, model, examples), ROWS, replies, EXACT, PRICE), cost_per_1k_requests=cost)


def trial(stock, few, tuned, *others, guess=0.05, examples=60, **changes) -> Trial:
    contenders = (
        contender("stock", stock, cost=0.05),
        contender("few-shot", few, cost=0.5),
        contender("tuned", tuned, model="ft:base:me::1"),
        *others,
    )
    guessed = tuple(float(n < guess * len(ROWS)) for n in range(len(ROWS)))
    return Trial(EXACT, ROWS, contenders, guessed, examples, 0.4, **changes)


def test_better_than_any_prompt_and_cheaper_is_worth_it():
    found = judge(trial(2, 20, 36))
    assert (found.kind, found.against, found.model) == ("tune", "few-shot", "ft:base:me::1")
    assert found.break_even_requests == pytest.approx(1000)
    assert found.sentence == (
        "Worth it: tuned gets 90 % of the rows right, stock with 5 examples in its prompt 50 % on 40 rows, "
        "40 points (25 to 55) more; it is cheaper too ($0.100 against $0.500 per 1,000 requests), so training ($0.40) "
        "pays for itself after 1,000 requests."
    )


def test_better_and_dearer_pays_for_quality():
    found = judge(trial(20, 2, 36))
    assert (found.kind, found.break_even_requests) == ("tune", None)
    assert "you pay for quality" in found.sentence


def test_as_good_as_examples_in_the_prompt_and_cheaper_is_worth_it():
    found = judge(trial(2, 38, 39))
    assert found.kind == "tune"
    assert "about the same" in found.sentence


def test_a_prompt_that_does_as_well_is_enough():
    assert judge(trial(39, 38, 39)).kind == "prompt is enough"
    assert judge(trial(2, 38, 20)).kind == "prompt is enough"
    assert judge(trial(2, 38, 20)).against == "few-shot"


def test_few_examples_that_teach_nothing_are_too_few():
    found = judge(trial(2, 3, 4, examples=10))
    assert found.kind == "more data needed"
    assert "10 examples are too few to learn from; write 50" in found.sentence


def test_better_than_any_prompt_and_still_mostly_wrong_wants_more():
    found = judge(trial(2, 3, 16, curve=(CurvePoint(15, (0.0,) * 40),)))
    assert found.kind == "more data needed"
    assert (
        "wrong more often than right; tuned on fewer examples: 0 % with 15: 60 examples are not enough"
        in found.sentence
    )
    assert judge(replace(trial(2, 3, 16), measure=SIMILAR)).kind == "tune"


def test_few_examples_whose_replies_are_hardly_nearer_than_any_other_are_too_few():
    """Replies that share most of their words are all alike: near is not right."""
    near = replace(trial(28, 29, 36, guess=0.85, examples=10), measure=SIMILAR)
    found = judge(near)
    assert found.kind == "more data needed"
    assert "but a reply that ignores the question would have 85 %" in found.sentence
    assert judge(replace(near, training_examples=60)).kind == "tune"
    assert judge(replace(near, guesses=(0.5,) * 40)).kind == "tune"


def test_many_that_teach_nothing_are_not_measurable_unless_more_of_them_help():
    plain = trial(2, 3, 4)
    assert judge(plain).kind == "not measurable"
    others = (contender("stock", 7, shift=20), contender("tuned", 9))
    rising = judge(replace(plain, contenders=others, curve=(CurvePoint(15, (0.0,) * 40),)))
    assert rising.kind == "more data needed"
    assert "60 examples are not enough, and more of them help; write 120" in rising.sentence
    assert "tuned on fewer examples: 0 % with 15" in rising.sentence


def test_a_better_checkpoint_is_named():
    checkpoint = contender("checkpoint", 36, model="ft:base:me::1:ckpt-step-30")
    found = judge(trial(2, 3, 20, checkpoint))
    assert (found.kind, found.model) == ("overfitted", "ft:base:me::1:ckpt-step-30")
    assert "use ft:base:me::1:ckpt-step-30" in found.sentence


def test_a_checkpoint_as_good_counts_when_the_loss_has_risen_since():
    checkpoint = contender("checkpoint", 21, model="ft:base:me::1:ckpt-step-30")
    losses = {30: 0.5, 60: 0.9}
    found = judge(trial(2, 3, 20, checkpoint, losses=losses))
    assert found.kind == "overfitted"
    assert "validation loss rose from 0.50 to 0.90 after it" in found.sentence
    assert judge(trial(2, 3, 20, checkpoint, losses={30: 0.5, 60: 0.55})).kind == "tune"


def test_where_most_tokens_are_known_a_loss_that_rises_a_little_counts_with_scores_that_fall():
    def judged(right):
        checkpoint = contender("checkpoint", right, model="ft:base:me::1:ckpt-step-13")
        return judge(trial(2, 3, 29, checkpoint, losses={13: 0.06, 50: 0.12})).kind

    assert [judged(29), judged(31), judged(34)] == ["tune", "tune", "overfitted"]


def test_a_checkpoint_that_is_as_good_as_a_prompt_and_cheaper_is_the_one_to_use():
    checkpoint = contender("checkpoint", 32, model="ft:base:me::1:ckpt-step-20")
    found = judge(trial(2, 32, 14, checkpoint, losses={20: 1.0, 60: 1.5}))
    assert (found.kind, found.model) == ("overfitted", "ft:base:me::1:ckpt-step-20")
    assert "about the same" in found.sentence
    assert "the finished model 35 %" in found.sentence


def test_who_always_says_the_commonest_label_has_learnt_nothing():
    found = judge(trial(10, 16, 32, guess=0.8))
    assert found.kind == "more data needed"
    assert "a reply that ignores the question would have 80 %" in found.sentence


def test_a_loss_that_fell_is_not_said_to_have_risen():
    checkpoint = contender("checkpoint", 36, model="ft:base:me::1:ckpt-step-30")
    assert "rose" not in judge(trial(2, 3, 20, checkpoint, losses={30: 0.9, 60: 0.5})).sentence


def test_where_nothing_costs_anything_nothing_is_said_to_be_dearer():
    free = trial(2, 20, 36)
    free = replace(free, contenders=tuple(replace(c, cost_per_1k_requests=0.0) for c in free.contenders))
    assert "it costs as much ($0.000 against $0.000" in judge(free).sentence
    unpaid = judge(replace(trial(2, 38, 30), training_cost=0.0))
    assert unpaid.kind == "prompt is enough"
    assert "cheaper too" not in unpaid.sentence


def test_too_few_rows_say_why():
    few = replace(trial(2, 3, 4, leaked_rows=9), rows=ROWS[:3], contenders=())
    assert judge(few).sentence == (
        "Not measurable: 3 rows to measure on are too few; hold out 8 or more, better 50, that are not in the training "
        "file, as 9 others are or nearly."
    )


def test_a_difference_that_may_be_chance_asks_for_more_rows():
    noisy = trial(2, 20, 20)
    others = (contender("few-shot", 20, cost=0.05), contender("tuned", 24, shift=18))
    found = judge(replace(noisy, contenders=(noisy.contenders[0], *others)))
    assert found.kind == "not measurable"
    assert "may be chance" in found.sentence


def test_what_was_forgotten_is_said():
    lost = Forgetting((1.0,) * 18 + (0.0,) * 2, (0.0,) * 20)
    assert judge(trial(2, 20, 36, forgetting=lost)).sentence.endswith(
        "It forgot much else: of 20 general questions stock knows 18, tuned 0."
    )


def test_labels_are_right_or_wrong_and_texts_are_near_or_far():
    labels = [Row((), "yes"), Row((), "no"), Row((), "Yes")] * 5
    texts = [Row((), f"a sentence about {n}") for n in range(15)]
    assert (measure_for(labels, labels), measure_for(texts, texts)) == (EXACT, SIMILAR)
    assert (EXACT.score(" YES ", "yes"), EXACT.score("yes!", "yes")) == (1.0, 0.0)
    assert SIMILAR.score("abcd", "abcx") == pytest.approx(0.75)
    assert guesses(EXACT, labels[:3], labels) == [1.0, 0.0, 1.0]  # the commonest
    assert guesses(SIMILAR, texts[:1], []) == [0.0]


def test_a_prompt_of_ones_own_may_be_enough():
    found = judge(trial(2, 20, 36, contender("prompt", 36, cost=0.06)))
    assert (found.kind, found.against) == ("prompt is enough", "prompt")
    assert "keep stock with your prompt, which is cheaper too" in found.sentence


def test_a_teacher_is_told_of_and_decides_nothing():
    alone = judge(trial(2, 20, 36))
    found = judge(trial(2, 20, 36, contender("teacher", 38, cost=2.0, model="big")))
    words = "The teacher (big) gets 95 % of the rows right, for $2.000 per 1,000 requests."
    assert found == replace(alone, sentence=f"{alone.sentence} {words}")
    failed = judge(trial(2, 20, 36, teacher_failed="big: no server answers."))
    assert failed.sentence == f"{alone.sentence} The teacher was left out: big: no server answers."
