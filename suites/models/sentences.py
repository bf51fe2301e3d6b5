"""What the voice says: sentences from seeded templates, in five kinds."""

from __future__ import annotations

import random

CATEGORIES = ("home", "travel", "weather", "market", "story")

_NAMES = ["mia", "tom", "anna", "leo", "sam", "ivy", "max", "ben"]
_ANIMALS = ["cat", "dog", "fox", "bird", "frog", "bear", "owl", "horse"]
_PLACES = ["garden", "forest", "river", "market", "harbor", "library", "station", "school"]
_THINGS = ["lamp", "apple", "kite", "map", "stone", "letter", "key", "coat"]
_MOODS = ["small", "old", "happy", "quiet", "brave", "hungry", "tired", "clever"]
_COLORS = ["red", "green", "blue", "yellow", "white", "brown"]
_DAYS = ["monday", "tuesday", "friday", "sunday", "tomorrow", "today"]
_NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve"]
_FOODS = ["bread", "cheese", "milk", "fish", "tea", "soup", "rice", "corn"]
_SKIES = ["rain", "snow", "wind", "sun", "fog", "storm"]

_TEMPLATES = {
    "home": (
        "have you seen my {color} {thing}",
        "the {thing} is under the table",
        "{name} put the {thing} near the {color} lamp",
        "please bring me the {color} {thing}",
        "i think {name} took the {thing}",
    ),
    "travel": (
        "the train to the {place} leaves at {number}",
        "we will meet {name} at the {place} on {day}",
        "it is {number} miles from here to the {place}",
        "turn left at the {place} and go on for {number} miles",
    ),
    "weather": (
        "there will be {sky} on {day}",
        "after the {sky} comes the {sky}",
        "the {sky} is over the {place} now",
        "it is {number} degrees and the {sky} is strong",
        "{name} does not like the {sky}",
    ),
    "market": (
        "we need {number} pounds of {food}",
        "the {food} and the {food} cost {number}",
        "{name} sells {food} at the {place}",
        "can i have {number} more of the {color} apples",
        "the best {food} is at the {place}",
    ),
    "story": (
        "the {mood} {animal} went to the {place}",
        "a {mood} {animal} and a {mood} {animal} sat near the {place}",
        "then the {animal} gave the {thing} to {name}",
        "{name} was {mood} and the {animal} was {mood}",
    ),
}
_WORDS = {
    "name": _NAMES,
    "animal": _ANIMALS,
    "place": _PLACES,
    "thing": _THINGS,
    "mood": _MOODS,
    "color": _COLORS,
    "day": _DAYS,
    "number": _NUMBERS,
    "food": _FOODS,
    "sky": _SKIES,
}


def sentence(category: str, rng: random.Random) -> str:
    """One sentence of a kind, in lower case and without its full stop."""
    words = rng.choice(_TEMPLATES[category]).split(" ")
    return " ".join(
        rng.choice(_WORDS[word.strip("{}")]) if word[0] == "{" else word for word in words
    )


def monologue(category: str, sentences: int, rng: random.Random) -> str:
    """Some sentences of a kind, each with its full stop."""
    return " ".join(f"{sentence(category, rng)}." for _ in range(sentences))
