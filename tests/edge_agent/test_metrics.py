"""The metrics page: names, values, formats and size."""

from __future__ import annotations

import math
import re

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from edge_agent.metrics import LATENCY_BUCKETS, Metrics
from edge_agent.vta.counters import Counters


def _samples(metrics: Metrics) -> dict[str, float]:
    """Every series by its full text name."""
    text = metrics.page("")[0].decode()
    return {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")
    }


def test_every_series_exists_from_the_start_at_zero() -> None:
    samples = _samples(Metrics("sim", "config"))
    assert samples["edge_inference_requests_total"] == 0
    assert samples['edge_inference_failures_total{reason="timeout"}'] == 0
    assert samples['edge_vta_bytes_total{stream="wgt"}'] == 0
    assert samples["edge_sample_latency_seconds_count"] == 0
    assert samples["edge_ready"] == 0
    assert samples['edge_model_info{agreement="",digest="",model=""}'] == 1
    assert [name for name in samples if name.startswith('edge_build_info{board="sim",config="config",version="')]
    assert samples["edge_start_timestamp_seconds"] > 1e9


def test_an_inference_is_counted_per_sample() -> None:
    metrics = Metrics("sim", "config")
    metrics.infer_requested()
    metrics.inferred(4, 0.5, 0.08, 0.06, Counters(1, 2, 3, 4, 5, 6, 7))
    samples = _samples(metrics)
    assert samples["edge_sample_latency_seconds_count"] == samples["edge_samples_total"] == 4
    assert samples['edge_sample_latency_seconds_bucket{le="0.01"}'] == 0
    assert samples['edge_sample_latency_seconds_bucket{le="0.025"}'] == 4
    assert abs(samples["edge_sample_latency_seconds_sum"] - 0.08) < 1e-9
    assert samples["edge_queue_seconds_sum"] == 0.5
    assert abs(samples['edge_compute_seconds_total{part="vta"}'] - 0.06) < 1e-9
    assert abs(samples['edge_compute_seconds_total{part="cpu"}'] - 0.02) < 1e-9
    assert [
        samples[f'edge_vta_bytes_total{{stream="{stream}"}}'] for stream in ("inp", "wgt", "acc", "uop", "out")
    ] == [1, 2, 3, 4, 5]
    assert samples["edge_vta_gemm_operations_total"] == 6
    assert samples["edge_vta_alu_operations_total"] == 7


def test_unknown_reasons_do_not_make_series() -> None:
    metrics = Metrics("sim", "config")
    before = set(_samples(metrics))
    for reason in ("nonsense", "x" * 1000, "busy"):
        metrics.infer_failed(reason)
    samples = _samples(metrics)
    assert set(samples) == before
    assert samples['edge_inference_failures_total{reason="internal"}'] == 2
    assert samples['edge_inference_failures_total{reason="busy"}'] == 1


def test_the_live_model_is_one_series() -> None:
    metrics = Metrics("sim", "config")
    for number in range(3):
        metrics.set_model(
            {"model": f"model{number}", "digest": f"{number}"}, 0.5 * number, 0.75 * number, 100.0 * number
        )
    samples = _samples(metrics)
    assert [name for name in samples if name.startswith("edge_model_info")] == [
        'edge_model_info{agreement="",digest="2",model="model2"}'
    ]
    assert math.isnan(samples["edge_model_agreement_ratio"]), "it was not measured"
    assert samples["edge_model_predicted_vta_seconds"] == 1.0
    assert samples["edge_model_predicted_seconds"] == 1.5
    assert samples["edge_model_predicted_vta_cycles"] == 200
    assert samples["edge_ready"] == 1 and samples["edge_model_activated_timestamp_seconds"] > 1e9


def test_the_agreement_is_the_live_models() -> None:
    metrics = Metrics("sim", "config")
    assert math.isnan(_samples(metrics)["edge_model_agreement_ratio"])
    metrics.set_model({"model": "a", "digest": "1"}, agreement=0.9875)
    assert _samples(metrics)["edge_model_agreement_ratio"] == 0.9875
    assert _samples(metrics)['edge_model_info{agreement="0.9875",digest="1",model="a"}'] == 1
    metrics.set_model({"model": "b", "digest": "2"})
    assert math.isnan(_samples(metrics)["edge_model_agreement_ratio"])


def test_the_page_is_small_and_prefixed() -> None:
    metrics = Metrics("sim", "config")
    metrics.inferred(1, 0.1, 0.1, 0.1, Counters())
    page = metrics.page("")[0].decode()
    assert page.count("\n") < 300
    assert all(re.match(r"(# (HELP|TYPE) )?edge_", line) for line in page.splitlines())
    assert all(name in page for name in (f'le="{bucket}"' for bucket in LATENCY_BUCKETS))


def test_both_formats_parse_and_name_their_type() -> None:
    metrics = Metrics("sim", "config")
    text, content_type = metrics.page("text/plain")
    assert content_type.startswith("text/plain; version=")
    assert len(list(parser.text_string_to_metric_families(text.decode()))) > 10
    text, content_type = metrics.page("application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text") and "charset=utf-8" in content_type
    assert len(list(openmetrics_parser.text_string_to_metric_families(text.decode()))) > 10


def test_two_agents_in_one_process_do_not_share() -> None:
    first, second = Metrics("a", "config"), Metrics("b", "config")
    first.infer_requested()
    assert _samples(second)["edge_inference_requests_total"] == 0
