"""docs/axes.md: each axis on SmolLM2-135M-Instruct, by the cases that anybody writes.

`python suites/smollm2/build.py exit-20 eagle3` makes the models. Then each part is measured by

    python benchmarks/axes_page.py variants   # int8, int4, and a LoRA adapter trained in 12 steps
    python benchmarks/axes_page.py serving    # template, draft sampling, temperature, drafter
    python benchmarks/axes_page.py targets    # quantised targets, adapters on target and drafter
    python benchmarks/axes_page.py quantised  # targets as torchao and bitsandbytes store them
    python benchmarks/axes_page.py context    # questions alone and after 1,000 letters of a manual
    python benchmarks/axes_page.py long       # questions alone and after 400 to 2,000 tokens of it
    python benchmarks/axes_page.py reasoning  # a template with and without enable_thinking

in a few minutes each on one core, and `python benchmarks/axes_page.py page` writes their tables into
the page. `variants` needs peft, which trains the adapter, and `quantised` torchao and bitsandbytes.
Models and reports lie in suites/smollm2/models/axes, which git ignores.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from marked_page import marks_of, write_lines

from pytest_specdec.report.axes import axis_rows, headers, table
from pytest_specdec.report.words import Phrases

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "suites" / "smollm2" / "models"
WORK = MODELS / "axes"
PAGE = ROOT / "docs" / "axes.md"
PROMPTS = {
    "serving": 24,
    "targets": 12,
    "quantised": 24,
    "context": 12,
    "long": 32,
    "reasoning": 24,
}
NEW_TOKENS = {
    "serving": 40,
    "targets": 24,
    "quantised": 32,
    "context": 24,
    "long": 32,
    "reasoning": 40,
}
LENGTHS = (0, 400, 1000, 2000)
"""Tokens of a manual before a question."""
THINKING = Path(__file__).parent / "thinking_template.jinja"
K = 4
STEPS, RANK, LAYERS = 12, 8, 20

HEAD = """import pytest

MODELS = {models!r} + "/"
COMMON = {{"k": {k}, "new_tokens": {new_tokens}, "prompt_limit": {prompts}, "prompts": "prompts.jsonl"}}
"""
TEST = """
@pytest.mark.specdec({arguments}, **COMMON)
def test_{name}(specdec_run):
    assert specdec_run.acceptance_length > 1
"""
SUITES = {
    "serving": {
        "flags": 'target=MODELS + "target", drafter=MODELS + "exit-20", '
        'template=[{}, {"system_prompt": ""}]',
        "drafts": 'target=MODELS + "target", drafter=MODELS + "exit-20", '
        'drafting=["as-target", "temperature=0.5", "argmax"]',
        "cool": 'target=MODELS + "target", drafter=MODELS + "exit-20", temperature=0.7',
        "head": 'target=MODELS + "target", drafter=MODELS + "eagle3"',
    },
    "targets": {
        "rounded": 'target=[MODELS + "target", MODELS + "axes/target-int8", '
        'MODELS + "axes/target-int4", MODELS + "axes/target-lora"], drafter=MODELS + "exit-20"',
        "both": 'target=[MODELS + "target", MODELS + "axes/target-lora"], '
        'drafter=MODELS + "axes/exit-20-lora"',
    },
    "quantised": {
        "stored": 'target=[MODELS + "target", MODELS + "axes/target-torchao-int8", '
        'MODELS + "axes/target-bnb-int8", MODELS + "axes/target-bnb-nf4"], '
        'drafter=MODELS + "eagle3"',
    },
    "context": {
        "model": 'target=MODELS + "target", drafter=MODELS + "exit-20"',
        "lookup": 'target=MODELS + "target", drafter="prompt-lookup"',
    },
    "long": {
        "head": 'target=MODELS + "target", drafter=MODELS + "eagle3"',
        "lookup": 'target=MODELS + "target", drafter="prompt-lookup"',
    },
    "reasoning": {
        "thinking": 'target=MODELS + "axes/target-thinking", drafter=MODELS + "eagle3", '
        'template=[{"enable_thinking": False}, {"enable_thinking": True}]',
    },
}


def variants() -> None:
    """Train the adapter, and write the variants of target and drafter."""
    WORK.mkdir(exist_ok=True)
    adapter = WORK / "adapter"
    if not adapter.exists():
        train(adapter)
    wanted = {
        "target-int8": ("target", ["--weights", "int8"]),
        "target-int4": ("target", ["--weights", "int4"]),
        "target-lora": ("target", ["--adapter", str(adapter)]),
        "exit-20-lora": ("exit-20", ["--adapter", str(adapter)]),
    }
    for name, (model, options) in wanted.items():
        shutil.rmtree(WORK / name, ignore_errors=True)
        run(
            "-m", "pytest_specdec", "variant", str(MODELS / model), *options, "-o", str(WORK / name)
        )


def train(folder: Path) -> None:
    """A LoRA adapter of the first 20 layers, which target and drafter share, on Python's manual."""
    import pydoc_data.topics

    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "target")
    model = AutoModelForCausalLM.from_pretrained(MODELS / "target", dtype=torch.float32)
    config = peft.LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=["q_proj", "v_proj", "down_proj"],
        layers_to_transform=list(range(LAYERS)),
        task_type="CAUSAL_LM",
    )
    model = peft.get_peft_model(model, config)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=2e-3)
    topics = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)]
    rows = [ids for topic in topics if len(ids := tokenizer(topic)["input_ids"]) >= 96]
    for step in range(STEPS):
        batch = torch.tensor([rows[(3 * step + at) % len(rows)][:96] for at in range(3)])
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {float(loss):.3f}", flush=True)
    model.save_pretrained(folder, safe_serialization=True)


def quantise() -> None:
    """Save the target as quantising packages do, whose methods transformers loads on a CPU."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

    names = ("torchao-int8", "bnb-int8", "bnb-nf4")
    if all((WORK / f"target-{name}").exists() for name in names):
        return
    from torchao.quantization import Int8WeightOnlyConfig

    configs = (
        TorchAoConfig(Int8WeightOnlyConfig()),
        BitsAndBytesConfig(load_in_8bit=True),
        BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    )
    for name, config in zip(names, configs, strict=True):
        folder = WORK / f"target-{name}"
        model = AutoModelForCausalLM.from_pretrained(
            MODELS / "target",
            dtype=torch.bfloat16,
            quantization_config=config,
            device_map="cpu",
        )
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        copy_tokenizer(folder)


def with_thinking() -> None:
    """The target with a template that has a reasoning mode, in the manner of Qwen3's."""
    folder = WORK / "target-thinking"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copy_tokenizer(folder)
    shutil.copyfile(THINKING, folder / "chat_template.jinja")
    shutil.copyfile(MODELS / "target" / "config.json", folder / "config.json")
    (folder / "model.safetensors").symlink_to((MODELS / "target" / "model.safetensors").resolve())


def copy_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(MODELS / "target" / name, folder / name)
    shutil.copyfile(MODELS / "target" / "chat_template.jinja", folder / "chat_template.jinja")


MADE = {"quantised": quantise, "reasoning": with_thinking}
"""What makes the models of a part."""


def measure(name: str) -> None:
    """Write a suite and run it by pytest, as a user does."""
    if name in MADE:
        MADE[name]()
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    if name == "context":
        write_letters(folder / "prompts.jsonl")
    elif name == "long":
        write_contexts(folder / "prompts.jsonl")
    else:
        shutil.copyfile(ROOT / "suites" / "smollm2" / "prompts.jsonl", folder / "prompts.jsonl")
    tests = [TEST.format(name=test, arguments=given) for test, given in SUITES[name].items()]
    head = HEAD.format(models=str(MODELS), k=K, new_tokens=NEW_TOKENS[name], prompts=PROMPTS[name])
    (folder / "test_axes.py").write_text(head + "".join(tests))
    options = ["--specdec-report=report.json", *["--specdec-dtype=bfloat16"] * (name == "long")]
    run(*["-m", "pytest", "-q", "-p", "no:cacheprovider"], *options, str(folder), cwd=folder)


def write_letters(path: Path) -> None:
    """Questions alone, and each after a part of Python's manual."""
    import pydoc_data.topics

    topics = pydoc_data.topics.topics
    long = [topics[name] for name in sorted(topics) if len(topics[name]) > 1200]
    lines = (ROOT / "suites" / "smollm2" / "prompts.jsonl").read_text().splitlines()
    with path.open("w") as file:
        for place, line in enumerate(lines[: PROMPTS["context"] // 2]):
            question = json.loads(line)["messages"][-1]["content"]
            for before in ("", f"{long[place][:1000]}\n\n"):
                messages = [{"role": "user", "content": f"{before}{question}"}]
                file.write(json.dumps({"category": "manual", "messages": messages}) + "\n")


def write_contexts(path: Path) -> None:
    """Questions alone, and each after parts of Python's manual of several lengths."""
    import pydoc_data.topics

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(MODELS / "target" / "tokenizer.json"))
    topics = pydoc_data.topics.topics
    whole = "\n\n".join(topics[name] for name in sorted(topics))
    ids = tokenizer.encode(whole).ids
    lines = (ROOT / "suites" / "smollm2" / "prompts.jsonl").read_text().splitlines()
    with path.open("w") as file:
        for place, line in enumerate(lines[: PROMPTS["long"] // len(LENGTHS)]):
            question = json.loads(line)["messages"][-1]["content"]
            for length in LENGTHS:
                begin = place * max(LENGTHS)
                before = tokenizer.decode(ids[begin : begin + length])
                content = f"{before}\n\n{question}" if length else question
                messages = [{"role": "user", "content": content}]
                file.write(json.dumps({"category": "manual", "messages": messages}) + "\n")


def run(*arguments: str, cwd: Path = ROOT) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, check=True)


def page() -> None:
    """The tables of the parts that were measured."""
    say, lines = Phrases("en"), []
    for name in SUITES:
        report = WORK / name / "report.json"
        if not report.exists():
            continue
        rows = table(axis_rows(json.loads(report.read_text())["cases"]), say)
        lines += ["", f"`python benchmarks/axes_page.py {name}`:", ""]
        heads = [say("axes_fixed"), *headers(say)]
        lines += [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        lines += [f"| {' | '.join(words)} |".replace("*", "\\*") for words in rows]
    write_lines(PAGE, marks_of("axes_page.py"), "\n".join(lines[1:]))


if __name__ == "__main__":
    for part in sys.argv[1:] or ("variants", *SUITES, "page"):
        {"variants": variants, "page": page}.get(part, lambda part=part: measure(part))()
