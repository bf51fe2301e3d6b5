import pytest

from pytest_specdec.session.update_command import shown_command, update_command


@pytest.mark.parametrize(
    ("given", "paths", "kept"),
    [
        ("--specdec-k=8 suites/", ["suites/"], "--specdec-k=8 suites/"),
        ("-q -x --maxfail=1 -n 4 --lf suites/", ["suites/"], "suites/"),
        ("--junitxml=j.xml --junit-xml j.xml --html=a.html suites/ -v", ["suites/"], "suites/"),
        ("--specdec-report=a.html --specdec-report b.json suites/", ["suites/"], "suites/"),
        (
            "--specdec-draft out/step-2000 suites/text",
            ["suites/text"],
            "--specdec-draft out/step-2000 suites/text",
        ),
        ("--specdec-update=new --specdec-prompts 4 --specdec-accumulate a.py", ["a.py"], "a.py"),
        (
            "-m k8 -mk8 -k 'a or b' --rootdir=x -c y.ini a.py::t[k8]",
            ["a.py::t[k8]"],
            "-m k8 -mk8 -k 'a or b' --rootdir=x -c y.ini 'a.py::t[k8]'",
        ),
        ("-p no:cacheprovider --cov pkg suites", ["suites"], "-p no:cacheprovider suites"),
        (
            "--specdec-url=http://u:SECRET@h:1/ --specdec-draft-url http://h/?api_key=SECRET a.py",
            ["a.py"],
            None,
        ),
        ("", [], ""),
    ],
)
def test_only_what_decides_the_measurement_is_kept(
    given: str, paths: list[str], kept: str | None
) -> None:
    import shlex

    command = update_command(shlex.split(given), paths, "changed")
    if kept is None:
        assert "SECRET" not in command
        return
    assert command == " ".join(filter(None, ["pytest", kept, "--specdec-update=changed"]))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            "--specdec-k 8 --specdec-prune suites -q -n2",
            "--specdec-k 8 --specdec-prune suites -q -n2",
        ),
        ("--specdec-url=me:secret@h:8000 suites", "--specdec-url=***@h:8000 suites"),
        ("--specdec-url me:secret@h:8000 suites", "--specdec-url ***@h:8000 suites"),
        ("--api-key=secret --password secret suites", "--api-key=... --password ... suites"),
        (
            "-p no:cacheprovider -k one --junitxml=a.xml",
            "-p no:cacheprovider -k one --junitxml=...",
        ),
    ],
)
def test_reports_show_the_command_without_secrets(given: str, shown: str) -> None:
    command = shown_command(given.split(), ["suites"])
    assert command.replace("'", "") == f"pytest {shown}"
    assert "secret" not in command
