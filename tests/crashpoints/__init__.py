# SPDX-License-Identifier: GPL-3.0-or-later
"""Crash points: a run whose connection is cut after the n-th message, for every n."""
