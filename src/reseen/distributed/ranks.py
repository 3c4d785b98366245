"""The processes that train together, numbered from 0 (torchrun's word is rank), and what they tell each other.

Every process runs the same program on its share of the images. What follows from all of them is gathered in the order
of the ranks, so that it is what one process would have; what is decided once is decided by the first and told to
the others. Alone, each function here returns what it is given.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from reseen.device import resolve_device
from reseen.errors import ReseenError
from reseen.files import from_json, to_json

# A process that dies closes its connections, which ends the collectives of the others at once. Time-outs are for a
# machine that closes nothing, one without power. In a step nobody waits for another's long work, so half an hour
# (torch's own for gloo) is by how much a share may take longer than another.
STEP_LIMIT = timedelta(minutes=30)
# The others wait while the first clusters, scores or writes: longer than any work.
WAIT_LIMIT = timedelta(days=1)

CPU = torch.device("cpu")
Value = TypeVar("Value", bound="NDArray[Any] | str | float | None")  # and so bool and int


@dataclass(frozen=True)
class Ranks:
    """This process (``rank``, its place ``local`` among the ``local_ranks`` of its machine) of ``ranks`` in all.

    ``device`` is where it computes, ``cards`` the group of torch.distributed that speaks between CUDA devices. CPU
    tensors go through the default group (gloo). Both give up after a share's time; ``wait_group`` (gloo) does
    not, and waits without turning a core.
    """

    rank: int = 0
    ranks: int = 1
    local: int = 0
    local_ranks: int = 1
    device: torch.device = CPU
    cards: Any = None
    wait_group: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that prints, writes and scores."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.ranks == 1

    def on(self, device: str) -> Ranks:
        """The same on its device: alone what ``device`` says, together ``auto`` and ``cuda`` mean the own card.

        Raises:
            ReseenError: no such device, one card for several processes, or unlike devices in unlike processes.
        """
        if self.alone:
            return replace(self, device=resolve_device(device))
        own = resolve_device(device)
        if own.type == "cuda":
            if device not in ("auto", "cuda"):
                raise ReseenError(f"train.device is {device} for {self.ranks} processes: set auto or cpu")
            found = torch.cuda.device_count()
            if self.local >= found:
                raise ReseenError(
                    f"process {self.rank + 1} has no card of its own ({found} here): start as many processes as "
                    "there are cards (torchrun --nproc-per-node), or set train.device=cpu"
                )
            own = torch.device("cuda", self.local)
            torch.cuda.set_device(own)
        self.agree(own.type, "computes on another kind of device", "set train.device=cpu")
        cards = dist.new_group(backend="nccl", timeout=STEP_LIMIT) if own.type == "cuda" else None
        return replace(self, device=own, cards=cards)

    def shares(self, count: int, block: int = 1) -> list[slice]:
        """``range(count)`` dealt out: one contiguous slice per rank, in their order, borders at multiples of ``block``.

        Whole blocks keep the batches of an embedding what they are in one process, and so every bit of it.
        """
        blocks = -(-count // block)
        edges = [min(rank * blocks // self.ranks * block, count) for rank in range(self.ranks + 1)]
        return [slice(start, stop) for start, stop in itertools.pairwise(edges)]

    def share(self, count: int, block: int = 1) -> slice:
        """This process's slice of :meth:`shares`."""
        return self.shares(count, block)[self.rank]

    def sizes(self, count: int, block: int = 1) -> list[int]:
        """How many rows each process has of :meth:`shares`."""
        return [share.stop - share.start for share in self.shares(count, block)]

    def gather_rows(self, part: Tensor, sizes: Sequence[int]) -> Tensor:
        """Rows ``[sizes[rank], ...]`` of every process, one below the other: ``[sum(sizes), ...]`` on each of them."""
        if self.alone:
            return part
        part = part.detach().contiguous()
        whole = part.new_empty((sum(sizes), *part.shape[1:]))
        if len(set(sizes)) == 1:
            dist.all_gather_into_tensor(whole, part, group=self._group(whole))
            return whole
        for rank, rows in enumerate(torch.split(whole, list(sizes))):
            if rank == self.rank:
                rows.copy_(part)
            if len(rows):
                dist.broadcast(rows, rank, group=self._group(rows))
        return whole

    def broadcast(self, make: Callable[[], Value]) -> Value:
        """What the first process makes, an array, a text, a number or None, in all; or its :class:`ReseenError`.

        Meanwhile the others wait, however long, so it has their threads of this machine as well.
        """
        if self.alone:
            return make()
        header: dict[str, Any] = {}
        array = np.empty(0)
        if self.first:
            try:
                with _threads(self.local_ranks):
                    value = make()
                if isinstance(value, np.ndarray):
                    array = np.ascontiguousarray(value)
                    header = {"type": array.dtype.str, "shape": value.shape}
                else:
                    header = {"value": value}
            except ReseenError as error:
                header = {"error": str(error)}
        header = from_json(self._bytes(np.frombuffer(to_json(header).encode(), dtype=np.uint8)).tobytes())
        if "error" in header:
            raise ReseenError(header["error"])
        if "value" in header:
            return cast(Value, header["value"])
        data = self._bytes(array.reshape(-1).view(np.uint8))
        return cast(Value, data.view(header["type"]).reshape(header["shape"]))

    def wait(self) -> None:
        """Go on when all are here: after work that the first process does alone, and that may take long."""
        if not self.alone:
            dist.barrier(group=self.wait_group)

    def send_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Make ``tensors`` what they are in the first process, in place."""
        if not self.alone:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), 0, group=self._group(tensor))

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of ``tensor`` over the processes."""
        if self.alone:
            return tensor
        total = tensor.detach().clone()
        dist.all_reduce(total, group=self._group(total))
        return total / self.ranks

    def agree(self, text: str, problem: str, remedy: str) -> None:
        """Check that ``text`` is the same in every process, else say who has the ``problem`` and the ``remedy``."""
        if self.alone:
            return
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        own = torch.frombuffer(bytearray(digest), dtype=torch.int64)
        other = torch.nonzero(self.gather_rows(own, [1] * self.ranks) != self._first_of(own))
        if len(other):
            raise ReseenError(
                f"process {int(other[0]) + 1} of {self.ranks} {problem} than process 1: {remedy}"
            )

    def _first_of(self, tensor: Tensor) -> Tensor:
        told = tensor.clone()
        self.send_from_first([told])
        return told

    def _bytes(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The first process's bytes."""
        length = torch.tensor([len(data)])
        dist.broadcast(length, 0, group=self.wait_group)
        told = torch.from_numpy(data.copy()) if self.first else torch.empty(int(length), dtype=torch.uint8)
        if len(told):
            dist.broadcast(told, 0, group=self.wait_group)
        return cast("NDArray[np.uint8]", told.numpy())

    def _group(self, tensor: Tensor) -> Any:
        return self.cards if tensor.is_cuda else None


ALONE = Ranks()


@contextmanager
def _threads(times: int) -> Iterator[None]:
    """``times`` as many threads inside. What is counted with them does not depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(before * times)
    try:
        yield
    finally:
        torch.set_num_threads(before)
