"""Queue in: thin wrappers that call a service, on a clock or because a transaction asked. Every job may run twice."""
