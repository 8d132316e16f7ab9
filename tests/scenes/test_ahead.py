"""A thread that is an item ahead of its consumer."""

import threading
from collections.abc import Iterator

import pytest

from unclouded.scenes.ahead import ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "unclouded-reader"]


def test_items_come_in_their_order_and_the_thread_ends() -> None:
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter(()))) == []
    assert not threads()


def test_the_next_item_is_made_while_the_consumer_has_the_last() -> None:
    made = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in ahead(items()):
        assert all(event.wait(10) for event in made[: number + 2])


def test_an_error_arrives_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(found)
    assert not threads()


def test_closing_it_ends_the_thread_in_the_middle() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 0

    items = ahead(endless())
    assert next(items) == 0
    assert threads()
    items.close()
    assert not threads()
