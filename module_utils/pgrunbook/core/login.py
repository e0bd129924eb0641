# SPDX-License-Identifier: GPL-3.0-or-later
"""How to reach the database: libpq's connection parameters, under libpq's names."""

from __future__ import annotations

from dataclasses import dataclass

from .options import argument_spec, option


@dataclass(frozen=True)
class Login:
    """What runbook_login may have. What is left out is libpq's environment variables' and defaults'
    matter."""

    host: str | None = option(
        "Host name, address, or directory of the Unix-domain socket. Several, with commas between "
        "them, are tried in turn.",
        None,
    )
    port: str | None = option("Port number; or one for each host, with commas between them.", None)
    dbname: str | None = option("Database name.", None)
    user: str | None = option("Role to connect as. It must own the table to be changed.", None)
    password: str | None = option(
        "Password. It is never shown; a O(login.passfile) keeps it out of variables.",
        None,
        secret=True,
    )
    passfile: str | None = option("Password file, as in libpq's documentation.", None, kind="path")
    service: str | None = option("Service name in the connection service file.", None)
    sslmode: str | None = option("TLS mode, such as V(verify-full).", None)
    sslrootcert: str | None = option(
        "File with the certificates of the authorities to trust.", None, kind="path"
    )
    sslcert: str | None = option("File with the client's certificate.", None, kind="path")
    sslkey: str | None = option("File with the client's private key.", None, kind="path")
    target_session_attrs: str | None = option(
        "Which of several hosts to take, such as V(read-write). Where O(login.host) has several, "
        "V(primary) unless set.",
        None,
    )
    connect_timeout: int = option("Seconds to wait for a connection.", 10)


LOGIN_OPTIONS = argument_spec(Login)
