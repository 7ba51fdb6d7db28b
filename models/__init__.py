"""Every table of the system, one file a noun, and the three doors to them: access, job, unit_of_work."""
