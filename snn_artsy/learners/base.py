"""What a learner is given and what it gives back: the contract every method shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from snn_artsy.learners.state import below, listed

if TYPE_CHECKING:
    from snn_artsy.learners.builders import Setting

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Batch:
    """Frozen features of some samples.

    Args:
        features: h_0, float32 [B, D].
        index: Each sample's number in its source split, int64 [B]; keys the spike noise, so that a
            sample's spikes do not depend on the batch it comes in.
        split: Where the samples come from.
        true_task: Task of each sample, int64 [B], given only for the oracle-gate measure
            (m_t := 1[t = true task]); None in every honest evaluation.
        load_images: Loads the pixels [B, 3, H, W] for learners that need more than h_0.
        load_tokens: Loads what sub-networks in the blocks go on from, [B, 2, T, D], on the CPU.
        load_augmented: The same of images that are augmented as a drawn number says.
    """

    features: Tensor
    index: Tensor
    split: Split
    true_task: Tensor | None = None
    load_images: Callable[[], Tensor] | None = None
    load_tokens: Callable[[], Tensor] | None = None
    load_augmented: Callable[[int], Tensor] | None = None

    @property
    def images(self) -> Tensor:
        if self.load_images is None:
            raise ValueError("this batch carries features only; build it with load_images")
        return self.load_images()

    @property
    def tokens(self) -> Tensor:
        if self.load_tokens is None:
            raise ValueError("this batch carries features only; build it with load_tokens")
        return self.load_tokens()

    def augmented(self, draw: int) -> Tensor:
        if self.load_augmented is None:
            raise ValueError(
                "this batch's images cannot be augmented; build it with load_augmented"
            )
        return self.load_augmented(draw)

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class LabelledBatch(Batch):
    """A batch with labels int64 [B]: positions in the class order, so task t's are contiguous."""

    labels: Tensor = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Task:
    """One task of the stream: number, classes (labels), training and validation data."""

    number: int
    classes: tuple[int, ...]
    train: LabelledBatch
    validation: LabelledBatch


@dataclass(frozen=True)
class Prediction:
    """A learner's answer for a batch, over the C classes and N tasks seen so far.

    Args:
        scores: [B, C]; the predicted class is the arg max.
        gate_scores: Calibrated S_t, comparable between tasks, [B, N]; None without gates.
        gates: m_t, bool [B, N]; None without gates.
        spike_scores: Class-assembly decision from postsynaptic spikes alone, [B, C]; None if none.
        vit_passes: Passes of the ViT that each sample took, float [B]: its trunk once, and of each
            sub-network the share of the blocks that it computes; None: the one for h_0.
        operations: Synaptic operations that each sample took from h_0 on, float [B]: accumulates in
            spiking learners, multiply-accumulates in others; None: not counted.
        added_norm: ``|sum_t m_t h_t| / |h_0|``, [B], and ``shut_predicted``, the class predicted
            with all gates shut, [B]; None without sub-networks that are added to h_0.
        spike_counts: Spikes of each class's assembly, [B, C]; None without spikes.
    """

    scores: Tensor
    gate_scores: Tensor | None = None
    gates: Tensor | None = None
    spike_scores: Tensor | None = None
    vit_passes: Tensor | None = None
    operations: Tensor | None = None
    added_norm: Tensor | None = None
    shut_predicted: Tensor | None = None
    spike_counts: Tensor | None = None

    @staticmethod
    def concatenate(parts: list[Prediction]) -> Prediction:
        def join(name: str) -> Tensor | None:
            columns = [getattr(part, name) for part in parts]
            return None if columns[0] is None else torch.cat(columns)

        scores = torch.cat([part.scores for part in parts])
        names = [field.name for field in fields(Prediction)][1:]
        return Prediction(scores, *map(join, names))


class Learner(ABC):
    """A method of continual learning: a subclass writes `learn` and `predict`, and needs no more.

    A run calls, on one instance and in this order: `learn` for task 0, `predict` for the test
    samples of all tasks seen so far, `learn` for task 1, and so on. The task of a sample is never
    given to an honest `predict`. Whatever is random is drawn from torch's generators, which a run
    seeds, so that the same seed gives the same numbers.

    Everything else has a default that holds for any learner. A subclass overrides what it can do
    better, each method for itself:

    - `state_dict`: the tensors and modules among its attributes; `load_state_dict` puts them back.
    - `checkpoint` and `restore`: an interrupted run has the learner learn its tasks again, so a
      learner whose tasks take long keeps what it goes on from.
    - `report`: how large it is.
    - `snapshot`, `controls`: nothing.
    """

    revisits: ClassVar[bool] = False
    """Whether a task may bring samples of classes that came before, as in an online stream
    (``data.stream``), where ``task.classes`` are those that are new, or none."""

    after_epoch: Callable[[], None] | None = None
    """Set by a run that makes checkpoints. A learner whose `checkpoint` holds in the middle of a
    task, and whose `restore` goes on from there, calls it after each epoch."""

    def __init__(self, setting: Setting) -> None:
        """A learner that is added to the registry is called with this and nothing else.

        Args:
            setting: Size of features, device, and the learner's own ``options``, among others.
        """
        self.setting = setting

    @abstractmethod
    def learn(self, task: Task) -> None:
        """Learn one task; the data of earlier ones are not given again."""

    @abstractmethod
    def predict(self, batch: Batch) -> Prediction:
        """Answer for samples of any task seen so far; the others in a batch change no answer."""

    def state_dict(self) -> dict[str, Tensor]:
        """All that the learner has learnt, as finite tensors; its size is reported as stored.

        Default: tensors, modules, and lists and dictionaries of them among its attributes.
        """
        return {name: tensor.detach() for name, tensor in _tensors(vars(self))}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the `state_dict` of a learner built alike, to predict with it; learning goes on
        from a `checkpoint` only.

        Default: tensors, lists of tensors, and modules that ``__init__`` has made. A learner whose
        answers need anything else that it has learnt, such as a plain number, keeps it as a tensor,
        or overrides this and `state_dict`.

        Args:
            state: On the learner's device.

        Raises:
            KeyError, RuntimeError, TypeError: The state is not that of such a learner.
        """
        for name in {key.partition(".")[0]: None for key in state}:
            own, numbered = below(state, f"{name}."), listed(state, f"{name}.")
            held = getattr(self, name, None)
            if isinstance(held, nn.Module):
                held.load_state_dict(own)
            elif not own:
                setattr(self, name, state[name])
            elif len(own) == len(numbered):
                setattr(self, name, numbered)
            else:
                raise TypeError(
                    f"override {type(self).__name__}.load_state_dict, to put back {name}"
                )

    def checkpoint(self) -> dict[str, Tensor]:
        """Everything that `restore` needs: `state_dict` and what only learning needs, such as the
        states of random generators. Default: `state_dict`."""
        return self.state_dict()

    def restore(self, state: dict[str, Tensor], tasks: Sequence[Task]) -> None:
        """Take over the `checkpoint` of a learner built alike. Default: learn the tasks again.

        Args:
            state: On the learner's device.
            tasks: Those that it had learnt.

        Raises:
            KeyError, RuntimeError: The state is not that of such a learner; by default also if
                learning again gives other numbers (checked on the CPU).
        """
        for task in tasks:
            self.learn(task)
        for name, tensor in self.checkpoint().items():
            if not (tensor.is_cuda or torch.equal(tensor, state[name])):
                raise RuntimeError(
                    f"learning the same tasks again gives another {name!r}: draw random numbers "
                    "from torch's generators only, or override checkpoint and restore"
                )

    def report(self) -> dict[str, Any]:
        """Plain numbers about the learner: at least those of `sizes`, and what else it has.

        Default: `sizes`, where the parameters of its modules and its own are the trained ones.
        """
        tensors = [tensor for _, tensor in _tensors(vars(self))]
        trained = sum(t.numel() for t in tensors if isinstance(t, nn.Parameter))
        return sizes(trained, self.state_dict())

    def snapshot(self, moment: str) -> None:  # noqa: B027
        """Record the state of all synapses (``record.snapshots``). Default: there are none."""

    def controls(self) -> dict[str, Learner]:
        """Untaught learners that differ from this one in what they control for, by name; each
        must answer from spikes alone and report ``functional_share`` and ``spikes_per_image``."""
        return {}


def _tensors(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors among nested attributes, by dotted names; parameters stay parameters."""
    for key, value in values.items():
        if isinstance(value, nn.Module):
            value = value.state_dict(keep_vars=True)
        elif isinstance(value, list | tuple):
            value = dict(enumerate(value))
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            yield from _tensors(value, f"{prefix}{key}.")


def all_training(task: Task) -> tuple[Tensor, Tensor, Tensor]:
    """Training and validation samples together: features [n, D], labels [n], index [n].

    Validation samples choose thresholds; what is estimated without choosing anything (class means)
    takes all of a task's training images.
    """
    parts = (task.train, task.validation)
    return (
        torch.cat([p.features for p in parts]),
        torch.cat([p.labels for p in parts]),
        torch.cat([p.index for p in parts]),
    )


def stored_bytes(state: dict[str, Tensor]) -> int:
    """Bytes that a learner keeps from task to task."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def sizes(trained: int, state: dict[str, Tensor]) -> dict[str, Any]:
    """How large a learner is.

    Args:
        trained: Numbers that it keeps and that were found by gradient descent (``parameters``).
        state: All that it keeps; the backbone, which all learners share, is not counted.
    """
    return {
        "parameters": trained,
        "stored_parameters": sum(tensor.numel() for tensor in state.values()),
        "stored_bytes": stored_bytes(state),
    }
