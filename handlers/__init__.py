"""HTTP in, HTTP out: each handler parses, calls one service, renders. One file a noun."""
