"""Verdicts of a gate, on numbers worked out by hand and on simulated checks whose truth is known."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy.stats import binomtest, t, ttest_ind

from bench.analysis import sequential_test
from bench.analysis.sequential_test import ALPHA, LOOKS, Evidence, crossover, judge, paired, share

MARGIN = 0.005


def test_a_crossover_takes_out_what_the_place_costs() -> None:
    """Base first costs the present 1%: seen in both orders, it leaves the mean and the error alone."""
    harms = [0.02 + 0.01, 0.02 - 0.01, 0.022 + 0.01, 0.018 - 0.01]
    evidence = crossover(harms, [True, False, True, False])
    assert evidence is not None
    assert evidence.harm == pytest.approx(0.02)
    assert (evidence.degrees, evidence.pairs) == (2, 4)
    within = [0.03, 0.032], [0.01, 0.008]
    pooled = sum(sum((x - statistics.mean(group)) ** 2 for x in group) for group in within) / 2
    assert evidence.error == pytest.approx(math.sqrt(pooled * (1 / 2 + 1 / 2) / 4))


def test_its_error_is_that_of_two_samples() -> None:
    """Half the difference of group means, one of them mirrored, is Student's two-sample test."""
    rng = np.random.default_rng(0)
    harms, first = rng.normal(0.01, 0.02, 13), rng.permutation([True] * 6 + [False] * 7)
    evidence = crossover(list(harms), list(first))
    assert evidence is not None
    same = ttest_ind(harms[first], -harms[~first])
    assert evidence.harm / evidence.error == pytest.approx(same.statistic)


def test_it_needs_two_pairs_each_way_round() -> None:
    assert crossover([0.1, 0.2, 0.3], [True, True, False]) is None
    assert crossover([], []) is None
    assert paired([0.1]) is None
    evidence = paired([0.1, 0.3])
    assert evidence is not None
    assert (evidence.harm, evidence.error, evidence.degrees) == pytest.approx((0.2, 0.1, 1))


def test_the_looks_share_the_error_rate() -> None:
    assert sum(map(share, LOOKS)) == pytest.approx(ALPHA)
    assert list(LOOKS) == sorted(set(LOOKS))
    assert all(look % 2 == 0 for look in LOOKS), "as many pairs each way round"


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (0.03, "regression"),
        (-0.03, "improvement"),
        (0.0, "no change"),
        (0.006, "inconclusive"),
        (-0.006, "inconclusive"),
    ],
)
def test_kinds(harm: float, kind: str) -> None:
    verdict = judge({"row": Evidence(harm, 0.001, 6, 8)}, {"row": MARGIN}, 0.01)["row"]
    assert verdict.kind == kind
    half = t.ppf(0.99, 6) * 0.001
    assert (verdict.low, verdict.high) == pytest.approx((harm - half, harm + half))
    assert verdict.smallest == pytest.approx(MARGIN + half + t.ppf(0.8, 6) * 0.001)
    assert bool(verdict.reason) == (kind == "inconclusive")


def test_a_figure_without_any_spread_is_judged_by_its_value() -> None:
    kinds = {harm: judge({0: Evidence(harm, 0.0, 2, 4)}, {0: MARGIN}, 0.01)[0].kind for harm in (0.0, 0.1, -0.1)}
    assert kinds == {0.0: "no change", 0.1: "regression", -0.1: "improvement"}


def test_holm_over_the_figures_of_a_check() -> None:
    """Among ten figures one must pass a tenth of the error rate; when it has, the next a ninth."""
    alpha, degrees = 0.01, 6
    margins = dict.fromkeys(range(10), MARGIN)

    def at(p: float) -> Evidence:
        return Evidence(MARGIN + 0.001 * t.isf(p, degrees), 0.001, degrees, 8)

    quiet = {i: at(0.5) for i in range(2, 10)}
    verdicts = judge({0: at(0.9 * alpha / 10), 1: at(0.95 * alpha / 9), **quiet}, margins, alpha)
    assert (verdicts[0].kind, verdicts[1].kind) == ("regression", "regression")
    verdicts = judge({0: at(1.1 * alpha / 10), 1: at(0.5), **quiet}, margins, alpha)
    assert verdicts[0].kind == "inconclusive"
    assert "Holm" in verdicts[0].reason
    assert judge({0: at(1.1 * alpha / 10)}, margins, alpha)[0].kind == "regression", "alone it would do"


def checks(true_harm: float, spread: float, figures: int, count: int, seed: int) -> list[list[str]]:
    """Simulated checks of ``figures`` figures with a place effect; the kinds at their end."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        harms = rng.normal(true_harm, spread, (figures, LOOKS[-1]))
        first = np.arange(LOOKS[-1]) % 2 == 0
        harms += np.where(first, 0.008, -0.008)
        kinds = dict.fromkeys(range(figures), "inconclusive")
        for look in LOOKS:
            still = [i for i, kind in kinds.items() if kind == "inconclusive"]
            evidence = {i: e for i in still if (e := crossover(list(harms[i, :look]), list(first[:look])))}
            kinds |= {i: v.kind for i, v in judge(evidence, dict.fromkeys(still, MARGIN), share(look)).items()}
        found.append(list(kinds.values()))
    return found


def test_false_alarms_stay_under_the_error_rate_at_the_margin_itself() -> None:
    """The worst case: five figures whose true harm is just the margin."""
    found = checks(MARGIN, 0.008, figures=5, count=400, seed=1)
    alarms = sum("regression" in kinds for kinds in found)
    assert binomtest(alarms, len(found), ALPHA, alternative="greater").pvalue > 0.01, alarms


def test_no_false_alarm_without_a_harm_and_two_percent_are_found() -> None:
    quiet = checks(0.0, 0.008, figures=1, count=400, seed=2)
    assert sum(kinds == ["regression"] for kinds in quiet) <= 1
    slow = checks(-math.log(0.98), 0.008, figures=1, count=200, seed=3)
    assert sum(kinds == ["regression"] for kinds in slow) >= 195


def test_kinds_have_an_order_and_exit_codes() -> None:
    from bench.records.gate_result import EXIT_CODES

    assert EXIT_CODES == {"regression": 1, "invalid": 4, "inconclusive": 3, "improvement": 0, "no change": 0}
    assert set(sequential_test.Kind.__args__) == set(EXIT_CODES)  # type: ignore[attr-defined]
