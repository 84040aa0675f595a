"""A small language model: an interpolated word n-gram with a cache of the prompt, trained in well under a second.

The probability of a word given its history mixes the relative frequencies of all orders (Jelinek-Mercer smoothing, with
the weight of an order growing with how often its history was seen, after Witten and Bell). The prompt chooses the first
sentence and pulls the words that follow towards its own. Same text, prompt and seed: same answer.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*|\d+|[.,?!:;]")
_SENTENCE_END = frozenset(".?!")
_NO_SPACE_BEFORE = frozenset(".,?!:;")
_START = "<s>"
_NOVELTY = 0.15
"""How much of an order's weight goes to shorter histories, per kind of word seen after its history."""

_PROMPT_PULL = 6.0
"""How many times likelier a word becomes that the prompt used and most sentences do not."""


def tokenize(text: str) -> list[str]:
    """Words, numbers and punctuation marks of a text, in order."""
    return _WORD.findall(text)


class LanguageModel:
    """An n-gram model of a text."""

    def __init__(self, text: str, *, order: int = 4) -> None:
        self.order = order
        tokens = [_START] * (order - 1)
        for paragraph in text.split("\n\n"):
            tokens.extend(tokenize(paragraph))
        self._followers: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for end in range(order - 1, len(tokens)):
            for length in range(order):
                self._followers[tuple(tokens[end - length : end])][tokens[end]] += 1
        self._vocabulary = self._followers[()]
        self._rare = {word.lower() for word, count in self._vocabulary.items() if count <= 12 and len(word) > 3}
        self._openings = sorted(
            {
                tuple(tokens[i : i + order - 1])
                for i in range(order - 1, len(tokens) - order)
                if tokens[i - 1] in _SENTENCE_END
            }
        )

    def _distribution(self, history: tuple[str, ...], pull: frozenset[str]) -> tuple[list[str], list[float]]:
        """Candidates for the next word with their weights: all orders whose history was seen, mixed."""
        weights: dict[str, float] = {}
        share = 1.0
        for length in range(min(self.order - 1, len(history)), 0, -1):
            followers = self._followers.get(history[-length:])
            if not followers:
                continue
            seen, kinds = followers.total(), len(followers)
            confidence = seen / (seen + _NOVELTY * kinds)
            for word, count in followers.items():
                weights[word] = weights.get(word, 0.0) + share * confidence * count / seen
            share *= 1 - confidence
            if share < 0.02:
                break
        if not weights:
            weights = {word: float(count) for word, count in self._vocabulary.items()}
        words = sorted(weights)
        return words, [weights[word] * (_PROMPT_PULL if word.lower() in pull else 1.0) for word in words]

    def _opening(self, pull: frozenset[str], chance: random.Random) -> tuple[str, ...]:
        """The first words of a sentence of the text: one of those that share most words with the prompt."""
        shared = [sum(word.lower() in pull for word in opening) for opening in self._openings]
        most = max(shared)
        return chance.choice([opening for opening, count in zip(self._openings, shared, strict=True) if count == most])

    def generate(self, prompt: str, *, max_tokens: int = 80, seed: int = 0) -> Iterator[str]:
        """Yield up to ``max_tokens`` pieces that, joined, read as an answer; it ends with a sentence where it can."""
        chance = random.Random(f"{seed}:{prompt}")
        pull = frozenset(word.lower() for word in tokenize(prompt)) & self._rare
        answer = list(self._opening(pull, chance))
        for produced in range(max_tokens):
            if produced >= len(answer):
                words, weights = self._distribution(tuple(answer[1 - self.order :]), pull)
                answer.append(chance.choices(words, weights)[0])
            word = answer[produced]
            yield word if produced == 0 or word in _NO_SPACE_BEFORE else f" {word}"
            if word in _SENTENCE_END and produced > max_tokens * 0.7:
                return
