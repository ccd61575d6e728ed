"""The counter of launches, synchronisations, FLOPs and memory, on sums that can be done by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from pullback.evaluate.plan import counting
from pullback.evaluate.plan.counting import count
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F


def tensors(fake: bool) -> FakeTensorMode | torch.device:
    return FakeTensorMode(allow_non_fake_inputs=True) if fake else torch.device("cpu")


@pytest.mark.parametrize("fake", [False, True])
def test_a_product_has_two_flops_for_each_multiply_add(fake):
    with tensors(fake):
        a, b = torch.empty(3, 5), torch.empty(5, 7)
        with count() as cost:
            c = a @ b
    assert cost.flops == 2 * 3 * 5 * 7 and cost.launches == 1
    assert cost.traffic == 4 * (15 + 35 + 21) and cost.peak == cost.live == 4 * c.numel()


@pytest.mark.parametrize("fake", [False, True])
def test_attention_and_convolution_count_with_their_backward_pass(fake):
    with tensors(fake):
        q = torch.zeros(2, 4, 16, 8, requires_grad=True)
        image, kernel = torch.zeros(1, 3, 8, 8), torch.zeros(5, 3, 3, 3, requires_grad=True)
        with count() as attention:
            F.scaled_dot_product_attention(q, q, q).sum()
        with count() as forward:
            out = F.conv2d(image, kernel, padding=1).sum()
        with count() as backward:
            out.backward()
    assert attention.flops == 2 * 2 * (2 * 4 * 16 * 16 * 8)  # the scores, and the sums that they weigh
    assert forward.flops == 2 * 64 * 5 * 27 and backward.flops == forward.flops


@pytest.mark.parametrize("fake", [False, True])
def test_views_and_empty_tensors_launch_nothing(fake):
    with tensors(fake), count() as cost:
        x = torch.empty(4, 6)
        y = x.view(6, 4).t()[1:].unsqueeze(0).detach().expand(3, 3, 6)
    assert cost.launches == 0 and y.shape == (3, 3, 6) and cost.peak == 4 * 24


@pytest.mark.parametrize("fake", [False, True])
def test_the_peak_is_of_what_lives_at_one_time(fake):
    with tensors(fake), count() as cost:
        x = torch.zeros(1000)
        x = x + 1
        x.add_(1)
        y = x[:10]
        del x
        z = torch.zeros(500)
    assert cost.peak == 8000 and cost.live == 4000 + 2000
    del y, z
    assert cost.live == 0


@pytest.mark.parametrize("fake", [False, True])
def test_what_depends_on_data_is_a_synchronisation(fake):
    with tensors(fake):
        x, mask = torch.ones(6), torch.ones(6, dtype=torch.bool)
        with count() as cost:
            values = x.sum().item(), bool(mask.all()), int(x[0])
            shapes = mask.nonzero().shape, x[mask].shape, x.masked_select(mask).shape
            x[mask] = x[mask]
        with count() as none:
            x[mask] = 0.0
            x.clamp_(0, 1).masked_fill_(mask, 2.0)
            torch.where(mask, x, -x)
    assert values == (1.0 if fake else 6.0, True, 1)
    assert shapes == ((6, 1), (6,), (6,))
    with tensors(fake), count() as lists:
        numbers = x[:, None].tolist(), mask.tolist()
    assert numbers == ([[1.0 if fake else 2.0]] * 6, [True] * 6)
    assert lists.synchronisations == (2 if fake else 0)  # a CPU's numbers are read in place
    assert cost.places == {"elsewhere": 8}
    assert cost.synchronisations == 8 and none.synchronisations == 0
    assert cost.causes["aten::index_put_"] == 1 and cost.causes["aten::index"] == 2


@pytest.mark.parametrize("fake", [False, True])
def test_a_deep_copy_has_memory_of_its_own(fake):
    with tensors(fake), count() as cost:
        x = torch.zeros(100)
        memory = copy.deepcopy({"step": x})
    assert cost.live == 800 and memory["step"] is not x


def test_a_custom_kernel_counts_as_one_launch_or_as_many_as_it_says(monkeypatch):
    @torch.library.custom_op("counting_test::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("there is no data to run it on")

    double.register_fake(torch.empty_like)
    with FakeTensorMode(), count() as cost:
        x = torch.empty(4)
        double(double(x))
    assert cost.launches == 2 and cost.operators == {"counting_test::double": 2}
    monkeypatch.setitem(counting.LAUNCHES, "counting_test::double", 3)
    with FakeTensorMode(), count() as cost:
        double(torch.empty(4))
        cost.launch(2)
    assert cost.launches == 5
