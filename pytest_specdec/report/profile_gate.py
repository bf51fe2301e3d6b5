"""A measured case beside a `speculation_profile.json` that somebody published: does it still accept
what the profile says?
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..common.bounded_files import read_text
from ..common.errors import RequestError
from ..common.percent import signed_percent
from ..common.strict_json import JsonError, parse_json

Length = Annotated[float, Meta(ge=1)]


class ProfileErrors(msgspec.Struct, frozen=True):
    """Standard errors, which this project's profiles hold beside the schema's fields."""

    mean_accept_length: Annotated[float, Meta(ge=0)] | None = None


class ProfileConditions(msgspec.Struct, frozen=True):
    """What a profile was measured under, as far as it says."""

    temperature: Annotated[float, Meta(ge=0)] | None = None


class PublishedProfile(msgspec.Struct, frozen=True):
    """The fields of a profile, schema 1.0, that are compared; others are allowed."""

    schema_version: str
    mean_accept_length: Length
    num_speculative_tokens: Annotated[int, Meta(ge=1)]
    accept_length_by_k: dict[str, Length] | None = None
    measurement_conditions: ProfileConditions | None = None
    standard_errors: ProfileErrors | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileVerdict:
    """`pass`, `regressed` or `inconclusive`, and why."""

    outcome: str
    message: str


def read_profile(path: Path) -> PublishedProfile:
    """Read a profile. Raises RequestError for a file of another form."""
    try:
        profile = msgspec.convert(parse_json(read_text(path)), PublishedProfile, strict=True)
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except (JsonError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise RequestError(
            f"{path} is no speculation profile ({str(error)[:200]}); write one with "
            "`python -m pytest_specdec profile`"
        ) from None
    if profile.schema_version != "1.0":
        raise RequestError(
            f"{path} has schema {profile.schema_version[:40]!r}; profiles of schema 1.0 are read"
        )
    return profile


def judge_profile(
    row: Mapping[str, Any], profile: PublishedProfile, *, margin: float, alpha: float
) -> ProfileVerdict:
    """Compare a case of a .json report with a profile.

    The prompts of both are different samples, so the standard errors of both count: the case has
    regressed where its acceptance length is lower by the margin or more, and the one-sided bound of
    the difference at `alpha` is below 0. Without the profile's standard error that bound is not
    known, and a drop of the margin is inconclusive.

    Raises
    ------
    RequestError
        Where k or the temperature are others, or the case has no length.
    """
    now, k = row["acceptance_length"], row["k"]
    expected = _expected(profile, k)
    conditions = profile.measurement_conditions
    known = None if conditions is None else conditions.temperature
    if known is not None and known != row["temperature"]:
        raise RequestError(
            f"the profile is of temperature {known:g} and the case of {row['temperature']:g}; "
            "measure at the profile's temperature"
        )
    if now is None:
        raise RequestError("the case has no acceptance length; choose a measured one with --case")
    drop = 1 - now / expected
    line = (
        f"acceptance length {now:.4f}, in the profile {expected:.4f} ({signed_percent(-drop)}), "
        f"fails from {signed_percent(-margin)}"
    )
    if drop < margin:
        return ProfileVerdict(outcome="pass", message=line)
    errors = profile.standard_errors
    error = None if errors is None else errors.mean_accept_length
    if error is None or row["acceptance_length_error"] is None:
        whose = "the profile" if error is None else "the report"
        return ProfileVerdict(
            outcome="inconclusive", message=f"{line}; {whose} states no standard error"
        )
    spread = math.hypot(error, row["acceptance_length_error"])
    bound = now - expected + NormalDist().inv_cdf(1 - alpha) * spread
    if bound < 0:
        return ProfileVerdict(outcome="regressed", message=line)
    return ProfileVerdict(
        outcome="inconclusive", message=f"{line}; chance may explain it (bound {bound:+.4f})"
    )


def _expected(profile: PublishedProfile, k: int) -> float:
    """The profile's length at k. Raises RequestError where it does not say one."""
    if k == profile.num_speculative_tokens:
        return profile.mean_accept_length
    length = (profile.accept_length_by_k or {}).get(str(k))
    if length is None:
        raise RequestError(
            f"the profile has no length at k={k}; measure k={profile.num_speculative_tokens}"
        )
    return length
