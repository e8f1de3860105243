"""The study segmented on another computer: a true server, a true certificate, and what is said of each mistake."""

import pytest
from serving import KEY, make_certificate, serving


@pytest.fixture
def said(panel):
    return lambda: panel.apply.ui.messageLabel.text


@pytest.fixture
def served(tmp_path):
    """`medseglens serve`, ready: its address and its certificate's authority."""
    with serving(make_certificate(tmp_path)) as server:
        yield server


@pytest.fixture
def elsewhere(host):
    """How the module makes its clients, taken before `widget` puts the shared one in place."""
    from MedSegLensLib.panel import shared_review

    return shared_review._makeClient


@pytest.fixture
def choose(host, elsewhere, widget, panel, idle, monkeypatch):
    """Fills in and accepts the window "Which computer segments"; the review then makes the client it would make."""
    from MedSegLensLib.panel.worker_choice import WorkerChoice, WorkerDialog, chosenWorker, keepWorker

    dialogs = []
    made = WorkerDialog.__init__
    monkeypatch.setattr(WorkerDialog, "__init__", lambda self, parent: (made(self, parent), dialogs.append(self))[0])
    here = widget.review._makeClient
    monkeypatch.setattr(widget.review, "_makeClient", lambda: (elsewhere if chosenWorker().address else here)())

    def enter(address: str, key: str, authority: str) -> None:
        def fill(_dialog):
            texts = (address, key, authority)
            for edit, text in zip(("addressEdit", "keyEdit", "authorityEdit"), texts, strict=True):
                getattr(dialogs[-1], edit).text = text
            return 1

        host.answers.dialogs = fill
        host.click(panel.pack.ui.workerButton)
        idle()

    yield enter
    keepWorker(WorkerChoice())
    widget.review.changeWorker()
    idle()


def test_a_study_is_segmented_on_another_computer_over_tls_and_only_with_its_key(
    host, elsewhere, widget, panel, phantom_in_scene, served, choose, idle, said
):
    address, authority = served
    review, button = widget.review, panel.apply.ui.applyButton
    told = {
        "no key": ("", authority, "there is no key", "Enter it"),
        "wrong key": ("not-the-key-of-that-server", authority, "the key is wrong", "Give the key that"),
        "no authority": (KEY, "", "certificate is not trusted", "Give the PEM file"),
        "no such file": (KEY, authority + ".txt", "cannot be read", "Give the PEM file"),
    }
    for key, its_authority, cause, remedy in told.values():
        choose(address, key, its_authority)
        host.click(button)  # pressed all the same
        idle()
        line = said()
        assert line.startswith("⚠") and cause in line and remedy in line, line
        assert "\n" not in line, "one problem, one line"
        assert not review.isOpen and button.enabled and button.text == "Apply"
    choose(address, KEY, authority)
    assert review.hello is not None and said() == "", "what was wrong before is no longer said"
    host.click(button)
    idle()
    assert review.isOpen and review.client._address == address, said()
    latent = panel.latents.listed()[0]
    review.setStrength(latent.tap, latent.latent, 0.0)
    idle()
    labels = review.result.labels()
    choose("", "", "")
    assert button.text == "Continue"
    host.click(button)
    idle()
    assert review.isOpen and review.client.worker_pid is not None, said()
    assert [e.latent for e in review.history.recipe.edits] == [latent.latent]
    assert (review.result.labels() == labels).all(), "this computer computes the same"
