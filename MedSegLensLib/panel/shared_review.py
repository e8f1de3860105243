"""One review for all widgets of the module: two panels on one scene show the same work and share the worker."""

from MedSegLensLib.panel.doctor_run import workerPython
from MedSegLensLib.panel.review import Review

_review: Review | None = None
_users = 0


def takeReview() -> Review:
    """The review, made for its first user."""
    global _review, _users
    if _review is None:
        _review = Review(_makeClient)
    _users += 1
    return _review


def releaseReview() -> None:
    """One user less; after the last one the worker ends."""
    global _review, _users
    _users -= 1
    if _users <= 0 and _review is not None:
        _review.close()
        _review, _users = None, 0


def _makeClient():
    from MedSegLensLib.worker.client import WorkerClient

    return WorkerClient(python=workerPython())
