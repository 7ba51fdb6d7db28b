"""Leaves that know nothing of the project: money, clock, ids, errors, state machine, paging, crypto."""
