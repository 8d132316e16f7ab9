"""Work that overlaps: a thread makes the next item while its consumer is busy with the last."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.1


class _Failure(NamedTuple):
    error: BaseException


def ahead(items: Iterator[T], depth: int = 1) -> Generator[T, None, None]:
    """The same items, made by a thread that is up to `depth` items ahead; its errors are raised here.

    Closing the generator stops the thread.
    """
    ready: queue.Queue[T | _Failure | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: T | _Failure | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(None)
        except BaseException as error:  # handed to the consumer
            put(_Failure(error))

    thread = threading.Thread(target=work, name="unclouded-reader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()
        thread.join()
