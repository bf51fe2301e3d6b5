"""Prompts with a task about a passage or a thing, to train heads on beside `training_prompts.py`.

    python suites/smollm2/task_prompts.py --texts work/texts --prompts 4096 --into work/tasks.jsonl

Passages are sentences of the target's own answers (`training_texts.py`): they are summarized,
translated, rewritten, asked about and turned into JSON. Code and arithmetic are put together from
the parts below. Nothing here is taken from `prompts.jsonl`, which judges heads.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from training_prompts import TOPICS
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from sampled_texts import read_answers

HERE = Path(__file__).parent
LANGUAGES = ("French", "Spanish", "German", "Italian", "Portuguese")
NAMES = ("Ada", "Omar", "Lena", "Hugo", "Mei", "Ravi", "Clara", "Jonas", "Priya", "Felix")
DOING = (
    "returns the sum of",
    "returns the largest of",
    "counts",
    "sorts",
    "reverses",
    "removes the duplicates from",
    "returns the average of",
    "prints every one of",
    "filters",
    "finds the shortest of",
    "joins",
    "doubles",
    "finds the index of one of",
    "groups",
    "returns the first and the last of",
    "checks whether there are any negative ones in",
    "counts how often each one occurs in",
    "writes to a file",
    "swaps two of",
    "returns every second one of",
)
THINGS = (
    "the numbers in a list",
    "the words of a sentence",
    "the lines of a text file",
    "the keys of a dictionary",
    "the characters of a string",
    "the digits of an integer",
    "the rows of a matrix",
    "the items of a queue",
    "the nodes of a linked list",
    "the prices of an order",
    "the dates in a calendar",
    "the names in a class",
    "the files in a folder",
    "the values of a column",
    "the even numbers below n",
    "the prime numbers up to n",
)
FIELDS = (
    "name",
    "age",
    "city",
    "price",
    "colour",
    "weight",
    "title",
    "year",
    "tags",
    "email",
    "quantity",
    "author",
    "height",
    "country",
    "rating",
    "date",
)
TASKS = {
    "instructions": (
        "Explain this in simple words: {passage}",
        "Give me {small} ideas for {topic}.",
        "What should I know about {topic}? Answer in a short list.",
        "Is this true? Explain your answer. {sentence}",
        "Describe {topic} to someone who has never heard of it.",
        "Write a short story with {topic} and {other}.",
        "Compare {topic} with {other} in a few sentences.",
        "Give advice to someone who wants to learn about {topic}.",
    ),
    "code": (
        "Write a Python function that {doing} {things}.",
        "Write a Python function that {doing} {things}. Include a docstring and an example.",
        "Write a JavaScript function that {doing} {things}.",
        "Write a C++ program that {doing} {things}.",
        "Write a Java method that {doing} {things} and comment each line.",
        "Write a Python class with a method that {doing} {things}.",
        "Show me Python code that {doing} {things}, with a test.",
        "Write an SQL query on a table with the columns {field}, {field_b} and {field_c} that"
        " lists the rows with the highest {field_b}.",
        "Write an HTML page about {topic} with a heading, a list and a link.",
        "Write a bash script that {doing} {things}.",
    ),
    "json": (
        "Extract the facts of this text as JSON: {passage}",
        "Write a JSON object about {topic} with the keys {field}, {field_b} and {field_c}.",
        "Give me a JSON array with {small} objects about {topic}. Each has the keys {field} and"
        " {field_b}.",
        "Put this order into JSON: {name} buys {small} lamps for {large} euros and"
        " {other_small} chairs for {small} euros.",
        "Answer with JSON only, with the keys {field}, {field_b} and {field_c}: {sentence}",
        "Turn these lines into a JSON object:\n{field}: {name}\n{field_b}: {large}\n"
        "{field_c}: {topic}",
        'Add the key "{field}" to this JSON and print all of it:\n{{"{field_b}": {small},'
        ' "{field_c}": "{topic}"}}',
    ),
    "summary": (
        "Summarize this text in one sentence: {long}",
        "Summarize the following: {long}",
        "What does this text say? Answer in two sentences. {long}",
        "Give the main points of this passage as a list: {long}",
        "Write a headline and a one-sentence summary for this text: {long}",
        "Shorten this for a busy reader: {long}",
    ),
    "dialogue": (
        "Write a dialogue between {name} and {name_b} about {topic}.",
        "{name} and {name_b} do not agree about {topic}. Write what they say, {small} lines each.",
        "Answer as a friendly shop assistant: I am looking for something about {topic}.",
        "{name} says: {sentence} What does {name_b} answer? Write their conversation.",
        "Play a teacher and explain {topic} to me, then ask me a question.",
        "Write an interview with an expert on {topic}, with four questions and answers.",
    ),
    "arithmetic": (
        "What is {large} plus {small}? Show your steps.",
        "Work out {small} times {other_small}, step by step.",
        "{name} has {large} euros and spends {small} of them every day. How much is left after"
        " {other_small} days? Show the calculation.",
        "A train goes {large} km in {other_small} hours. What is its average speed?",
        "A rectangle is {small} m long and {other_small} m wide. Find its area and its perimeter.",
        "Solve {other_small}x + {small} = {large}. Write one line for each step.",
        "What is {small} percent of {large}? Explain how you got it.",
        "A book costs {small} dollars and is reduced by {other_small} percent. What is the new"
        " price? Show your steps.",
        "{name}, {name_b} and {name_c} share {large} euros equally. How much does each of them"
        " get?",
        "Find the mean of {small}, {other_small}, {large} and {small_b}.",
    ),
    "translation": (
        "Translate into {language}: {passage}",
        "Translate these sentences into {language}: {passage}",
        "Please give me a {language} translation of this message: {sentence}",
        "Say it in {language}: {sentence}",
        "Write this in {language}, and then again in English: {sentence}",
        "How do you say this in {language}? {sentence}",
    ),
    "rewrite": (
        "Repeat this text word for word: {passage}",
        "Rewrite in the past tense: {passage}",
        "Rewrite in the future tense and change nothing else: {passage}",
        "Copy this text, but write {name} for every person: {passage}",
        "Correct the mistakes in this text and leave everything else as it is: {spoilt}",
        "Add the missing commas, full stops and capital letters: {bare}",
        "Turn this paragraph into a numbered list: {long}",
        "Write this again in a formal and polite style: {passage}",
        "Print these lines in reverse order:\n{lines}",
        "Sort these lines by the alphabet:\n{lines}",
        'Print this text again, but use "{word}" wherever it says "the": {passage}',
    ),
}


def passages(answers: Sequence[str]) -> list[list[str]]:
    """The whole sentences of answers in English prose, answer by answer."""
    found = []
    for answer in answers:
        sentences = re.findall(r"[A-Z][a-z][^.!?\n*`#{}<>=]{24,160}[.!?](?=\s|$)", answer)
        if len(sentences) >= 2:
            found.append(sentences)
    return found


def filled(rng: random.Random, pattern: str, sources: Sequence[Sequence[str]]) -> str:
    """A task with its passage, its things and its numbers drawn."""
    sentences = rng.choice(sources)
    begin = rng.randrange(len(sentences))
    passage = " ".join(sentences[begin : begin + 2])
    fields = rng.sample(FIELDS, 3)
    names = rng.sample(NAMES, 3)
    return pattern.format(
        sentence=sentences[begin],
        passage=passage,
        long=" ".join(sentences[:5]),
        spoilt=_spoilt(rng, passage),
        bare=re.sub(r"[,.;:!?]", "", passage).lower(),
        lines="\n".join(f"- {word}" for word in rng.sample(TOPICS, rng.randint(4, 7))),
        word=rng.choice(("a", "this", "that", "our")),
        topic=rng.choice(TOPICS),
        other=rng.choice(TOPICS),
        doing=rng.choice(DOING),
        things=rng.choice(THINGS),
        language=rng.choice(LANGUAGES),
        field=fields[0],
        field_b=fields[1],
        field_c=fields[2],
        name=names[0],
        name_b=names[1],
        name_c=names[2],
        small=rng.randint(2, 60),
        small_b=rng.randint(2, 60),
        other_small=rng.randint(2, 12),
        large=rng.randint(70, 900),
    )


def tasks(count: int, sources: Sequence[Sequence[str]], seed: int) -> dict[str, str]:
    """The category of each of so many prompts, the categories in turn."""
    rng = random.Random(seed)
    found: dict[str, str] = {}
    for category in itertools.cycle(TASKS):
        if len(found) >= count:
            return found
        found.setdefault(filled(rng, rng.choice(TASKS[category]), sources), category)
    return found


def _spoilt(rng: random.Random, text: str) -> str:
    """The text with two letters swapped in every sixth word or so."""
    words = text.split(" ")
    for index, word in enumerate(words):
        if len(word) > 4 and rng.random() < 1 / 6:
            words[index] = word[:1] + word[2] + word[1] + word[3:]
    return " ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default=str(HERE / "models" / "target"))
    parser.add_argument("--texts", type=Path, required=True, help="a folder of sampled texts")
    parser.add_argument("--prompts", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, required=True)
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.target)
    answers = read_answers(options.texts)
    sources = passages([tokenizer.decode(ids, skip_special_tokens=True) for ids in answers])
    with options.into.open("w", encoding="utf-8") as file:
        for content, category in tasks(options.prompts, sources, options.seed).items():
            messages = [{"role": "user", "content": content}]
            file.write(json.dumps({"category": category, "messages": messages}) + "\n")
    print(f"{options.prompts} prompts on {len(sources)} passages in {options.into}")


if __name__ == "__main__":
    main()
