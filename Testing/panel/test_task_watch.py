"""Tasks under way and the throttle while dragging, with tasks made by hand."""

import pytest

from MedSegLensLib.errors import CaseError
from MedSegLensLib.panel.task_watch import TaskWatch
from MedSegLensLib.panel.throttle import Throttle
from MedSegLensLib.worker.task import Task


@pytest.fixture
def told():
    return []


@pytest.fixture
def watch():
    return TaskWatch()


def listeners(told) -> dict:
    return {
        "done": lambda value: told.append(("done", value)),
        "failed": lambda problem: told.append(("failed", problem.cause)),
        "progress": lambda task: told.append(("at", task.stage)),
        "partial": lambda value: told.append(("part", value)),
    }


def test_progress_parts_and_result_are_told_in_turn(watch, told):
    task = watch.add(Task("edit"), **listeners(told))
    task._say("segmenting", 0.5)
    watch.poll()
    task._offer("a slice")
    watch.poll()
    task._finish("all")
    watch.poll()
    watch.poll()
    assert told == [("at", "segmenting"), ("at", "segmenting"), ("part", "a slice"), ("done", "all")]
    assert len(watch) == 0


def test_a_failure_is_told_with_its_cause(watch, told):
    task = watch.add(Task("open"), **listeners(told))
    task._fail(CaseError("study", "the volume is empty.", "Load it again."))
    watch.poll()
    assert told == [("failed", "the volume is empty.")]


def test_a_bug_is_not_swallowed(watch, told):
    task = watch.add(Task("open"), done=lambda value: 1 / 0, failed=lambda problem: told.append(problem))
    task._finish(None)
    with pytest.raises(ZeroDivisionError):
        watch.poll()
    assert told == []


def test_a_forgotten_task_tells_nobody(watch, told):
    task = watch.add(Task("edit"), **listeners(told))
    watch.forget(task)
    task._finish("late")
    watch.poll()
    assert told == []


def test_a_callback_may_forget_the_others(watch, told):
    first, second = Task("first"), Task("second")
    watch.add(first, done=lambda value: watch.forgetAll(), failed=told.append)
    watch.add(second, **listeners(told))
    first._finish(1)
    second._finish(2)
    watch.poll()
    assert told == []


def test_while_one_request_is_under_way_only_the_newest_waits():
    sent = []
    throttle = Throttle(sent.append)
    for value in range(5):
        throttle.give(value)
    assert sent == [0]
    throttle.finished()
    assert sent == [0, 4]
    throttle.finished()
    throttle.give(7)
    assert sent == [0, 4, 7]


def test_what_waits_is_dropped_on_release():
    sent = []
    throttle = Throttle(sent.append)
    throttle.give(1)
    throttle.give(2)
    throttle.drop()
    throttle.finished()
    assert sent == [1]
