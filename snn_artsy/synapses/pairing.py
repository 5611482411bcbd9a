"""When the stimulus is on and when the teacher fires, within one presentation.

Given the image, Poisson input and a clamped teacher are independent, so that plain pair STDP would
drive every contact the same way (docs/model.md, "Pairing"). Stimuli therefore come in volleys, and
the taught assembly fires a fixed lag after each volley: inputs that took part in the volley find
their glutamate trace high at that moment, inputs at other times do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snn_artsy.arrays import Sizes, check_same_kind, check_spikes, check_tensor
from snn_artsy.checks import ConfigError
from snn_artsy.config import EncodingConfig, TeacherConfig
from snn_artsy.synapses.noise import uniform


@dataclass(frozen=True)
class Schedule:
    """Steps of a presentation.

    Args:
        volley: Stimulus on, bool [T].
        teach: Teaching current on, bool [T].
        volley_steps, period_steps: Length of a volley and of a period, in steps.
    """

    volley: Tensor
    teach: Tensor
    volley_steps: int
    period_steps: int

    @property
    def n_volleys(self) -> int:
        """Volleys that are followed by a teaching current."""
        return int(self.teach.sum())


def make_schedule(encoding: EncodingConfig, teacher: TeacherConfig) -> Schedule:
    """Turn times in ms into steps.

    Raises:
        ConfigError: The teacher's lag does not fit between the volley and the next one, or the
            presentation is too short for a volley and its teacher.
    """
    dt = encoding.dt
    volley_steps, period_steps = _volley_and_period(encoding)
    lag_steps = 1 if teacher.lag_ms is None else max(round(teacher.lag_ms / dt), 1)
    at = volley_steps - 1 + lag_steps
    if at >= period_steps:
        raise ConfigError(
            "snn.teacher.lag_ms",
            f"{lag_steps * dt:g} ms after a volley of {volley_steps * dt:g} ms "
            f"falls into the next one; use at most {(period_steps - volley_steps) * dt:g} ms or a "
            "longer snn.encoding.period_ms",
        )
    if at >= encoding.steps:
        raise ConfigError(
            "snn.encoding.n_steps",
            f"{encoding.steps} steps end before the first teaching current; use {at + 1} or more",
        )
    position = torch.arange(encoding.steps) % period_steps
    return Schedule(position < volley_steps, position == at, volley_steps, period_steps)


def reading_schedule(encoding: EncodingConfig) -> Schedule:
    """A presentation without a teacher, ``encoding.test_steps`` long."""
    volley_steps, period_steps = _volley_and_period(encoding)
    position = torch.arange(encoding.steps_shown) % period_steps
    nobody = torch.zeros(encoding.steps_shown, dtype=torch.bool)
    return Schedule(position < volley_steps, nobody, volley_steps, period_steps)


def _volley_and_period(encoding: EncodingConfig) -> tuple[int, int]:
    """In steps."""
    volley_steps = max(round(encoding.volley / encoding.dt), 1)
    return volley_steps, max(round(encoding.period / encoding.dt), volley_steps)


def teaching_spikes(
    schedule: Schedule,
    teacher: TeacherConfig,
    taught: Tensor,
    seed: int,
    stream: int,
    sample: Tensor,
) -> Tensor:
    """Which neurons the teaching current makes fire: float32 [T, B, n_post] of 0 and 1.

    Args:
        taught: bool [B, n_post], the assembly of each sample's class.
        seed, stream, sample: Key of the noise (each neuron fails with 1 - reliability).

    Raises:
        TypeError, ValueError: ``taught`` is no bool [B, n_post], ``sample`` no int64 [B].
    """
    sizes: Sizes = {}
    check_same_kind("taught", taught, "B n_post", sizes, sample.new_zeros((), dtype=torch.bool))
    check_tensor("sample", sample, "B", sizes, taught)
    n_steps = len(schedule.teach)
    u = uniform(seed, stream, sample, n_steps, taught.shape[1])
    on = schedule.teach.to(taught.device)[:, None, None] & taught
    return ((u < teacher.reliability) & on).float()


def shuffle_in_time(spikes: Tensor, seed: int, stream: int, sample: Tensor) -> Tensor:
    """Each unit's spikes put at random steps of the same presentation, their number kept.

    The control behind ``timing_index``: spikes [T, B, n] -> [T, B, n].

    Raises:
        TypeError, ValueError: Shapes do not fit, or a spike is neither 0 nor 1.
    """
    sizes: Sizes = {}
    check_tensor("spikes", spikes, "T B n", sizes, spikes)
    check_tensor("sample", sample, "B", sizes, spikes)
    check_spikes("spikes", spikes)
    order = uniform(seed, stream, sample, spikes.shape[0], spikes.shape[2]).argsort(dim=0)
    return torch.gather(spikes, 0, order)
