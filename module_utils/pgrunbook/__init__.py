# SPDX-License-Identifier: GPL-3.0-or-later
"""The program behind the modules in library/: plain Python that needs psycopg, not Ansible."""
