"""Jobs side by side give what they give one after another, in their order; who stops reading stops them."""

import threading

import pytest
import torch

from MedSegLensLib.segmenters.threads import alone, in_order


@pytest.mark.parametrize("at_once", (1, 2, 3))
@pytest.mark.parametrize("count", (0, 1, 2, 11))
def test_results_come_in_the_order_of_the_jobs(at_once, count):
    assert list(in_order((lambda n=n: n * n for n in range(count)), at_once)) == [n * n for n in range(count)]


def test_two_jobs_really_run_at_the_same_time():
    both = threading.Barrier(2, timeout=30)
    assert len(list(in_order(iter([both.wait] * 4), 2))) == 4  # each waits for another one


def test_a_job_has_one_thread_and_no_gradients_and_the_caller_keeps_its_own():
    before = torch.get_num_threads()
    seen = list(in_order((lambda: (torch.get_num_threads(), torch.is_grad_enabled()) for _ in range(6)), 2))
    assert set(seen) == {(1, False)} and alone(torch.get_num_threads, 2) == 1
    torch.set_num_threads(before)
    assert torch.is_grad_enabled()


def test_who_stops_reading_stops_the_jobs_that_have_not_begun():
    begun, go_on = [], threading.Event()

    def job(n):
        begun.append(n)
        return n

    results = in_order(((lambda n=n: job(n)) for n in range(100)), 2)
    assert next(results) == 0
    results.close()
    count = len(begun)
    assert count <= 4, "few run ahead"
    go_on.wait(0.2)
    assert len(begun) == count, "nothing runs after the end"


def test_what_a_job_raises_is_raised_where_its_result_is_read():
    def fails():
        raise ValueError("of this job")

    results = in_order(iter([lambda: 1, fails, lambda: 3, lambda: 4]), 2)
    assert next(results) == 1
    with pytest.raises(ValueError, match="of this job"):
        next(results)
