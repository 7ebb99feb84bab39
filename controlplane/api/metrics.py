"""Metrics for Prometheus, of the control plane and of all nodes by what they reported."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from controlplane.api.permissions import READ
from controlplane.metrics import ClusterMetrics, make_process_metrics
from controlplane.store.engine import ReadSession
from controlplane.store.situation import read_situation

router = APIRouter(tags=["metrics"])

_PROCESS = make_process_metrics()


class MetricsText(Response):
    """The text format of Prometheus."""

    media_type = CONTENT_TYPE_LATEST


@router.get("/metrics", dependencies=[READ], response_class=MetricsText)
def read_metrics(session: ReadSession) -> Response:
    """Show all metrics in the text format of Prometheus.

    What a node reported is shown for as long as the report is fresh; of a silent node only
    `relay_node_up 0` and when it was last seen.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ClusterMetrics(read_situation(session)))
    return MetricsText(generate_latest(registry) + generate_latest(_PROCESS))
