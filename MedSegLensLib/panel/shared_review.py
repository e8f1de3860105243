"""One review for all widgets of the module: two panels on one scene show the same work and share the worker."""

from MedSegLensLib.panel.doctor_run import workerPython
from MedSegLensLib.panel.review import Review
from MedSegLensLib.panel.worker_choice import chosenWorker

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

    choice = chosenWorker()
    if choice.address:
        return WorkerClient(address=choice.address, key=choice.key or None, tls_ca=choice.authority or None)
    return WorkerClient(python=workerPython())
