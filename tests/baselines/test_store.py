"""Baseline files: read whole or refused by file and line, written all or none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.records import (
    CONDITIONS,
    ENVIRONMENT,
    FINGERPRINTS,
    PROPERTY,
    case,
    counts,
    record,
    text_set,
)
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.baselines.evidence_and_tokens import READABLE, EvidenceFile
from pytest_specdec.baselines.store import (
    BaselineStore,
    case_and_device,
    load,
    load_baseline,
    write_all,
)
from pytest_specdec.baselines.writing import digest_of, dumps
from pytest_specdec.cases.case import DEFINITION, JudgedRange
from pytest_specdec.common.errors import BaselineError
from pytest_specdec.records.accumulated import AccumulatedRun
from pytest_specdec.records.conditions import Conditions
from pytest_specdec.records.prompt_counts import PromptCounts
from pytest_specdec.records.record import SCHEMA, Record
from pytest_specdec.records.replaced import MOST_REPLACED, ReplacedRecord
from pytest_specdec.records.text_set import TextSet

CURE = "restore it from version control, or delete it and run with --specdec-update=new"

words = st.text(st.characters(codec="utf-8"), max_size=12)
temperatures = st.floats(0, 100)
shares = st.floats(0, 1, exclude_min=True)


conditions = st.builds(
    Conditions,
    k=st.just(3),
    depth=st.integers(0, 9),
    drafter=words,
    engine=words,
    rule=words,
    temperature=temperatures,
    top_k=st.integers(0, 99),
    top_p=shares,
    new_tokens=st.just(10**6),
    tokenizer=words,
    template=st.none() | words,
    judged=st.none() | words,
)


@st.composite
def prompt_rows(draw: st.DrawFn) -> PromptCounts:
    """Possible counts of three positions: each accepts no more than the one before."""
    rounds = draw(st.floats(0.001, 1e5) | st.integers(1, 10**5))
    accepted = sorted(draw(st.lists(st.floats(0, rounds), min_size=3, max_size=3)), reverse=True)
    drafted = draw(st.none() | st.just((rounds, rounds, max(rounds / 2, accepted[2]))))
    return PromptCounts(
        category=draw(words),
        text=draw(words),
        rounds=rounds,
        accepted=tuple(accepted),
        drafted=drafted,
    )


replaced = st.builds(
    ReplacedRecord,
    acceptance_length=st.floats(1, 4),
    prompts=st.text("0123456789abcdef", min_size=16, max_size=16),
    texts=st.none() | st.just("0123456789abcdef"),
    commit=st.none() | st.just("1a2b3c4d5e" * 4),
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Records of one to three runs of the same prompts."""
    keys = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    runs = [{key: draw(prompt_rows()) for key in keys} for _ in range(draw(st.integers(1, 3)))]
    return Record(
        schema=draw(st.sampled_from(READABLE)),
        definition=draw(words),
        conditions=draw(conditions),
        fingerprints=FINGERPRINTS,
        environment=ENVIRONMENT,
        repeats=len(runs),
        counts=runs[0],
        again=tuple(runs[1:]),
        replaced=tuple(draw(st.lists(replaced, max_size=3))),
    )


stored_records = records()
stored_texts = st.builds(
    TextSet,
    schema=st.just(SCHEMA),
    target=words,
    tokenizer=words,
    template=st.none() | words,
    new_tokens=st.integers(5, 99),
    temperature=temperatures,
    seed=st.integers(0, 99),
    texts=st.dictionaries(
        words, st.lists(st.integers(0, 10**6), min_size=1, max_size=5).map(tuple), max_size=4
    ),
)


def saved(folder: Path, change: Callable[[dict[str, Any]], object] = lambda data: None) -> Path:
    """A baseline file whose JSON was changed before its digest was made."""
    data = json.loads(dumps(record()))
    change(data)
    data["digest"] = digest_of(data)
    path = folder / "case.json"
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")
    return path


@given(stored_records | stored_texts)
@PROPERTY
def test_what_was_dumped_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, stored: Record | TextSet
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.json"
    path.write_text(dumps(stored), encoding="utf-8")
    loaded = load(path, type(stored))
    assert loaded == stored
    assert dumps(loaded) == dumps(stored)


def test_files_lie_under_suite_and_case_name(tmp_path: Path) -> None:
    store, measured = BaselineStore(tmp_path), case(suite="text/long", k=4)
    assert store.record_path(measured) == tmp_path / "text/long/draft-k4-depth0-t1.json"
    assert store.texts_path(measured.texts) == tmp_path / "text/long/texts/t1-n64-s0.json"


def test_store_reads_what_was_written_at_its_paths(tmp_path: Path) -> None:
    store, measured = BaselineStore(tmp_path), case()
    assert store.record(measured) is None
    assert store.texts(measured.texts) is None
    write_all(
        {
            store.record_path(measured): dumps(record()),
            store.texts_path(measured.texts): dumps(text_set()),
        }
    )
    assert store.record(measured) == record() == load_baseline(store.record_path(measured))
    assert store.texts(measured.texts) == text_set()


def test_a_device_has_files_of_its_own_and_shares_the_texts(tmp_path: Path) -> None:
    shared, gpu = BaselineStore(tmp_path), BaselineStore(tmp_path, device="cuda-bfloat16")
    assert gpu.shared == shared == shared.shared
    names = {
        "text/draft-k8-depth0-t1@cuda-bfloat16.json": gpu.record_path(case()),
        "text/evidence/draft-k8-depth0-t1@cuda-bfloat16.json": gpu.evidence_path(case()),
        "text/tokens/draft-head0-t1-n64-s0@cuda-bfloat16.json": gpu.tokens_path(case(), 0),
        "text/texts/t1-n64-s0.json": gpu.texts_path(case().texts),
    }
    assert {str(path.relative_to(tmp_path)) for path in names.values()} == set(names)
    assert shared.texts_path(case().texts) == gpu.texts_path(case().texts)


def test_a_device_without_a_record_of_its_own_uses_the_shared_one(tmp_path: Path) -> None:
    shared, gpu = BaselineStore(tmp_path), BaselineStore(tmp_path, device="cuda-bfloat16")
    creating = BaselineStore(tmp_path, device="cuda-bfloat16", falls_back=False)
    assert gpu.record(case()) is None
    assert gpu.in_force(case()) == gpu
    assert not gpu.has_record(case())
    write_all({shared.record_path(case()): dumps(record())})
    assert gpu.record(case()) == record()
    assert gpu.in_force(case()) == shared == shared.in_force(case())
    assert gpu.has_record(case())
    assert creating.record(case()) is None
    assert not creating.has_record(case())
    mine = record(device="NVIDIA H200", dtype="bfloat16")
    write_all({gpu.record_path(case()): dumps(mine)})
    assert gpu.record(case()) == mine == creating.record(case())
    assert gpu.in_force(case()) == gpu
    assert shared.record(case()) == record()


@pytest.mark.parametrize(
    ("stem", "parts"),
    [
        ("draft-k8-depth0-t1", ("draft-k8-depth0-t1", None)),
        ("draft-k8-depth0-t1@cpu-float32", ("draft-k8-depth0-t1", "cpu-float32")),
        ("draft@2-k8-depth0-t1@cuda-float16", ("draft@2-k8-depth0-t1", "cuda-float16")),
        ("draft@2-k8-depth0-t1", ("draft@2-k8-depth0-t1", None)),
        ("draft-k8-depth0-t1@auto-float32", ("draft-k8-depth0-t1@auto-float32", None)),
    ],
)
def test_the_name_of_a_file_holds_its_case_and_device(
    stem: str, parts: tuple[str, str | None]
) -> None:
    assert case_and_device(stem) == parts


def test_a_missing_baseline_is_an_error_only_where_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.json"
    assert load(path, Record) is None
    with pytest.raises(
        BaselineError, match=r"no baseline at .*absent\.json; create it with --specdec-update=new"
    ):
        load_baseline(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_by_line(tmp_path: Path, share: float) -> None:
    text = dumps(record())
    text = text[: int(len(text) * share)].rstrip("}\n")
    path = tmp_path / "case.json"
    path.write_text(text)
    line = text.count("\n") + 1
    with pytest.raises(
        BaselineError, match=rf"case\.json:{line} is truncated or not JSON .*; {CURE}"
    ):
        load_baseline(path)


@pytest.mark.parametrize("marker", ["<<<<<<< HEAD", "=======", ">>>>>>> branch", "||||||| base"])
def test_a_merge_conflict_is_refused_by_line(tmp_path: Path, marker: str) -> None:
    lines = dumps(record()).splitlines()
    lines.insert(6, marker)
    path = tmp_path / "case.json"
    path.write_text("\n".join(lines))
    with pytest.raises(
        BaselineError,
        match=rf"case\.json:7 holds a merge-conflict marker; resolve the conflict or {CURE}",
    ):
        load_baseline(path)


def test_a_newer_schema_asks_for_an_update_of_the_plugin(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda data: data.update(schema=SCHEMA + 1))
    line = next(
        number for number, text in enumerate(path.read_text().splitlines(), 1) if '"schema"' in text
    )
    with pytest.raises(
        BaselineError, match=rf"case\.json:{line} has schema 3, this version reads up to 2; update"
    ):
        load_baseline(path)


@pytest.mark.parametrize("schema", [0, "1", None, "x" * 10_000])
def test_another_schema_is_refused(tmp_path: Path, schema: object) -> None:
    shown = repr(schema)[:40]
    with pytest.raises(
        BaselineError, match=rf"has schema {shown}, this version reads up to 2; {CURE}"
    ):
        load_baseline(saved(tmp_path, lambda data: data.update(schema=schema)))


@pytest.mark.parametrize("content", ["[]", "3", '"text"', "null"])
def test_json_that_is_no_object_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "case.json"
    path.write_text(content)
    with pytest.raises(BaselineError, match=r"case\.json:1 has schema None"):
        load_baseline(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda data: data.update(extra=1), "unknown field `extra`"),
        (lambda data: data["conditions"].update(beam=4), "unknown field `beam`"),
        (lambda data: data["counts"]["p0"].update(mean=4), "unknown field `mean`"),
        (lambda data: data.pop("definition"), "missing required field `definition`"),
        (lambda data: data["fingerprints"].pop("target"), "missing required field `target`"),
        (
            lambda data: data["conditions"].update(k="8"),
            r"Expected `int`, got `str` - at `\$\.conditions\.k`",
        ),
        (lambda data: data["counts"]["p0"].update(rounds=None), "Expected `float`, got `null`"),
        (lambda data: data.update(counts=[]), "Expected `object`, got `array`"),
    ],
    ids=[
        "unknown",
        "unknown-nested",
        "unknown-in-row",
        "missing",
        "missing-nested",
        "text-for-int",
        "null",
        "array",
    ],
)
def test_a_field_of_another_shape_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], complaint: str
) -> None:
    with pytest.raises(BaselineError, match=rf"(?s)case\.json:\d+: .*{complaint}.*; {CURE}"):
        load_baseline(saved(tmp_path, change))


def test_texts_are_not_read_as_a_record(tmp_path: Path) -> None:
    path = tmp_path / "texts.json"
    path.write_text(dumps(text_set()))
    with pytest.raises(BaselineError, match=r"texts\.json"):
        load_baseline(path)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (record(k=2), "prompt p0 does not have 2 positions"),
        (
            record(counts([10], [[8, -1]])),
            r"Expected `float` >= 0.0 - at `\$.counts\[...\].accepted\[1\]`",
        ),
        (record(counts([0], [[0, 0]])), "no prompt has a round"),
        (record(counts([10], [[4, 8]])), "prompt p0 accepts more at a later position"),
    ],
    ids=["positions", "negative", "no-rounds", "growing"],
)
def test_numbers_that_no_measurement_yields_are_refused(
    tmp_path: Path, wrong: Record, complaint: str
) -> None:
    store, measured = BaselineStore(tmp_path), case()
    write_all({store.record_path(measured): dumps(wrong)})
    with pytest.raises(
        BaselineError, match=rf"{measured.name}\.json:(31|32): .*{complaint}.*; {CURE}"
    ):
        store.record(measured)


REPLACED = {"acceptance_length": 2.4, "prompts": "0" * 16}


def test_baselines_that_were_replaced_stand_one_a_line(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda data: data.update(replaced=[REPLACED] * 2))
    written = dumps(load_baseline(path)).splitlines()
    at = written.index('  "replaced": [')
    assert [json.loads(line.rstrip(",")) for line in written[at + 1 : at + 3]] == [REPLACED] * 2
    assert written[at + 3] == "  ],"
    assert '"replaced"' not in dumps(record())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"acceptance_length": 0.9}, r"Expected `float` >= 1.0 - at `\$\.replaced\[1\]"),
        ({"acceptance_length": 4.5}, "it replaced a length above 4, the most that 3 drafts"),
        ({"acceptance_length": None}, "Expected `float`, got `null`"),
        ({"commit": "HEAD"}, "Expected `str` matching regex"),
        ({"prompts": "all"}, "Expected `str` matching regex"),
        ({"texts": ""}, "Expected `str` matching regex"),
        ({"author": "me"}, "unknown field `author`"),
    ],
)
def test_a_history_that_was_edited_is_refused_by_its_line(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    path = saved(tmp_path, lambda data: data.update(replaced=[REPLACED, {**REPLACED, **changes}]))
    path.write_text(path.read_text().replace("\n      ", " "))
    lines = path.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if '"replaced"' in text)
    with pytest.raises(BaselineError, match=rf"case\.json:{line}: .*{complaint}.*; {CURE}"):
        load_baseline(path)


def test_a_history_without_its_digest_or_too_long_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda data: data.update(replaced=[REPLACED] * (MOST_REPLACED + 1)))
    with pytest.raises(BaselineError, match="Expected `array` of length <= 50"):
        load_baseline(path)
    path = saved(tmp_path, lambda data: data.update(replaced=[REPLACED]))
    path.write_text(path.read_text().replace("2.4", "2.3"))
    with pytest.raises(BaselineError, match="the content is not what was written"):
        load_baseline(path)


def test_only_the_first_problems_of_a_broken_record_are_listed(tmp_path: Path) -> None:
    store, measured = BaselineStore(tmp_path), case()
    write_all({store.record_path(measured): dumps(record(counts([1.0] * 50, [[2]] * 50)))})
    with pytest.raises(BaselineError) as caught:
        store.record(measured)
    assert str(caught.value).count("prompt p") == 3


@pytest.mark.parametrize(
    "make",
    [lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff\xfe{}")],
    ids=["folder", "bytes"],
)
def test_what_is_no_text_file_is_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "case.json")
    with pytest.raises(BaselineError, match=rf"case\.json cannot be read .*; {CURE}"):
        load_baseline(tmp_path / "case.json")


def test_all_files_are_written_and_folders_made(tmp_path: Path) -> None:
    files = {tmp_path / "a" / "one.json": "1\n", tmp_path / "b" / "c" / "two.json": "é\n"}
    write_all(files)
    assert {path: path.read_text(encoding="utf-8") for path in files} == files


def test_a_file_is_replaced_whole_and_not_written_into(tmp_path: Path) -> None:
    path, link = tmp_path / "case.json", tmp_path / "link.json"
    path.write_text("a much longer old content\n")
    link.hardlink_to(path)
    write_all({path: "new\n"})
    assert path.read_text() == "new\n"
    assert link.read_text() == "a much longer old content\n"
    assert path.stat().st_mode & 0o777 == 0o644


def test_line_ends_are_the_same_everywhere(tmp_path: Path) -> None:
    write_all({tmp_path / "case.json": "a\nb\n"})
    assert (tmp_path / "case.json").read_bytes() == b"a\nb\n"


@pytest.mark.parametrize(
    ("impossible", "content"),
    [("file/case.json", "text"), ("zz/case.json", "\ud800")],
    ids=["parent-is-a-file", "not-encodable"],
)
def test_nothing_changes_where_one_file_cannot_be_written(
    tmp_path: Path, impossible: str, content: str
) -> None:
    (tmp_path / "file").write_text("a file, no folder")
    first, last = tmp_path / "a.json", tmp_path / "z.json"
    first.write_text("old\n")
    with pytest.raises((BaselineError, UnicodeError)):
        write_all({first: "new\n", tmp_path / impossible: content, last: "new\n"})
    assert first.read_text() == "old\n"
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"a.json", "file"}


def test_a_definition_is_stored_with_every_record(tmp_path: Path) -> None:
    assert json.loads(dumps(record()))["definition"] == DEFINITION
    assert load_baseline(saved(tmp_path)).conditions == CONDITIONS


def test_a_folder_in_the_way_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "z.json").mkdir()
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(
        BaselineError, match=r"z\.json is a folder where a file must be; move it away"
    ):
        write_all({tmp_path / "a.json": "new", tmp_path / "z.json": "new"})
    assert (tmp_path / "a.json").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "z.json"]


def test_the_public_loader_refuses_impossible_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(dumps(record(counts([10], [[8, -1]]))))
    with pytest.raises(BaselineError, match=r"a\.json:32: Expected `float` >= 0.0"):
        load_baseline(path)


def test_prompts_may_be_called_like_fields_of_a_file(tmp_path: Path) -> None:
    named = record(counts([10.0, 10.0], [[5.0], [4.0]], prompts=["counts", '"']))
    (tmp_path / "record.json").write_text(dumps(named))
    assert load(tmp_path / "record.json", Record) == named


def test_judged_tokens_have_files_of_their_own_beside_shared_texts(tmp_path: Path) -> None:
    store, plain, judged = BaselineStore(tmp_path), case(), case(judged=JudgedRange(41, 297, 2))
    assert store.record_path(judged) == tmp_path / "text/draft-k8-depth0-t1-ids41-296.json"
    assert (
        store.evidence_path(judged) == tmp_path / "text/evidence/draft-k8-depth0-t1-ids41-296.json"
    )
    assert (
        store.tokens_path(judged, 1)
        == tmp_path / "text/tokens/draft-head1-t1-n64-s0-ids41-296.json"
    )
    assert (
        store.tokens_path(case(judged=JudgedRange(41, 297), rule="block"), 0).stem
        == "draft-head0-t1-n64-s0-ids41-296-block"
    )
    assert store.texts_path(judged.texts) == store.texts_path(plain.texts)


@pytest.mark.parametrize("content", [b"RIFF\x00\xff", "text\n"])
def test_bytes_are_written_as_they_are(tmp_path: Path, content: str | bytes) -> None:
    write_all({tmp_path / "sound.wav": content})
    assert (tmp_path / "sound.wav").read_bytes() == (
        content if isinstance(content, bytes) else content.encode()
    )


def test_content_that_was_edited_is_refused_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text(dumps(record()).replace('"rounds": 40', '"rounds": 44', 1))
    with pytest.raises(
        BaselineError,
        match=rf"case\.json:16: the content is not what was written .*: it was edited, .*; {CURE}",
    ):
        load_baseline(path)


@pytest.mark.parametrize(
    "form", [lambda text: text.replace("\n", "\r\n"), lambda text: json.dumps(json.loads(text))]
)
def test_white_space_is_no_content(tmp_path: Path, form: Callable[[str], str]) -> None:
    path = tmp_path / "case.json"
    path.write_bytes(form(dumps(record())).encode())
    assert load_baseline(path) == record()


def test_a_key_that_stands_twice_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text(dumps(record())[:-3] + ',\n  "counts": {}\n}\n')
    line = path.read_text().count("\n") - 1
    with pytest.raises(
        BaselineError, match=rf'case\.json:{line} .*the key "counts" occurs twice in one object'
    ):
        load_baseline(path)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda data: data["conditions"].update(temperature=-1.0), "temperature"),
        (lambda data: data["conditions"].update(top_p=0.0), "top_p"),
        (lambda data: data["conditions"].update(top_p=1.5), "top_p"),
        (lambda data: data["conditions"].update(depth=-1), "depth"),
        (lambda data: data["conditions"].update(k=0), "k"),
        (lambda data: data["environment"].update(threads=-1), "threads"),
        (lambda data: data.update(repeats=0), "repeats"),
        (
            lambda data: data.update(costs={"target_ms": 1.0, "verify_ms": -1.0, "draft_ms": 1.0}),
            "verify_ms",
        ),
        (
            lambda data: data.update(
                costs={"target_ms": 1.0, "verify_ms": 1.0, "draft_ms": 1.0, "relative_error": -0.1}
            ),
            "error",
        ),
        (lambda data: data["counts"]["p3"].update(accepted=[1, -1, 0]), "p3"),
    ],
)
def test_numbers_out_of_range_are_refused_by_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], name: str
) -> None:
    path = saved(tmp_path, change)
    with pytest.raises(BaselineError, match=r"case\.json:\d+: Expected `(int|float)` ") as caught:
        load_baseline(path)
    line = int(str(caught.value).split("case.json:")[1].split(":")[0])
    assert name in path.read_text().splitlines()[line - 1]


def test_a_p_value_above_one_is_no_evidence(tmp_path: Path) -> None:
    path = tmp_path / "evidence.json"
    path.write_text(
        dumps(
            EvidenceFile(
                schema=SCHEMA,
                baseline="baseline",
                runs=(AccumulatedRun(1.5, record().fingerprints, record().counts),),
            )
        )
    )
    with pytest.raises(
        BaselineError, match=r"Expected `float` <= 1.0 - at `\$.nights\[...\].p_value`|nights\[0\]"
    ):
        load(path, EvidenceFile)


def test_a_record_of_another_case_is_refused(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path)
    write_all({store.record_path(case()): dumps(record(case=case(k=4).name))})
    with pytest.raises(BaselineError, match=rf"belongs to case draft-k4-depth0-t1; {CURE}"):
        store.record(case())


@pytest.mark.parametrize(
    "change", [{"temperature": 0.0}, {"seed": 1}, {"new_tokens": 65}, {"top_k": 5}, {"top_p": 0.5}]
)
def test_texts_of_other_settings_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    store, (name,) = BaselineStore(tmp_path), change
    write_all({store.texts_path(case().texts): dumps(text_set(**change))})
    with pytest.raises(
        BaselineError, match=rf"holds texts of {name} .*, but its file name means .*; {CURE}"
    ):
        store.texts(case().texts)


def test_files_of_schema_1_are_read_as_they_are(tmp_path: Path) -> None:
    old = record(schema=1, seed=None)
    path = tmp_path / "case.json"
    path.write_text(dumps(old))
    assert '"digest"' not in path.read_text()
    assert load_baseline(path) == old
