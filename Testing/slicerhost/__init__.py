"""A test host for a 3D Slicer module: Slicer's names over real MRML (slicer-core) and Qt (PySide6), off screen.

The module's own files run in it unchanged. It supplies `qt`, `ctk`, `slicer.app`, `slicer.modules`,
`slicer.ScriptedLoadableModule`, `slicer.parameterNodeWrapper`, `slicer.i18n`, `slicer.packaging`, `SampleData` and the
qMRML widgets; `slicer.util`, the scene, the logics and what the views show are Slicer's own.

    import slicerhost                                   # with Testing/ on sys.path

    host = slicerhost.start()                           # once per process; later calls return the same host
    widget = host.load_module("MedSegLens/MedSegLens.py")    # the module's ...Widget, set up, entered and shown
    host.process(0.2)                                   # let the event loop run; raises what went wrong in a callback
    host.wait(lambda: widget.ui.applyButton.enabled)    # ... until something is so
    host.click(widget.ui.applyButton); host.drag(slider, 2.5); host.type(box, "rim"); host.key(table, "Down")
    host.view("Red").image()                            # numpy (rows, columns, 3) uint8 of what the slice view shows
    host.view("Red").click(ras=(10, 0, 5)); host.view("Red").wheel(+1)
    host.screenshot("panel.png", (1400, 900))           # panel and views in one window
    host.messages                                       # dialogs that would have been shown: kind, text, details
    host.answers.confirm = False                        # what the user says to them (slicerhost.dialogs.Answers)
    host.errors                                         # exceptions in slots, observers and timers (traceback texts)
    host.close_scene(); host.save_scene(path); host.load_scene(path); host.reset()

A pytest fixture `host`, fresh for each test (empty scene, no messages), is in slicerhost.fixture. To look at it:
`python Testing/slicerhost MedSegLens/MedSegLens.py`.

What it covers
- Qt's classes under PythonQt's rules (pythonqt.py): properties as attributes, `connect("clicked(bool)", f)`, no new
  attributes, no protected methods, no touch from another thread.
- Slicer's and CTK's widgets in the modules ctk_widgets, qmrml_widgets, views, layout_manager, application, io_manager.
  Their names come from facts.json: a name that real Slicer lacks raises AttributeError, one that Slicer has and the
  host does not yet, NotImplementedError; a property that only changes looks is kept and shows nothing.
- .ui files, `SlicerParameterName` and connectGui; parameter nodes in Slicer's storage format.
- Layouts by MRML's layout logic, slice and 3D views by MRML's displayable managers and interactor styles.
- Dialogs, file dialogs, menus and pip: kept in a list and answered, never shown; one that has no answer raises.

What it cannot show
- Slicer's looks, its toolbars, its other modules' panels, the data tree, table and plot views.
- DICOM import; writing of scenes into folders; undo in the scene.
- That PythonQt takes an argument which PySide takes (conversions differ), that a Qt 5 build has a Qt 6 class, and that
  Slicer 5.10 has a function of slicer.util that 5.13 has.
- Speed: views are drawn by the CPU where there is no GPU.
"""

from .host import Host, start

__all__ = ["Host", "start"]
