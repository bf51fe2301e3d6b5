"""Functions that options name: found beside the project or installed, and reported where there is
none.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pytest_specdec.common.errors import RequestError
from pytest_specdec.session.import_by_name import imported

SOURCE = """
class Codec:
    def decode(self, ids):
        return ids

decode = Codec().decode
number = 1
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    (tmp_path / "named_functions").mkdir()
    (tmp_path / "named_functions" / "__init__.py").write_text("")
    (tmp_path / "named_functions" / "inner.py").write_text(SOURCE)
    (tmp_path / "needy.py").write_text("import no_such_codec\n")
    return tmp_path


def of(path: str, root: Path) -> object:
    return imported(path, root, "verifier", "token ids")


def test_a_module_of_the_root_folder_is_found_and_the_path_grows_once(root: Path) -> None:
    function = imported("named_functions.inner:decode", root, "verifier", "token ids")
    assert function([1, 2]) == [1, 2]
    assert of("named_functions.inner:Codec", root) is sys.modules["named_functions.inner"].Codec
    assert sys.path.count(str(root)) == 1


def test_an_installed_one_too(root: Path) -> None:
    assert imported("math:sqrt", root, "verifier", "token ids")(9) == 3


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("nowhere:decode", "No module named 'nowhere'; name module:function as Python imports it"),
        (
            "named_functions.inner:encode",
            "has no attribute 'encode'; name module:function as Python imports it",
        ),
        ("named_functions.inner:number", "is not a function; name one of token ids"),
        ("needy:decode", "No module named 'no_such_codec'; name module:function"),
    ],
)
def test_what_is_not_a_function_is_reported_with_the_option(
    root: Path, path: str, complaint: str
) -> None:
    with pytest.raises(RequestError, match=f"--specdec-verifier={path}.*{complaint}"):
        of(path, root)


def test_an_error_of_the_module_itself_is_its_own(root: Path) -> None:
    (root / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        of("broken:decode", root)
