"""One history of the database. ``0002_guards.py`` holds every constraint, trigger and grant."""
