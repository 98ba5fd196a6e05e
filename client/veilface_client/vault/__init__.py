"""The organisation's vault: encrypted templates, one key for each person."""

from __future__ import annotations

from veilface_client.vault.arrays import Form, Sample, Template
from veilface_client.vault.backup import Restored, restore
from veilface_client.vault.changes import Entry
from veilface_client.vault.check import Finding
from veilface_client.vault.people import Enrolled, Newcomer, Person
from veilface_client.vault.records import Record
from veilface_client.vault.segments import Segment
from veilface_client.vault.vault import Erasure, Vault, create_vault

__all__ = [
    "Enrolled",
    "Entry",
    "Erasure",
    "Finding",
    "Form",
    "Newcomer",
    "Person",
    "Record",
    "Restored",
    "Sample",
    "Segment",
    "Template",
    "Vault",
    "create_vault",
    "restore",
]
