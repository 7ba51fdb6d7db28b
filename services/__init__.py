"""The verbs of the trade, one file a noun; one function is one transaction."""
