"""Summaries, the messages in event files, built from TensorBoard's protocol buffers."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboard.compat.proto import summary_pb2, types_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams import summary_v2 as hparams_summary
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util.tensor_util import make_tensor_proto

HParamValue = bool | int | float | str

HISTOGRAM_BUCKETS = 30
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class HParam:
    """A hyperparameter, a column of the HParams tab.

    Args:
        name: the name of the column.
        kind: the type of its values.
        shown: whether it should be among the five columns that the tab shows when it is opened.
        values: the values that occur, if known; up to nine become checkboxes to filter by.
        interval: the smallest and the largest value; for columns with more values than that.
    """

    name: str
    kind: type[bool] | type[float] | type[str]
    shown: bool = True
    values: tuple[HParamValue, ...] = ()
    interval: tuple[float, float] | None = None

    @classmethod
    def of(cls, name: str, value: HParamValue, *, shown: bool) -> HParam:
        """The column that a value belongs in."""
        kind = next(kind for kind in (bool, str, float) if kind is float or isinstance(value, kind))
        return cls(name, kind, shown)


@dataclass(frozen=True)
class Metric:
    """A metric, a column of the HParams tab.

    Args:
        tag: the scalar whose last value is shown.
        split: its directory below that of the run; empty for the run's own directory.
    """

    tag: str
    split: str = ""


def scalar_summary(tag: str, value: float) -> Any:
    """One number; NaN and infinity are written as they are, and TensorBoard marks them in the curve."""
    with np.errstate(over="ignore"):  # TensorBoard's numbers are float32, so larger ones become infinity
        return scalar_pb(tag, value)


def text_summary(tag: str, markdown: str) -> Any:
    """A text; TensorBoard renders it as Markdown."""
    return text_pb(tag, markdown)


def image_summary(tag: str, png: bytes) -> Any:
    """A picture, given as an encoded PNG."""
    if png[:8] != _PNG_SIGNATURE or len(png) < 24:
        raise ValueError(f"the picture '{tag}' is not an encoded PNG")
    width, height = struct.unpack(">II", png[16:24])
    tensor = make_tensor_proto([str(width).encode(), str(height).encode(), png], dtype=types_pb2.DT_STRING)
    metadata = image_metadata.create_summary_metadata(display_name=None, description=None)
    return _summary(tag, metadata, tensor)


def histogram_summary(tag: str, values: npt.ArrayLike) -> Any:
    """The distribution of an array of any shape, without NaN and infinity."""
    finite = np.asarray(values, dtype=np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    counts, edges = np.histogram(finite, bins=HISTOGRAM_BUCKETS)
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)  # (buckets, 3): left, right, count
    metadata = histogram_metadata.create_summary_metadata(display_name=None, description=None)
    return _summary(tag, metadata, make_tensor_proto(buckets, dtype=np.float64))


# The HParams tab


def experiment_summary(hparams: Sequence[HParam], metrics: Sequence[Metric]) -> Any:
    """The columns of the HParams tab: these hyperparameters, and of all scalars only these metrics."""
    experiment = api_pb2.Experiment(
        time_created_secs=time.time(),
        hparam_infos=[_hparam_info(hparam) for hparam in hparams],
        metric_infos=[
            api_pb2.MetricInfo(
                name=api_pb2.MetricName(tag=metric.tag, group=metric.split),
                display_name=f"{metric.split} {metric.tag}".strip(),
            )
            for metric in metrics
        ],
    )
    data = plugin_data_pb2.HParamsPluginData(experiment=experiment)
    return _hparams_data_summary(hparams_metadata.EXPERIMENT_TAG, data)


def session_summary(values: Mapping[str, HParamValue], group_name: str = "") -> Any:
    """The hyperparameters of a run, which start its session in the HParams tab.

    Raises:
        TypeError: a value is not a bool, int, float or str.
    """
    for name, value in values.items():
        if not isinstance(value, bool | int | float | str):
            raise TypeError(f"a hyperparameter is a bool, int, float or str. Received: {name}={value!r}")
    return hparams_summary.hparams_pb({name: spell(value) for name, value in values.items()}, trial_id=group_name)


def session_end_summary(*, succeeded: bool) -> Any:
    """How the session ended."""
    status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    return _hparams_data_summary(hparams_metadata.SESSION_END_INFO_TAG, data)


def spell(value: HParamValue) -> HParamValue:
    """A value that TensorBoard can send: NaN and infinity become text, or the tab would show no hyperparameters."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _hparam_info(hparam: HParam) -> Any:
    types = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING, float: api_pb2.DATA_TYPE_FLOAT64}
    # TensorBoard first lists those with `differs`, then all others by name, and hides all after the fifth.
    info = api_pb2.HParamInfo(name=hparam.name, type=types[hparam.kind], differs=hparam.shown)
    info.domain_discrete.extend(list(hparam.values))
    if hparam.interval is not None:
        info.domain_interval.min_value, info.domain_interval.max_value = hparam.interval
    return info


def _hparams_data_summary(tag: str, data: Any) -> Any:
    return _summary(tag, hparams_metadata.create_summary_metadata(data), hparams_metadata.NULL_TENSOR)


# The Custom Scalars tab


def layout_summary(pages: Mapping[str, Sequence[Any]]) -> Any:
    """The charts of the Custom Scalars tab, by the title of their page; only the first page is open to begin with."""
    categories = [
        layout_pb2.Category(title=title, chart=charts, closed=number > 0)
        for number, (title, charts) in enumerate(pages.items())
    ]
    layout = layout_pb2.Layout(category=categories)
    tensor = make_tensor_proto(layout.SerializeToString(), dtype=types_pb2.DT_STRING)
    return _summary(layout_metadata.CONFIG_SUMMARY_TAG, layout_metadata.create_summary_metadata(), tensor)


def line_chart(tag: str) -> Any:
    """A chart of one tag, in which the curves of all runs and splits are overlaid."""
    return layout_pb2.Chart(title=tag, multiline=layout_pb2.MultilineChartContent(tag=[f"^{tag}$"]))


def margin_chart(title: str, *, value: str, lower: str, upper: str) -> Any:
    """A chart of the tag `value` with a band from the tag `lower` to the tag `upper`, all of one run."""
    series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
    return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series]))


def _summary(tag: str, metadata: Any, tensor: Any) -> Any:
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])
