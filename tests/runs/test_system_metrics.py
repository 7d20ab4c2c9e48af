import threading

import pytest

from deepsort_reid.runs import system_metrics
from deepsort_reid.runs.system_metrics import LONGEST, SAMPLE_EVERY, Sampler, interval


def test_the_shortest_run_has_one_sample():
    samples = []
    Sampler(samples.append).stop(60)
    (sample,) = samples
    assert sample["system/system_memory_usage_megabytes"] > 0
    assert {name.partition("/")[0] for name in sample} == {"system"}


def test_samples_come_again_and_again(monkeypatch):
    monkeypatch.setattr(system_metrics, "interval", lambda _: 0.01)
    three = threading.Semaphore(0)
    sampler = Sampler(lambda _: three.release())
    assert all(three.acquire(timeout=60) for _ in range(3))
    sampler.stop(60)
    assert not sampler.thread.is_alive()


def test_a_folder_that_takes_nothing_ends_it_quietly(caplog):
    def full(_):
        raise OSError(28, "No space left on device")

    Sampler(full).stop(60)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_day_has_not_many_more_samples_than_an_hour():
    def count(seconds):
        elapsed, samples = 0.0, 0
        while elapsed < seconds:
            elapsed += interval(elapsed)
            samples += 1
        return samples

    assert interval(0) == SAMPLE_EVERY
    assert interval(10 * 86400) == LONGEST
    assert count(600) == 120
    assert count(3600) < 400
    assert count(86400) < 2000


@pytest.mark.parametrize(("value", "wanted"), [(None, True), ("true", True), ("False", False)])
def test_the_user_may_not_want_it(monkeypatch, value, wanted):
    monkeypatch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", raising=False)
    if value is not None:
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", value)
    assert system_metrics.is_wanted() == wanted
