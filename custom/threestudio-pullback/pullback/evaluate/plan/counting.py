"""Counts what a computation costs: launches, synchronisations, FLOPs, bytes moved and the peak of live memory.

The tensors may be real, or without data (`FakeTensorMode`), where nothing is computed or allocated:

    with FakeTensorMode(allow_non_fake_inputs=True), count() as cost:
        solver.solve(fit)
    print(cost.launches, cost.synchronisations, cost.causes)

`tests/claimed_cuda.py` makes tensors that claim to be on CUDA, with PyTorch's CPU build too. A kernel that is no
operator of PyTorch is counted where it is wrapped as one: `torch.library.custom_op` with `register_fake`, without which
tensors that have no data could not pass it. Each call is then one launch, or as many as `LAUNCHES` has for its name. A
kernel of an `autograd.Function` is invisible here; its author calls `cost.launch()`, or makes it an operator.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop

from ...resources import PACKAGE

LAUNCHES: dict[str, int] = {"pullback::march_backward": 5}
"""Kernels of one call at most, by the operator's name ("namespace::name"), where they are not one.

The gradient of a march fills two buffers with zeros, runs one or two kernels, and sums up the networks' or the gain's.
"""

_FREE = {
    "aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided",
    "aten::lift_fresh", "aten::_unsafe_view", "aten::resize_", "aten::set_", "aten::is_pinned", "prim::device",
}  # fmt: skip
"""Operators that launch no kernel, besides those whose result is a view."""

_READS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal"}
"""Operators whose result in Python depends on data."""

_SHAPES = {"aten::nonzero", "aten::masked_select", "aten::bincount"}
"""Operators whose result's shape depends on data."""

_FLOPS: dict[Any, Any] = {**flop_registry, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop}


class Cost(TorchDispatchMode):
    """A mode that counts what runs inside of it; `count` enters it.

    Where tensors have no data, a value that depends on data is answered: a number by `answer`, a mask by true
    everywhere, which is the most that can be. What needs real tensors alone, such as a model's noise levels, is
    computed.

    Args:
        answer: What every number read is.
        device: Where tensors are made without data, in a `FakeTensorMode`; elsewhere they have their data.

    Attributes:
        launches: Kernels on the device: one for each operator that computes something, see `LAUNCHES`.
        operators: Launches by operator.
        synchronisations: Times that the host waits for the device: for a number, a shape, or a copy to or from the
            CPU that is not told to go on.
        causes: Synchronisations by operator.
        places: Synchronisations by the line of this package that asked, as "sampling/space.py:57 render".
        uploads: Copies from the CPU to an accelerator.
        traffic: Bytes that the operators read and write, each operator by itself.
        live: Bytes alive of what was made inside.
        peak: The largest value that `live` had.
        flops: Floating-point operations of products, convolutions and attention: 2 for each multiply-add.
    """

    def __init__(self, answer: float = 1.0, device: str = "cpu") -> None:
        super().__init__()
        self.answer, self.device = answer, device
        self.launches = self.synchronisations = self.uploads = self.flops = self.traffic = self.live = self.peak = 0
        self.operators, self.causes, self.places = Counter[str](), Counter[str](), Counter[str]()
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def launch(self, kernels: int = 1) -> None:
        """Counts kernels that PyTorch does not see."""
        self.launches += kernels

    def wait(self, cause: str) -> None:
        """Counts a synchronisation."""
        self.synchronisations += 1
        self.causes[cause] += 1
        self.places[_caller()] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operator and counts it."""
        name, kwargs = func._schema.name, kwargs or {}
        result, waits = self._run(name, func, args, kwargs)
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        if name in ("aten::_to_copy", "aten::copy_"):
            source, to = inputs[-1].device.type, outputs[0].device.type
            at_once = kwargs.get("non_blocking", len(args) > 2 and args[2])
            upload = source == "cpu" and to != "cpu"
            waits = waits or (source != "cpu" and to == "cpu") or (upload and not at_once)
            self.uploads += upload
        if waits:
            self.wait(name)
        elsewhere = self.device != "cpu" and all(x.device.type == "cpu" for x in inputs + outputs)
        if not (elsewhere or name in _FREE or name in _READS or name.startswith("profiler::") or _is_view(func)):
            kernels = LAUNCHES.get(name, 1)
            self.launches += kernels
            self.operators[name] += kernels
            self.traffic += sum(x.numel() * x.element_size() for x in inputs + outputs)
            if (formula := _FLOPS.get(func._overloadpacket)) is not None:
                self.flops += int(formula(*args, **kwargs, out_val=result))
        for tensor in outputs:
            self._track(tensor)
        return result

    def _run(self, name: str, func: Any, args: Any, kwargs: Any) -> tuple[Any, bool]:
        """The operator's result, and whether the host waits for it."""
        waits, first = name in _READS or name in _SHAPES, args[0] if args else None
        if self._is_real(args, kwargs):
            with _disable_current_modes():
                return func(*args, **kwargs), False
        if name in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index"):
            masks = [x for x in args[1] if x is not None and x.dtype in (torch.bool, torch.uint8)]
            # with one number for all that the mask chooses, PyTorch writes in place without a list of places
            waits = bool(masks) and not (name.startswith("aten::index_put") and args[2].numel() == 1)
            if masks and isinstance(first, FakeTensor):
                return func(first, [place for x in args[1] for place in _everywhere(x)], *args[2:], **kwargs), waits
        if not (isinstance(first, FakeTensor) and waits):
            return func(*args, **kwargs), waits
        if name == "aten::nonzero":
            return first.new_empty((first.numel(), first.ndim), dtype=torch.long), waits
        if name == "aten::bincount":
            weights, least = (*args[1:], *(None, 0)[len(args) - 1 :])
            return first.new_empty((least or first.numel(),), dtype=getattr(weights, "dtype", torch.long)), waits
        if name == "aten::masked_select":
            return first.new_empty((first.numel(),)), waits
        if name != "aten::_local_scalar_dense":
            return True, waits
        kind = bool if first.dtype == torch.bool else float if first.dtype.is_floating_point else int
        return kind(self.answer), waits

    def _is_real(self, args: Any, kwargs: Any) -> bool:
        """Whether an operator in a `FakeTensorMode` is of tensors with data, and gives such."""
        if not _is_without_data():
            return False
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        to = kwargs.get("device") or (inputs[0].device if inputs else torch.get_default_device())
        if any(isinstance(x, FakeTensor) for x in inputs) or torch.device(to).type != "cpu":
            return False
        return bool(inputs) or torch.device(self.device).type != "cpu"

    def _track(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            self._known.add(storage)
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, size: int) -> None:
        self.live -= size


def _is_without_data() -> bool:
    """Whether a `FakeTensorMode` is active."""
    mode = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)  # type: ignore[attr-defined]
    return mode is not None


def _everywhere(index: Tensor | None) -> list[Tensor | None]:
    """The places of a mask that is true everywhere, one index per axis; another index as it is."""
    if index is None or index.dtype not in (torch.bool, torch.uint8):
        return [index]
    return [index.new_empty((index.numel(),), dtype=torch.long) for _ in index.shape]


def _is_view(func: Any) -> bool:
    """Whether the operator only makes another view of its argument."""
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def _caller() -> str:
    """The innermost line of this package, outside of this file, that is being run."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE) and file != Path(__file__):
            return f"{file.relative_to(PACKAGE).as_posix()}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


@contextmanager
def _as_with_data(cost: Cost) -> Iterator[None]:
    """Has tensors without data copied by `deepcopy`, and `tolist` wait once, not once for each number."""

    def tolist(self: FakeTensor) -> Any:
        if not _is_without_data():
            return before(self)
        cost.wait("tolist")
        kind = float if self.dtype.is_floating_point else bool if self.dtype == torch.bool else int
        values: Any = kind(cost.answer)
        for size in reversed(self.shape):
            values = [values] * size
        return values

    def deepcopy(self: Tensor, memo: Any) -> Tensor:
        if not _is_without_data():
            return whole(self, memo)
        memo[id(self)] = self.detach().clone()
        return memo[id(self)]

    before, whole, kinds = FakeTensor.tolist, Tensor.__deepcopy__, (FakeTensor, Tensor)
    setattr(kinds[0], "tolist", tolist)  # noqa: B010
    setattr(kinds[1], "__deepcopy__", deepcopy)  # noqa: B010
    try:
        yield
    finally:
        setattr(kinds[0], "tolist", before)  # noqa: B010
        setattr(kinds[1], "__deepcopy__", whole)  # noqa: B010


@contextmanager
def count(answer: float = 1.0, device: str = "cpu") -> Iterator[Cost]:
    """Counts what runs inside the block, backward passes too; see `Cost` for the arguments."""
    cost = Cost(answer, device)
    with _as_with_data(cost), cost:
        yield cost
