"""Open a scripted module's panel and the views in one window.

    python Testing/slicerhost MedSegLens/MedSegLens.py                 # with a display: stays open until it is closed
    python Testing/slicerhost MedSegLens/MedSegLens.py --png build/window.png   # one picture, no display needed
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:] = [str(HERE.parent)] + [p for p in sys.path if Path(p).resolve() != HERE]  # its files are no modules alone


def main(arguments: list[str] | None = None) -> int:
    """Load the module, open files given with --open, show the window or write it as a picture."""
    parser = argparse.ArgumentParser(prog="slicerhost", description=__doc__.split("\n")[0])
    parser.add_argument("module", type=Path, help="the scripted module's .py file")
    parser.add_argument("--open", type=Path, action="append", default=[], help="a volume or scene to open first")
    parser.add_argument("--png", type=Path, help="write the window here and end")
    parser.add_argument("--size", type=int, nargs=2, default=(1400, 900), metavar=("WIDTH", "HEIGHT"))
    options = parser.parse_args(arguments)
    import slicerhost

    host = slicerhost.start()
    import slicer

    for path in options.open:
        slicer.util.loadNodeFromFile(str(path))
    host.load_module(options.module)
    if options.png:
        print(host.screenshot(options.png, tuple(options.size)))
    else:
        host.run()
    host.quit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
