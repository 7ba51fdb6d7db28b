"""The process: app factory, settings, errors, supervisor, command line. Knows no business rule."""
