# SPDX-License-Identifier: GPL-3.0-or-later
"""Mistakes that somebody could make in the program, and the tests that have to notice them."""
