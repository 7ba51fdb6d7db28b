"""Importing this module declares every route."""

import importlib
import pkgutil

import handlers

NOT_ROUTES = {"api", "route"}

for _module in sorted(module.name for module in pkgutil.iter_modules(handlers.__path__)):
    if _module not in NOT_ROUTES:
        importlib.import_module(f"handlers.{_module}")
