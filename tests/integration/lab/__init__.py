# SPDX-License-Identifier: GPL-3.0-or-later
"""A table as Hypothesis draws it, on a real server, and a run on it that is looked at closely."""
