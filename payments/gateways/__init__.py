"""One file per way to be paid, behind the Protocol in ``base``."""
