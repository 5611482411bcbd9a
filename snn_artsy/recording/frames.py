"""What a run holds, as pandas tables and xarray arrays; both packages are optional."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from snn_artsy.checks import ConfigError
from snn_artsy.observer import STATE_NAMES
from snn_artsy.recording import schema
from snn_artsy.recording.tables import Counts, Events, Predictions, Spikes, Stimulus, Traces

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# codes that stand for words
_NAMES = {"split": schema.SPLIT_NAMES, "old": STATE_NAMES, "new": STATE_NAMES}


def to_pandas(table: Stimulus | Spikes | Events | Counts | Predictions) -> pd.DataFrame:
    """One row a presentation, spike, event, count or test sample; times in ms, as in the file.

    States and splits become words; counts a column a state; what has several numbers a row (gates,
    scores) a column each, such as ``gates_0``; what was not recorded is left out.

    Raises:
        ConfigError: pandas is not installed.
    """
    pd = optional("pandas")
    columns: dict[str, Any] = {}
    for field in fields(table):
        values = getattr(table, field.name)
        if values is None:
            continue
        if field.name in _NAMES:
            values = pd.Categorical.from_codes(values.astype(int), list(_NAMES[field.name]))
        if getattr(values, "ndim", 1) == 1:
            columns[field.name] = values
            continue
        names = STATE_NAMES if isinstance(table, Counts) else [
            f"{field.name}_{k}" for k in range(values.shape[1])
        ]  # fmt: skip
        columns |= dict(zip(names, values.T, strict=True))
    return pd.DataFrame(columns)


def to_xarray(traces: Traces) -> xr.Dataset:
    """Variables of the traced contacts over time: dimensions ``time_ms`` and ``synapse``, with the
    contacts' ``pre``, ``post`` and ``contact`` as coordinates.

    Raises:
        ConfigError: xarray is not installed.
    """
    xr = optional("xarray")
    pre, post, contact = traces.synapse.T
    coordinates = {
        "time_ms": ("time_ms", traces.time_ms, {"units": "ms"}),
        "synapse": np.arange(len(traces.synapse)),
        "pre": ("synapse", pre),
        "post": ("synapse", post),
        "contact": ("synapse", contact),
    }
    variables = {name: (("time_ms", "synapse"), v) for name, v in traces.variables.items()}
    return xr.Dataset(variables, coordinates)


def optional(package: str) -> Any:
    """A package that is no dependency.

    Raises:
        ConfigError: It is not installed.
    """
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(
            package, f"not installed; pip install {package}, or use the NumPy arrays"
        ) from error
