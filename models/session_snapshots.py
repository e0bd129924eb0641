# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema that the application expects of the two tables of the session snapshot phase.

This is the code's side of the drift check: production calls one column, and its index, otherwise.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    String,
    Text,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The metadata of this phase; `Base.metadata` is what the database is compared with."""

    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012


class IPInventory(Base):
    """What is known now of an address; the source of the snapshots."""

    __tablename__ = "ip_inventory"
    __table_args__ = (
        Index("ix_ip_inventory_current_asn", "current_asn"),
        Index("ix_ip_inventory_first_seen", "first_seen"),
        Index("ix_ip_inventory_last_seen", "last_seen"),
        Index("ix_ip_inventory_session_count", "session_count"),
        Index("ix_ip_inventory_enrichment_updated", "enrichment_updated_at"),
    )

    ip_address: Mapped[str] = mapped_column(String(45), primary_key=True)
    current_asn: Mapped[int | None]
    asn_last_verified: Mapped[datetime | None]
    first_seen: Mapped[datetime]
    last_seen: Mapped[datetime]
    session_count: Mapped[int] = mapped_column(server_default=text("1"))
    enrichment: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    enrichment_updated_at: Mapped[datetime | None]
    enrichment_version: Mapped[str] = mapped_column(String(10), server_default="2.2")
    geo_country: Mapped[str | None] = mapped_column(String(2))
    ip_type: Mapped[str | None] = mapped_column(Text)
    is_scanner: Mapped[bool] = mapped_column(server_default=false())
    is_bogon: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SessionSummary(Base):
    """One honeypot session, with what was known of its address at the time (`snapshot_*`)."""

    __tablename__ = "session_summaries"
    __table_args__ = (
        CheckConstraint(
            "snapshot_country IS NULL OR snapshot_country ~ '^[A-Z]{2}$'",
            name="snapshot_country_iso",
        ),
        Index("ix_session_summaries_source_ip", "source_ip"),
        Index("ix_session_summaries_first_event", "first_event_at"),
        Index("ix_session_summaries_last_event", "last_event_at"),
        Index("ix_session_summaries_flags", "vt_flagged", "dshield_flagged"),
        Index("ix_session_summaries_ssh_keys", "ssh_key_injections"),
        Index("ix_session_summaries_snapshot_asn", "snapshot_asn"),
        Index("ix_session_summaries_snapshot_country", "snapshot_country"),
        Index("ix_session_summaries_snapshot_ip_type", "snapshot_ip_type"),
        Index("ix_session_summaries_ssh_key_fp", "ssh_key_fingerprint"),
        Index("ix_session_summaries_password_hash", "password_hash"),
        Index("ix_session_summaries_command_sig", "command_signature"),
    )

    session_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    source_ip: Mapped[str | None] = mapped_column(
        String(45), ForeignKey("ip_inventory.ip_address", name="fk_session_source_ip")
    )
    first_event_at: Mapped[datetime | None]
    last_event_at: Mapped[datetime | None]
    event_count: Mapped[int] = mapped_column(server_default=text("0"))
    command_count: Mapped[int] = mapped_column(server_default=text("0"))
    file_downloads: Mapped[int] = mapped_column(server_default=text("0"))
    login_attempts: Mapped[int] = mapped_column(server_default=text("0"))
    ssh_key_injections: Mapped[int] = mapped_column(server_default=text("0"))
    unique_ssh_keys: Mapped[int] = mapped_column(server_default=text("0"))
    vt_flagged: Mapped[bool] = mapped_column(server_default=false())
    dshield_flagged: Mapped[bool] = mapped_column(server_default=false())
    risk_score: Mapped[int | None]
    matcher: Mapped[str | None] = mapped_column(String(32))
    source_files: Mapped[list[str] | None] = mapped_column(JSON)
    ssh_key_fingerprint: Mapped[str | None] = mapped_column(String(128))
    password_hash: Mapped[str | None] = mapped_column(String(64))
    command_signature: Mapped[str | None] = mapped_column(Text)
    snapshot_asn: Mapped[int | None]
    snapshot_country: Mapped[str | None] = mapped_column(String(2))
    snapshot_ip_type: Mapped[str | None] = mapped_column(Text)
    enrichment: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    enrichment_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
