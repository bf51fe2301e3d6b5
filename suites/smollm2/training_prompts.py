"""Chat prompts to train heads on, which the target writes itself.

    python suites/smollm2/training_prompts.py --prompts 6000 --into work/prompts.jsonl

Each prompt begins with one of the openings below, of the eight categories of `prompts.jsonl`, and
the target goes on in the user's turn until it ends it (Xu et al., arXiv 2406.08464). Prompts of
`prompts.jsonl` itself are left out: the suite judges heads on texts that they have not seen.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from pytest_specdec import load_model

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from sampled_texts import SamplingPlan, sample_texts

HERE = Path(__file__).parent
BATCH = 256
TURN = 48
"""Most tokens of a prompt after its opening."""

TOPICS = (
    "a lighthouse",
    "bees",
    "the water cycle",
    "a small bakery",
    "chess",
    "the moon",
    "bicycles",
    "volcanoes",
    "a library",
    "the human heart",
    "rice",
    "a football match",
    "recycling",
    "trains",
    "coffee",
    "a school trip",
    "whales",
    "glass",
    "a birthday party",
    "electric cars",
    "gardens",
    "the Roman army",
    "sleep",
    "maps",
    "penguins",
    "bread",
    "a hotel",
    "the internet",
    "wool",
    "a mountain hike",
    "cats",
    "clocks",
    "rivers",
    "a job interview",
    "tea",
    "robots",
    "honey",
    "the desert",
    "a wedding",
    "money",
    "dinosaurs",
    "paper",
    "a hospital",
    "music lessons",
    "salt",
    "bridges",
    "forests",
    "a lost dog",
    "satellites",
    "chocolate",
    "the ocean",
    "a new phone",
    "farming",
    "elections",
    "snow",
    "museums",
)

OPENINGS = {
    "instructions": (
        "Give three tips for",
        "How do I",
        "Explain how {topic}",
        "What is the best way to",
        "Write a short paragraph about {topic}",
        "Why",
        "What",
        "List five facts about {topic}",
        "Describe {topic}",
        "Write a short story about {topic}",
        "Compare {topic} and {other}",
        "Give step-by-step instructions for",
        "Who",
        "Suggest a name for",
        "Write a poem about {topic}",
        "Can you explain",
    ),
    "code": (
        "Write a Python function that",
        "Write a JavaScript function that",
        "Write a Python class for",
        "What does this Python code print?\n\n",
        "Write a SQL query that",
        "Fix the bug in this function:\n\ndef",
        "Write a C function that",
        "Write a unit test for a function that",
        "Implement in Python:",
        "Write a Python script that reads",
        "Write a loop that",
        "Explain this code:\n\nfor",
        "Write a Python function that takes a list of numbers and",
        "Write a Python function that takes a string and",
        "Write a function in Java to",
        "Complete this function:\n\ndef",
    ),
    "json": (
        "Write a JSON object that describes {topic}",
        "Return a JSON array of",
        "Give me JSON with the keys name, price and",
        "Convert to JSON: name",
        "Write a JSON object for a person with",
        "Extract the fields as JSON from this sentence:",
        "Write a JSON list of three",
        "Describe {topic} as a JSON object with the keys",
        "Create a JSON configuration for",
        "Turn this table into JSON:",
        "Write a JSON schema for",
        "Answer in JSON: what is",
    ),
    "summary": (
        "Summarize in one sentence:",
        "Summarize the following text in two sentences: The",
        "What is the main point of this passage? {topic}",
        "Give a short summary of this article about {topic}:",
        "Write a headline for this story:",
        "Summarize this email: Dear",
        "Shorten this text to one sentence: In",
        "Write a summary of the following meeting notes:",
        "What are the key points of this text? A",
        "Summarize in a few words: {topic}",
    ),
    "dialogue": (
        "Write a dialogue between",
        "Continue this conversation.\n\nAnna: Hello! How was your day?\nBen:",
        "Write a conversation between a customer and",
        "Hi! I",
        "Write a short dialogue about {topic}",
        "Continue the dialogue:\n\nTeacher:",
        "Play the role of",
        "Write a phone call between",
        "I feel",
        "Write an interview with",
        "Two friends talk about {topic}. Write",
        "Hello, can you help me with",
    ),
    "arithmetic": (
        "What is {small} plus {large}?",
        "What is {small} times {other_small}? Show your steps.",
        "A shop sells",
        "If a train",
        "Calculate {large} minus {small}",
        "What is {small} percent of",
        "Tom has {small} apples and",
        "A rectangle is {small} cm long and",
        "Solve for x: {small}x +",
        "How many minutes are in",
        "Divide {large} by",
        "The sum of",
        "Find the average of {small}, {other_small} and",
        "A recipe needs",
    ),
    "translation": (
        "Translate into French: The",
        "Translate into Spanish: I",
        "Translate this sentence into German: She",
        "How do you say",
        "Translate into Italian: We",
        "Translate to English: Je",
        "Translate to English: El",
        "Translate into French: Where",
        "What does the Spanish word",
        "Translate into Spanish: {topic}",
        "Translate the following into French: {topic}",
        "Translate into Portuguese: My",
    ),
    "rewrite": (
        "Make this sentence more polite:",
        "Rewrite in the past tense:",
        "Correct the spelling and repeat the sentence: Teh",
        "Repeat this text and replace every",
        "Rewrite this sentence in the passive voice: The",
        "Copy this list in alphabetical order:",
        "Rewrite in formal English:",
        "Fix the grammar in this sentence: She",
        "Rewrite this paragraph so that it is shorter: {topic}",
        "Turn this sentence into a question: The",
        "Repeat the following text word for word:",
        "Add punctuation to this text:",
    ),
}


def opening(rng: random.Random, pattern: str) -> str:
    """An opening with its topics and numbers drawn."""
    return pattern.format(
        topic=rng.choice(TOPICS),
        other=rng.choice(TOPICS),
        small=rng.randint(2, 99),
        other_small=rng.randint(2, 30),
        large=rng.randint(100, 999),
    )


def openings(count: int, seed: int) -> list[tuple[str, str]]:
    """(category, opening) of as many prompts, the categories in turn."""
    rng = random.Random(seed)
    categories = itertools.islice(itertools.cycle(OPENINGS), count)
    return [(name, opening(rng, rng.choice(OPENINGS[name]))) for name in categories]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", type=Path, default=HERE / "models" / "target")
    parser.add_argument("--prompts", type=int, default=6000, help="openings to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, required=True)
    options = parser.parse_args()
    target = load_model(str(options.target), dtype="bfloat16")
    begun = openings(options.prompts, options.seed)
    begun = begun[: len(begun) // BATCH * BATCH] or begun
    ids = [_open_turn(target.tokenizer, text) for _, text in begun]
    plan = SamplingPlan(new_tokens=TURN, temperatures=(1.0,), batch=BATCH, seed=options.seed)
    texts = sample_texts(target, ids, options.into.with_suffix(".turns"), plan)
    judged = {
        json.loads(line)["messages"][0]["content"]
        for line in (HERE / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    }
    kept: dict[str, str] = {}
    for (category, begin), prompt, text in zip(begun, ids, texts, strict=True):
        content = begin + target.tokenizer.decode(text[len(prompt) : -1])
        if text[-1] == target.tokenizer.eos_token_id and content not in judged:
            kept.setdefault(content, category)
    with options.into.open("w") as file:
        for content, category in kept.items():
            messages = [{"role": "user", "content": content}]
            file.write(json.dumps({"category": category, "messages": messages}) + "\n")
    print(f"{len(kept)} prompts in {options.into}")


def _open_turn(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """A chat whose user has written this and goes on."""
    chat = [{"role": "user", "content": text}]
    begun = tokenizer.apply_chat_template(chat, tokenize=False, continue_final_message=True)
    ids: list[int] = tokenizer(begun, add_special_tokens=False)["input_ids"]
    return ids


if __name__ == "__main__":
    main()
