"""Names of kept tensors, batches, sizes and gradient descent: small parts of learners, by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snn_artsy.checks import NotFinite
from snn_artsy.config import ANNConfig
from snn_artsy.learners import state
from snn_artsy.learners.base import (
    Batch,
    LabelledBatch,
    Prediction,
    Task,
    all_training,
    sizes,
    stored_bytes,
)
from snn_artsy.learners.prototypes import class_means
from snn_artsy.learners.sgd import minimise
from snn_artsy.learners.subnetworks import (
    HeadAdapter,
    builder,
    embed,
    embed_training,
    passes,
)
from snn_artsy.learners.subnetworks import train as train_network
from snn_artsy.learners.tasks import PartOf, join, take

A, B, C = torch.zeros(1), torch.ones(2), torch.full((3,), 2.0)

# --- state ----------------------------------------------------------------------------------------


def test_names_are_put_on_and_taken_off() -> None:
    assert state.under("x.", {"a": A, "b.c": B}) == {"x.a": A, "x.b.c": B}
    assert state.below({"x.a": A, "y.b": B, "x.x.c": C}, "x.") == {"a": A, "x.c": C}
    assert state.numbered("p.", [A, B]) == {"p.0": A, "p.1": B}


def test_lists_end_at_the_first_number_that_is_missing() -> None:
    kept = {"p.0": A, "p.1": B, "p.3": C, "q.0": C}
    assert state.listed(kept, "p.") == [A, B]
    assert state.listed(kept, "q.") == [C]
    assert state.listed(kept, "r.") == []
    kept = {"n.0.w": A, "n.0.b": B, "n.1.w": C, "n.10.w": A}
    assert state.modules(kept, "n.") == [{"w": A, "b": B}, {"w": C}]
    assert state.modules(kept, "m.") == []


def test_numbers_are_kept_exactly() -> None:
    for value in (2**53 + 1, 0.1, 7):
        kept = state.number(value)
        assert kept.item() == value and isinstance(kept.item(), type(value))
    assert state.number(3).dtype == torch.int64 and state.number(3.0).dtype == torch.float64


def test_a_generator_goes_on() -> None:
    one = torch.Generator().manual_seed(4)
    torch.randn(3, generator=one)
    two = torch.Generator()
    state.set_generator(two, one.get_state())
    assert torch.equal(torch.randn(5, generator=one), torch.randn(5, generator=two))


# --- batches --------------------------------------------------------------------------------------


def labelled(n: int, first: int = 0, **values: Any) -> LabelledBatch:
    number = first + torch.arange(n)
    defaults: dict[str, Any] = {"split": "train", "labels": number % 3}
    return LabelledBatch(number[:, None].float(), 100 + number, **{**defaults, **values})


def images_of(numbers: Tensor) -> Tensor:
    return numbers[:, None, None, None] * torch.ones(1, 3, 2, 2)


def test_a_part_of_a_batch_keeps_what_belongs_together() -> None:
    task = torch.tensor([5, 6, 7, 8])
    asked = []

    def load(split: Any, index: Any) -> Tensor:
        asked.append((split, index.tolist()))
        return images_of(torch.from_numpy(index))

    index = 100 + np.arange(4)
    whole = labelled(4, split="test", true_task=task, load_images=PartOf(load, "test", index))
    for rows in (torch.tensor([3, 1]), torch.tensor([False, True, False, True])):
        part = take(whole, rows)
        chosen = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
        assert part.features[:, 0].tolist() == chosen.tolist()
        assert part.index.tolist() == (100 + chosen).tolist()
        assert part.labels.tolist() == (chosen % 3).tolist()
        assert part.true_task is not None and part.true_task.tolist() == (5 + chosen).tolist()
        assert part.split == "test"
        assert part.images[:, 0, 0, 0].tolist() == (100 + chosen).tolist()
    # only the images of the part were loaded
    assert asked == [("test", [103, 101]), ("test", [101, 103])]
    plain = take(Batch(whole.features, whole.index, "test"), torch.tensor([2]))
    assert type(plain) is Batch and plain.true_task is None and plain.load_images is None
    with pytest.raises(ValueError, match="carries features only"):
        _ = plain.images
    own = take(labelled(3, load_images=lambda: images_of(torch.arange(3))), torch.tensor([2, 0]))
    assert own.images[:, 0, 0, 0].tolist() == [2, 0]


def test_batches_are_joined_one_after_the_other() -> None:
    one, two = labelled(2), labelled(3, first=7)
    joined = join([one, two])
    assert joined.features[:, 0].tolist() == [0, 1, 7, 8, 9]
    assert joined.index.tolist() == [100, 101, 107, 108, 109]
    assert joined.labels.tolist() == [0, 1, 1, 2, 0]
    assert joined.load_images is None and joined.split == "train" and len(joined) == 5
    with_images = [labelled(n, load_images=lambda n=n: images_of(torch.arange(n))) for n in (2, 1)]
    assert join(with_images).images[:, 0, 0, 0].tolist() == [0, 1, 0]
    # with images only if all have them
    assert join([with_images[0], two]).load_images is None

    def load(split: Any, index: Any) -> Tensor:
        return images_of(torch.from_numpy(index))

    parts = [labelled(1, load_images=PartOf(load, "train", np.array([n]))) for n in (4, 9)]
    loader = join(parts).load_images
    assert isinstance(loader, PartOf) and loader.index.tolist() == [4, 9]
    assert loader().shape == (2, 3, 2, 2)


def test_training_and_validation_samples_together() -> None:
    task = Task(0, (0, 1, 2), labelled(2), labelled(3, first=5, split="validation"))
    features, labels, index = all_training(task)
    assert features[:, 0].tolist() == [0, 1, 5, 6, 7]
    assert labels.tolist() == [0, 1, 2, 0, 1]
    assert index.tolist() == [100, 101, 105, 106, 107]


def test_predictions_are_put_together_column_by_column() -> None:
    def part(first: int, n: int) -> Prediction:
        x = torch.arange(first, first + n).float()[:, None]
        return Prediction(
            x, gate_scores=x + 10, gates=x > 1, spike_scores=x + 20,
            vit_passes=x[:, 0] + 30, operations=x[:, 0] + 40,
            added_norm=x[:, 0] + 50, shut_predicted=x[:, 0].long() + 60,
        )  # fmt: skip

    whole = Prediction.concatenate([part(0, 2), part(2, 1)])
    assert whole.scores[:, 0].tolist() == [0, 1, 2]
    assert whole.gate_scores is not None and whole.gate_scores[:, 0].tolist() == [10, 11, 12]
    assert whole.gates is not None and whole.gates[:, 0].tolist() == [False, False, True]
    assert whole.spike_scores is not None and whole.spike_scores[:, 0].tolist() == [20, 21, 22]
    assert whole.vit_passes is not None and whole.vit_passes.tolist() == [30, 31, 32]
    assert whole.operations is not None and whole.operations.tolist() == [40, 41, 42]
    assert whole.added_norm is not None and whole.added_norm.tolist() == [50, 51, 52]
    assert whole.shut_predicted is not None and whole.shut_predicted.tolist() == [60, 61, 62]
    bare = Prediction.concatenate([Prediction(A[None]), Prediction(A[None])])
    for name in ("gate_scores", "gates", "spike_scores", "vit_passes", "operations"):
        assert getattr(bare, name) is None


def test_sizes_count_numbers_and_bytes() -> None:
    kept = {"a": torch.zeros(2, 3), "b": torch.zeros(5, dtype=torch.float64),
            "c": torch.zeros(7, dtype=torch.uint8)}  # fmt: skip
    assert stored_bytes(kept) == 24 + 40 + 7
    assert sizes(9, kept) == {"parameters": 9, "stored_parameters": 18, "stored_bytes": 71}


# --- gradient descent -----------------------------------------------------------------------------


@dataclass
class Settings:
    epochs: int = 3
    lr: float = 0.1
    batch_size: int = 100
    weight_decay: float = 0.2


def test_gradient_descent_by_hand() -> None:
    """Momentum .9, weight decay, and a cosine schedule from the learning rate to zero."""
    settings = Settings()
    x = torch.tensor([1.0], requires_grad=True)
    minimise(lambda rows: (3 * x).sum(), [x], 4, settings, torch.Generator())
    expected, velocity = 1.0, 0.0
    for epoch in range(3):
        velocity = 0.9 * velocity + 3 + 0.2 * expected
        expected -= 0.1 * (1 + math.cos(math.pi * epoch / 3)) / 2 * velocity
    assert float(x.detach()) == pytest.approx(expected, rel=1e-6)


def test_samples_come_in_a_new_order_in_batches() -> None:
    seen: list[list[int]] = []
    x = torch.ones(1, requires_grad=True)

    def loss(rows: Tensor) -> Tensor:
        seen.append(rows.tolist())
        return x.sum()

    minimise(loss, iter([x]), 7, Settings(epochs=2, batch_size=3), torch.Generator().manual_seed(0))
    assert [len(rows) for rows in seen] == [3, 3, 1, 3, 3, 1]
    epochs = [[row for rows in part for row in rows] for part in (seen[:3], seen[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(7))
    assert epochs[0] != epochs[1] and epochs[0] != list(range(7))
    again: list[list[int]] = []
    first, seen = seen, again
    minimise(loss, [x], 7, Settings(epochs=2, batch_size=3), torch.Generator().manual_seed(0))
    assert again == first


def test_training_that_diverges_is_stopped() -> None:
    x = torch.ones(1, requires_grad=True)
    with pytest.raises(NotFinite, match="training"):
        minimise(lambda rows: (x * torch.inf).sum(), [x], 3, Settings(), torch.Generator())


# --- sub-networks on h_0 --------------------------------------------------------------------------

ANN = ANNConfig(bottleneck=2, scale=0.5, epochs=1, lr=0.1, batch_size=50, weight_decay=0.01)


def adapter(up: float = 0.3) -> HeadAdapter:
    network = HeadAdapter(3, ANN, torch.Generator().manual_seed(0))
    torch.nn.init.constant_(network.up.weight, up)
    return network


def test_an_adapter_starts_at_nothing_from_a_kaiming_draw() -> None:
    network = builder(ANN, 3, "cpu")(torch.Generator().manual_seed(0))
    assert isinstance(network, HeadAdapter)
    for parameter in (network.up.weight, network.up.bias, network.down.bias):
        assert not parameter.any()
    again = HeadAdapter(3, ANN, torch.Generator().manual_seed(0))
    assert torch.equal(network.down.weight, again.down.weight)
    other = HeadAdapter(3, ANN, torch.Generator().manual_seed(1))
    assert not torch.equal(network.down.weight, other.down.weight)
    # uniform within 1 / sqrt(D), as torch's own linear layers are (a = sqrt 5)
    wide = HeadAdapter(
        400, ANNConfig(bottleneck=50), torch.Generator().manual_seed(0)
    ).down.weight.detach()
    bound = 1 / math.sqrt(400)
    assert 0.99 * bound < float(wide.abs().max()) <= bound
    with pytest.raises(ValueError, match="need the backbone"):
        builder(ANNConfig(placement="blocks"), 3, "cpu")


def test_embeddings_add_what_each_sub_network_answers() -> None:
    x = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    batch = LabelledBatch(x, torch.arange(2), "train", labels=torch.tensor([1, 0]))
    networks = [adapter(0.3), adapter(-0.7)]
    found = embed(networks, batch)
    assert found.shape == (2, 2, 3) and not found.requires_grad
    for t, network in enumerate(networks):
        hidden = (x @ network.down.weight.T + network.down.bias).clamp_min(0)
        answer = 0.5 * (hidden @ network.up.weight.T + network.up.bias)
        torch.testing.assert_close(found[:, t], x + answer)
    part = LabelledBatch(2 * x[:1], torch.arange(1), "validation", labels=torch.tensor([1]))
    for t, network in enumerate(networks):
        embedded = embed_training(network, Task(0, (0, 1), batch, part))
        torch.testing.assert_close(embedded[:2], found[:, t])
        torch.testing.assert_close(embedded[2:], embed([network], part)[:, 0])
    assert passes(networks, batch, with_h0=False).tolist() == [1, 1]
    assert passes(networks, batch, with_h0=True).tolist() == [1, 1]


def test_a_sub_network_s_first_step_by_hand() -> None:
    """Cross-entropy of 10 cos(h_0 + h, class mean of h_0), one batch: p - lr (g + decay p)."""
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(6, 3, generator=generator), torch.tensor([4, 5, 4, 5, 5, 4])
    batch = LabelledBatch(x, torch.arange(6), "train", labels=y)
    network, reference = adapter(), adapter()
    hidden = (x @ reference.down.weight.T + reference.down.bias).clamp_min(0)
    z = x + 0.5 * (hidden @ reference.up.weight.T + reference.up.bias)
    loss = torch.zeros(())
    for b in range(6):
        cosines = [
            10 * torch.dot(z[b], m) / z[b].norm() / m.norm()
            for m in (x[y == 4].mean(0), x[y == 5].mean(0))
        ]
        loss = loss - cosines[int(y[b]) - 4] + torch.logsumexp(torch.stack(cosines), 0)
    (loss / 6).backward()
    held = LabelledBatch(100 * x, torch.arange(6), "validation", labels=y)
    train_network(network, Task(2, (4, 5), batch, held), ANN, torch.Generator())
    for found, before in zip(network.parameters(), reference.parameters(), strict=True):
        assert before.grad is not None and not found.requires_grad
        expected = before.detach() - 0.1 * (before.grad + 0.01 * before.detach())
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


# --- an adapter on h_0, by hand -------------------------------------------------------------------


def drawn_adapter() -> HeadAdapter:
    """In float64, no parameter of it 0."""
    generator = torch.Generator().manual_seed(0)
    config = ANNConfig(bottleneck=6, scale=0.7)
    adapter = HeadAdapter(9, config, generator).double()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return adapter


def test_an_adapter_s_mean_answers() -> None:
    adapter, generator = drawn_adapter(), torch.Generator().manual_seed(3)
    x, labels = torch.randn(20, 9, generator=generator).double(), 5 + torch.arange(20) % 3
    with torch.no_grad():
        expected = class_means(adapter(x), labels, (7, 5, 6))
    torch.testing.assert_close(adapter.mean_answers(x, labels, (7, 5, 6)), expected)
