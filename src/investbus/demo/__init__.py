"""The demo: a pretend platform, a bus and a real worker on one machine, with trouble on purpose.

What it says at the end is what the worker counted, held against what the stream was made of. A demo that loses an event says so
and fails; nothing here knows the result beforehand.
"""
