# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of pgrunbook, in one place. Reports, events, status and application_name carry it."""

VERSION = "0.2.0"
