"""A WeChat that runs on a laptop: Pay APIv3 and the mini-program server API, with faults on demand.

A program of its own. Of the surrounding project it imports ``kit`` alone.
"""
