"""A module as users run it: tests have beartype look at every call, and it would answer first."""

import importlib.util
import sys
from types import ModuleType


def unchecked(name: str) -> ModuleType:
    """A second copy of the module `name`, without the checks of types that tests add."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    plain = importlib.util.spec_from_file_location(f"unchecked.{name}", spec.origin)
    assert plain is not None
    assert plain.loader is not None
    module = importlib.util.module_from_spec(plain)
    sys.modules[plain.name] = module  # where dataclasses look for it
    plain.loader.exec_module(module)
    return module
