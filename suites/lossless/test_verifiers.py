"""Rejection sampling keeps the target's distribution: our rules, transformers' sampler, and yours.

Yours: `pytest --specdec-verifier=my_engine.sampler:verify suites/lossless`, or a fixture named
`specdec_verifier` beside these tests that returns it.
"""

import pytest
from transformers.generation.utils import _speculative_sampling

from pytest_specdec.lossless import assert_lossless
from pytest_specdec.lossless.samplers.verifiers import of_rule


def test_the_verifier_under_test(specdec_verifier):
    assert_lossless(specdec_verifier, max_examples=50)


def test_the_verifier_under_test_with_more_drafts(specdec_verifier):
    assert_lossless(specdec_verifier, vocab_size=3, k=5, max_examples=10)


@pytest.mark.parametrize("rule", ["block", "sample-match"])
def test_our_other_rules(rule):
    assert assert_lossless(of_rule(rule), max_examples=50).method == "exact"


def test_a_lossy_rule_is_found():
    with pytest.raises(AssertionError, match=r"typical is not lossless \(exact\)"):
        assert_lossless(of_rule("typical"))


def transformers_sampler(target_probs, draft_probs, draft_tokens):
    logits = draft_probs.log()[None], target_probs.log()[None]
    return _speculative_sampling(draft_tokens[None], logits[0], len(draft_tokens), logits[1])[0][0]


def test_transformers_sampler():
    """Its distribution is exact. A uniform of exactly 0 is another matter, see below."""
    assert assert_lossless(transformers_sampler, boundary=False, max_examples=50).method == "exact"


def test_transformers_accepts_the_impossible_once_in_16_million():
    """It compares with `<=`, as sgl-project/sglang#35771 did: a uniform of 0 accepts a draft that
    the target never emits.

    When this fails, transformers has mended it: drop `boundary=False` above.
    """
    with pytest.raises(AssertionError, match=r"with uniform 1 at 0 it emitted"):
        assert_lossless(transformers_sampler)


def test_transformers_ensemble_is_lossy_as_documented():
    def ensemble(target_probs, draft_probs, draft_tokens):
        logits = draft_probs.log()[None], target_probs.log()[None]
        return _speculative_sampling(
            draft_tokens[None], logits[0], len(draft_tokens), logits[1], 0.9
        )[0][0]

    if "assistant_ensemble_weight" not in _speculative_sampling.__code__.co_varnames:
        pytest.skip(
            "this transformers has no ensemble verification; install 5.23 or newer to run this test"
        )
    with pytest.raises(AssertionError, match="is not lossless"):
        assert_lossless(ensemble, boundary=False)
