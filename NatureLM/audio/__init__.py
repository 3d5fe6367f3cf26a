"""Recordings in, windows of sound out: decoding, one downmix, one resampling, and what was wrong on the way.

`recording` is the door, `windows` the arithmetic, `discovery` finds files, `flags` explains the codes. No torch here.
"""
