"""Hidden states written by the package speculators: its `prepare-data`, `generate-offline-data` and
the data set of its trainer.

It runs in an environment of its own, with speculators and without this project:

    python speculators_states.py TARGET GIVEN DATA [fp8]

GIVEN holds a file of vLLM's extraction for each text: a server here answers with them as vLLM does,
and speculators makes the folder DATA of them. With `fp8` the server keeps states as the connector
of hs_connectors does. In the end the trainer's data set reads all that was written.
"""

from __future__ import annotations

import http.server
import json
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hs_connectors import FileTransfer
from hs_connectors.fp8_utils import SCALES_KEY, quantize_tensor_to_fp8
from hs_connectors.transfer import FP8Transfer
from safetensors.torch import load_file, save_file
from speculators.__main__ import app
from speculators.train.data import ArrowDataset

Texts = Mapping[tuple[int, ...], Mapping[str, torch.Tensor]]


class Extraction(http.server.BaseHTTPRequestHandler):
    """What speculators asks of `vllm serve` with extraction of hidden states."""

    texts: Texts
    staging: Path
    scaled: bool

    def do_GET(self) -> None:
        self._answer({"object": "list", "data": [{"id": "target", "object": "model"}]})

    def do_POST(self) -> None:
        ids = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
        tensors = dict(self.texts[tuple(ids)])
        if self.scaled:
            states, scales = quantize_tensor_to_fp8(tensors["hidden_states"])
            tensors |= {"hidden_states": states, SCALES_KEY: scales}
        with tempfile.NamedTemporaryFile(dir=self.staging, suffix=".safetensors") as file:
            path = file.name
        save_file(tensors, path)
        Path(f"{path}.lock").touch()
        choice = {"index": 0, "text": "", "finish_reason": "length", "prompt_token_ids": ids}
        self._answer(
            {
                "id": "one",
                "object": "text_completion",
                "created": 0,
                "model": "target",
                "choices": [choice],
                "kv_transfer_params": {"hidden_states_path": path},
            }
        )

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *given: object) -> None:
        """Say nothing."""


def speculators(*words: str) -> None:
    app([*words], standalone_mode=False)


def generate(target: str, texts: Texts, data: Path, *, scaled: bool, scratch: Path) -> None:
    """Write the data set and its states by speculators' own commands."""
    rows = scratch / "texts.jsonl"
    with rows.open("w") as file:
        for ids in texts:
            row = {"input_ids": ids, "loss_mask": [0, *[1] * (len(ids) - 1)]}
            file.write(json.dumps(row) + "\n")
    workers = ("--num-preprocessing-workers", "1")
    speculators(
        "prepare-data", "--model", target, "--data", str(rows), "--output", str(data), *workers
    )
    handler = type("Handler", (Extraction,), {"texts": texts, "staging": scratch, "scaled": scaled})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}/v1"
        # Their check of what was written takes no 8-bit states (torch.aminmax).
        checks = ("--fail-on-error",) if scaled else ("--fail-on-error", "--validate-outputs")
        speculators(
            "generate-offline-data",
            "--preprocessed-data",
            str(data),
            "--endpoint",
            endpoint,
            *checks,
        )
        server.shutdown()


def read(texts: Texts, data: Path, *, scaled: bool) -> None:
    """Read the data set as speculators' trainer does. Raises AssertionError for other states."""
    transfer = (FP8Transfer if scaled else FileTransfer)(data / "hidden_states")
    trained = ArrowDataset(10_000, data, transfer, on_missing="raise")
    assert len(trained) == len(texts)
    for number in range(len(trained)):
        row = trained[number]
        states = texts[tuple(row["input_ids"].tolist())]["hidden_states"]
        if not scaled:
            assert torch.equal(row["hidden_states"], states[:, :-1].flatten(1))
            assert torch.equal(row["verifier_last_hidden_states"], states[:, -1])


def main() -> None:
    target, given, data, *rest = sys.argv[1:]
    kept = [load_file(path) for path in sorted(Path(given).glob("*.safetensors"))]
    texts = {tuple(tensors["token_ids"].tolist()): tensors for tensors in kept}
    scaled = rest == ["fp8"]
    with tempfile.TemporaryDirectory() as scratch:
        generate(target, texts, Path(data), scaled=scaled, scratch=Path(scratch))
    read(texts, Path(data), scaled=scaled)


if __name__ == "__main__":
    main()
