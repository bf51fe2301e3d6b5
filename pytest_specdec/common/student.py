"""Student's distribution, on which intervals over prompts rest."""

from __future__ import annotations


def student_quantile(share: float, prompts: int) -> float:
    """The value below which Student's distribution has a share of its mass, with one degree of
    freedom less than there are prompts; NaN for a single prompt.

    Only what needs it imports scipy, and of scipy only its special functions.

    >>> round(student_quantile(0.975, 5), 3)
    2.776
    """
    from scipy import special

    return float(special.stdtrit(prompts - 1, share))
