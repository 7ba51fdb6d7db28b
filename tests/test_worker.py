"""How the worker treats jobs that fail."""

from procrastinate.jobs import Job

from jobs.worker import ForADay


def test_consequences_of_money_are_tried_for_about_a_day() -> None:
    waits = []
    for attempts in range(1000):
        job = Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="t", attempts=attempts)
        decision = ForADay().get_retry_decision(exception=ValueError(), job=job)
        if decision is None:
            break
        assert decision.retry_at is not None
        waits.append(min(2 ** min(attempts + 1, 10), 1024))

    assert waits[:10] == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert len(waits) == 90 and 22 * 3600 < sum(waits) < 26 * 3600
