"""Pictures of a failing run's report, taken in a headless Chromium, into docs/pictures/:

    python benchmarks/screenshots.py

The run is that of docs/failing-gate.svg, which is the picture's terminal. Needs the extras `browser`
and `plots`.
"""

from __future__ import annotations

import base64
import html
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
TERMINAL = ROOT / "docs" / "failing-gate.svg"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SHOTS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1100, "height": 1000}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1100, "height": 1000}},
    "phone": {
        "color_scheme": "light",
        "viewport": {"width": 360, "height": 760},
        "device_scale_factor": 2,
    },
}
TOKENS = "tokens"
"""The picture of the texts token by token."""
COMPOSITE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #eef1f4; font: 15px system-ui; }}
main {{ position: relative; width: 1280px; height: 760px; overflow: hidden; }}
figure {{ position: absolute; margin: 0; border-radius: 10px; overflow: hidden;
  box-shadow: 0 8px 30px #0005; background: #fff; }}
img {{ display: block; width: 100%; }}
.terminal {{ left: 30px; top: 30px; width: 700px; height: 450px; }}
.light {{ left: 560px; top: 60px; width: 690px; height: 430px; }}
.tokens {{ left: 30px; top: 500px; width: 760px; }}
.dark {{ left: 640px; top: 400px; width: 420px; height: 330px; }}
.phone {{ left: 1080px; top: 330px; width: 175px; }}
</style><main>{figures}</main>"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = _report(Path(folder))
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        PICTURES.mkdir(exist_ok=True)
        for name, settings in SHOTS.items():
            page = browser.new_page(**settings)
            page.goto(report.as_uri())
            page.screenshot(path=PICTURES / f"report-{name}.png")
        page = browser.new_page(viewport={"width": 900, "height": 700})
        page.goto(report.as_uri())
        page.evaluate("document.querySelector('details').open = true")
        page.locator("p.tokens").first.screenshot(path=PICTURES / f"report-{TOKENS}.png")
        page = browser.new_page(viewport={"width": 1280, "height": 760})
        page.set_content(COMPOSITE.format(figures="".join(map(_figure, _sources().items()))))
        page.wait_for_function("[...document.images].every(image => image.complete)")
        page.screenshot(path=PICTURES / "overview.png")
        browser.close()
    return 0


def _report(folder: Path) -> Path:
    """The report of a run with a worse draft model."""
    draft, report = folder / "worse-draft", folder / "out.html"
    noise = ["benchmarks/add_noise.py", "suites/models/text-draft", str(draft)]
    subprocess.run([sys.executable, *noise], cwd=ROOT, check=True, capture_output=True)
    options = ["--specdec-k=4,8", f"--specdec-draft={draft}", f"--specdec-report={report}"]
    tests = ["suites/text", "-k", "TestDraftModel or draft_model_greedy"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 1 or not report.is_file():
        sys.exit(f"the run did not fail as it should:\n{done.stdout}{done.stderr}")
    report.write_text(report.read_text().replace(html.escape(f"{folder}/"), "/tmp/"))
    return report


def _sources() -> dict[str, tuple[str, bytes]]:
    """Media type and content by name, those behind first."""
    pictures = ("light", TOKENS, "dark", "phone")
    return {
        "terminal": ("image/svg+xml", TERMINAL.read_bytes()),
        **{
            name: ("image/png", (PICTURES / f"report-{name}.png").read_bytes()) for name in pictures
        },
    }


def _figure(item: tuple[str, tuple[str, bytes]]) -> str:
    name, (media_type, content) = item
    source = f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    return f'<figure class="{name}"><img src="{source}"></figure>'


if __name__ == "__main__":
    sys.exit(main())
