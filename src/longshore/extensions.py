"""Find an extension by name: the only dynamic import in longshore.

The name on the wire or in the settings is the name of the file: ``deleteObject`` is
``transformations/delete_object.py``, ``kind = "local"`` is ``stores/local``. There is no registry.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from longshore.errors import Unimplemented


def known(folder: str) -> list[str]:
    """The names of the extensions in ``folder`` ("stores", "sources", …), sorted."""
    package = importlib.import_module(f"longshore.{folder}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


@cache
def load(folder: str, name: str) -> ModuleType:
    """The module ``longshore.<folder>.<name>``, imported when first asked for.

    Raises Unimplemented, naming what there is, for a name that is not a file of the folder; so no
    text from outside ever reaches an import.
    """
    names = known(folder)
    if name not in names:
        raise Unimplemented(
            f"There is no {name!r} in longshore/{folder}; it has: {', '.join(names)}."
        )
    return importlib.import_module(f"longshore.{folder}.{name}")
