"""Seeds as words of a command line."""

from collections.abc import Collection


def seed_numbers(words: list[str]) -> list[int]:
    """`0..19` (both ends count) and plain numbers, in rising order. Raises ValueError."""
    found: set[int] = set()
    for word in words:
        first, dots, last = word.partition("..")
        numbers = range(int(first), int(last if dots else first) + 1)
        if not numbers or numbers[0] < 0:
            raise ValueError(f"{word}: FIRST..LAST with 0 <= FIRST <= LAST, or a number >= 0")
        found |= set(numbers)
    return sorted(found)


def seed_words(seeds: Collection[int]) -> list[str]:
    """The words that `seed_numbers` reads as these."""
    found = sorted(set(seeds))
    whole = found == list(range(found[0], found[-1] + 1)) and len(found) > 1
    return [f"{found[0]}..{found[-1]}"] if whole else list(map(str, found))
