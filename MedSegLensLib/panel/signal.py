"""A signal in plain Python: PythonQt cannot declare new Qt signals, and the panel's logic is tested without Qt."""

from collections.abc import Callable


class Signal:
    """Calls its listeners, in the order they came, whenever it is emitted.

    >>> recipeChanged = Signal()
    >>> recipeChanged.connect(lambda recipe: print(len(recipe.edits)))
    >>> recipeChanged.emit(recipe)
    """

    def __init__(self):
        self._listeners: list[Callable] = []

    def connect(self, listener: Callable) -> None:
        self._listeners.append(listener)

    def disconnect(self, listener: Callable) -> None:
        self._listeners.remove(listener)

    def disconnectOwner(self, owner: object) -> None:
        """Forget the listeners that are methods of `owner`."""
        self._listeners = [one for one in self._listeners if getattr(one, "__self__", None) is not owner]

    def emit(self, *values) -> None:
        for listener in list(self._listeners):
            listener(*values)
