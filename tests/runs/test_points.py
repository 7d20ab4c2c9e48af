"""Points of curves stay whatever happens, each once."""

import logging
import math
import os
import threading

import pytest

from deepsort_reid.runs.folder import RunFolder
from deepsort_reid.runs.points import Point


@pytest.fixture
def place(tmp_path):
    return tmp_path


def table(place):
    """The same file, as another process would see it."""
    return RunFolder("key", place).metrics


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


POINTS = [Point(time, time, "loss", 1 / time) for time in (1, 2, 3)]


def test_what_is_added_is_there_after_the_process_was_killed(place):
    added = [Point(1, 1, "loss", 0.1 + 0.2), Point(2, None, "naïve x", -math.inf)]
    table(place).add(added)
    table(place).add([Point(3, 2, "loss", math.nan)])
    assert table(place).read()[:2] == added
    assert math.isnan(table(place).read()[2].value)
    first = table(place).path.read_text(encoding="utf-8").splitlines()[0]
    assert first == "1,1,loss,0.30000000000000004"


def test_nothing_is_added_twice(place):
    def add(time, *values):
        points = table(place)
        points.add([Point(time, step, name, value) for step, name, value in values])
        return len(points.read())

    assert add(1, (1, "loss", 0.5), (1, "speed", 40.0), (2, "loss", 0.4)) == 3
    assert add(2, (1, "loss", 0.5), (1, "speed", 99.0), (2, "loss", 0.4)) == 3
    assert add(3, (None, "mAP", 0.5), (None, "nan", math.nan)) == 5
    assert add(4, (None, "mAP", 0.5), (None, "nan", math.nan)) == 5
    assert add(5, (None, "mAP", 0.6)) == 6
    assert add(6, (None, "mAP", 0.5)) == 7


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_torn_last_line_is_ignored_and_overwritten(place, caplog, cut):
    points = table(place)
    points.add(POINTS)
    os.truncate(points.path, points.path.stat().st_size - cut)
    assert table(place).read() == POINTS[:2]
    table(place).add([Point(9, 9, "loss", 0.5)])
    assert table(place).read() == [*POINTS[:2], Point(9, 9, "loss", 0.5)]
    assert warnings(caplog) == []


def test_zeros_after_a_power_loss_are_ignored(place, caplog):
    points = table(place)
    points.add(POINTS[:1])
    with points.path.open("ab") as file:
        file.write(bytes(3000))
    table(place).add(POINTS[1:])
    assert table(place).read() == POINTS
    assert warnings(caplog) == []


@pytest.mark.parametrize("damage", [b"#", b"\xff", b",", b"1,x,loss,0.5", b"", b"\x00" * 90])
def test_a_damaged_line_costs_itself_and_a_warning(place, caplog, damage):
    points = table(place)
    points.add(POINTS)
    lines = points.path.read_bytes().splitlines()
    points.path.write_bytes(b"\n".join([lines[0], damage, lines[2], b""]))
    assert table(place).read() == [POINTS[0], POINTS[2]]
    (line,) = warnings(caplog)
    assert "1 of its lines are damaged" in line


def test_a_full_disk_leaves_whole_lines(place, monkeypatch):
    points = table(place)
    points.add(POINTS[:1])
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:10]))
        with pytest.raises(OSError, match="No space left") as caught:
            points.add(POINTS[1:])
    assert caught.value.filename == str(points.path)
    assert points.path.read_bytes() == POINTS[0].line().encode()
    points.add(POINTS[1:])
    assert table(place).read() == POINTS


def test_a_signal_while_the_disk_is_written_to_loses_nothing(place, monkeypatch):
    def terminate(_):
        raise SystemExit(143)

    points = table(place)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", terminate)
        with pytest.raises(SystemExit):
            points.add(POINTS[:1])
    points.add(POINTS[1:])
    assert table(place).read() == POINTS


def test_threads_and_processes_may_add_at_once(place):
    def add(name):
        points = table(place)
        for step in range(50):
            points.add([Point(step, step, name, 0.5)], sync=False)

    threads = [threading.Thread(target=add, args=[name]) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(table(place).read()) == sorted(
        Point(s, s, n, 0.5) for s in range(50) for n in "abcd"
    )


def test_steps_count_on(place):
    assert table(place).next_step() == 0
    table(place).add(POINTS)
    assert table(place).next_step() == 4
