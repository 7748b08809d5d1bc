"""What the processes of one run do together: means, parts of a list, one voice for a fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

from torch import Tensor, distributed

from lic_train.errors import LicError

T = TypeVar("T")


class Leaving(SystemExit):
    """Ends a rank for a reason that the first one tells.

    Its exit code is 0: by another the launcher would take it for dead and kill the others.
    """

    def __init__(self, code: int = 0) -> None:
        super().__init__(code)


def rank_and_world_size() -> tuple[int, int]:
    """Of torch.distributed; (0, 1) without it."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def mean_over_ranks(values: Tensor) -> Tensor:
    """The same on every rank; not finite where any rank's value is not."""
    world_size = rank_and_world_size()[1]
    if world_size > 1:
        values = values.clone()
        distributed.all_reduce(values)
        values /= world_size
    return values


def gathered(value: T) -> list[T]:
    """Every rank's value, on every rank, in their order; anything that pickles."""
    world_size = rank_and_world_size()[1]
    values: list[Any] = [value] * world_size
    if world_size > 1:
        distributed.all_gather_object(values, value)
    return values


def shared_work(count: int, work: Callable[[range], Sequence[T]]) -> list[T]:
    """``work`` of the numbers 0 ... count - 1 by all ranks together; all get all results.

    Args:
        work: gives equally many results for each number of its range, in that order. What comes
            back is the list that a single process would have made.

    Raises:
        LicError: the first that any rank met; ranks but the first leave silently.
    """
    rank, world_size = rank_and_world_size()
    own, fault = range(rank, count, world_size), None
    results: Sequence[T] = []
    try:
        results = work(own) if own or world_size == 1 else []
    except LicError as error:
        fault = error
    for other in gathered(fault):
        if other is not None:
            raise other if rank == 0 else Leaving
    parts = gathered(list(results))
    each = sum(map(len, parts)) // max(1, count)
    left = [iter(part) for part in parts]
    return [result for i in range(count) for result in islice(left[i % world_size], each)]
