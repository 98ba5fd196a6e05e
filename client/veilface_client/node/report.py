"""`veilface node status`: is the node running, what is it doing, and what was refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from veilface_client.federation import load_federation, node_folder
from veilface_client.node.bundles import Approval, Refusal, load_approved, load_refused
from veilface_client.node.status import NodeStatus, is_running, load_status


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """All that there is to know of a node."""

    federation: str
    organisation: str
    address: str
    is_running: bool
    node: NodeStatus | None  # nothing before its first start
    approved: tuple[Approval, ...]  # besides the installed release's own
    refused: tuple[Refusal, ...]


def node_report(home: Path) -> NodeReport:
    """Return it.

    Raises:
        ConfigError: the organisation belongs to no federation, or a file is damaged.
    """
    federation, folder = load_federation(home), node_folder(home)
    return NodeReport(
        federation=federation.name,
        organisation=federation.organisation,
        address=federation.address,
        is_running=is_running(folder),
        node=load_status(folder),
        approved=tuple(load_approved(folder)),
        refused=tuple(load_refused(folder)),
    )


def report_text(report: NodeReport) -> str:
    """Return it as people read it."""
    node = report.node
    lines = [f"{report.organisation} in {report.federation} at {report.address}"]
    if report.is_running and node:
        lines.append(f"{node.state} since {node.since}, {node.messages} messages")
    else:
        lines.append("not running (hint: veilface node start)")
    if node and node.last_error:
        lines.append(f"last error: {node.last_error}")
    if node:
        lines.append(f"approved: {node.bundle} ({node.software})")
    lines += [f"approved: {entry.sha256} (by hand, {entry.approved})" for entry in report.approved]
    lines += [
        f"refused:  {no.sha256} ({no.time}, run {no.run}): {no.reason}" for no in report.refused
    ]
    return "\n".join(lines)
