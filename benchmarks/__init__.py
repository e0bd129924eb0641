# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark: the same three columns filled in several ways, side by side on one machine."""
