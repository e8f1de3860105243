"""A window of text to read: the model card, the doctor's findings."""

import qt
import slicer


def showText(parent, title: str, text: str, markdown: bool = False):
    """Open a window with the text, scrollable and selectable; the reader closes it. Gives the window."""
    window = qt.QDialog(parent)
    window.setWindowTitle(title)
    window.setAttribute(qt.Qt.WA_DeleteOnClose)
    browser = qt.QTextBrowser(window)
    browser.setOpenExternalLinks(True)
    if markdown:
        browser.setMarkdown(text)
    else:
        browser.setFontFamily("monospace")
        browser.setPlainText(text)
    layout = qt.QVBoxLayout(window)
    layout.addWidget(browser)
    window.resize(760, 640)
    window.show()
    slicer.app.processEvents()
    return window
